// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads lines that anybody may have caused: a line that is too long is left out, and nothing of it is kept.

use std::io::{self, BufRead, Read as _};

/// Longest line that is read, in bytes. The journal writes a line of the module with its fields in less than half of it.
pub(super) const LIMIT: usize = 16 * 1024;

/// Calls `each` for every line that is not too long, until it returns false. Returns whether all lines were read.
///
/// # Errors
/// The system's.
pub(super) fn for_each(mut reader: impl BufRead, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
    let mut line = Vec::with_capacity(LIMIT);
    loop {
        line.clear();
        let limit = u64::try_from(LIMIT).unwrap_or(u64::MAX);
        if reader.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(true);
        }
        match line.strip_suffix(b"\n") {
            None if line.len() == LIMIT => {
                reader.skip_until(b'\n')?;
            }
            stripped => {
                if !each(stripped.unwrap_or(&line)) {
                    return Ok(false);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_lines_are_left_out_and_the_next_one_is_whole() {
        let text = [&b"a\n"[..], &vec![b'x'; 5 * LIMIT + 3], b"\n\nb\n", &vec![b'y'; LIMIT - 1], b"\nc"].concat();
        let mut found = Vec::new();
        let whole = for_each(&text[..], |line| {
            found.push(line.to_vec());
            true
        });
        assert!(whole.unwrap());
        assert_eq!(found, [b"a".to_vec(), Vec::new(), b"b".to_vec(), vec![b'y'; LIMIT - 1], b"c".to_vec()]);
        let mut count = 0;
        let whole = for_each(&b"a\nb\nc\n"[..], |_| {
            count += 1;
            count < 2
        });
        assert_eq!((whole.unwrap(), count), (false, 2));
    }
}
