// SPDX-License-Identifier: MIT OR Apache-2.0
//! `testbed dump-memory PID...`: prints what core files of these processes would contain.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::Result;
use crate::error::WithContext;

/// Larger mappings are reserved address space.
const LARGEST: u64 = 1 << 30;

/// Writes the writable memory of each process to standard output. A process that has ended is left out.
///
/// # Errors
/// When standard output cannot be written.
pub fn dump(pids: &[u32]) -> Result<()> {
    let mut output = io::stdout().lock();
    for pid in pids {
        let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { continue };
        let Ok(mut memory) = File::open(format!("/proc/{pid}/mem")) else { continue };
        for (begin, end) in maps.lines().filter_map(writable) {
            let mut region = Vec::new();
            // A page that cannot be read ends the region.
            let _ =
                memory.seek(SeekFrom::Start(begin)).and_then(|_| (&memory).take(end - begin).read_to_end(&mut region));
            output.write_all(&region).with_context(|| "writing the memory".into())?;
        }
    }
    Ok(())
}

/// `55d0-55d8 rw-p 00000000 00:00 0 [heap]`: begin and end, when the program can write there.
fn writable(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (begin, end) = range.split_once('-')?;
    let range = (u64::from_str_radix(begin, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    (rest.starts_with("rw") && range.1 - range.0 < LARGEST).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::writable;

    #[test]
    fn only_writable_memory_is_read() {
        assert_eq!(writable("10-2a rw-p 00000000 00:00 0 [heap]"), Some((16, 42)));
        assert_eq!(writable("10-2a r-xp 00000000 00:00 0 /bin/true"), None);
        assert_eq!(writable("10-ffffffffff rw-p 00000000 00:00 0"), None);
    }
}
