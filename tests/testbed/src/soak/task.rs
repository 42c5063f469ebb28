// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program of a soak's tasks: `testbed soak-task TAG SECONDS`. It reads the token file four times a second and checks
//! the expiry at that moment, as a service that gets the token would. One line per reading goes into a file, so that a
//! task that is killed has a record too.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::Result;
use crate::error::WithContext;

/// Directory of the records, in a user's home directory.
pub const RECORDS: &str = "soak";

/// Time between two readings.
const PAUSE: Duration = Duration::from_millis(250);

/// What a task finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A token that has not expired.
    Valid,
    /// A token that has expired.
    Expired,
    /// No token in the file, or no file.
    Missing,
    /// `BEARER_TOKEN_FILE` is not set.
    NoCredential,
}

impl Seen {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Valid, "valid"), (Self::Expired, "expired"), (Self::Missing, "missing"), (Self::NoCredential, "none")];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(seen, _)| *seen == self).map_or("", |(_, word)| word)
    }
}

/// One line of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// A reading at this time, Unix milliseconds.
    Read(u64, Seen),
    /// The regular end of the task.
    End,
}

/// Runs the task.
///
/// # Errors
/// When the record cannot be written.
pub fn run(tag: &str, seconds: u32) -> Result<()> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    // `--export` can remove HOME from the environment.
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::current()).ok().flatten();
    let folder = user.map(|user| user.dir).unwrap_or_default().join(RECORDS);
    let name = format!("{tag}.{}.{}.{}", variable("SLURM_JOB_ID"), variable("SLURMD_NODENAME"), std::process::id());
    let path = folder.join(name);
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let mut record = BufWriter::new(file);
    let token_file = std::env::var_os("BEARER_TOKEN_FILE").map(PathBuf::from);
    let end = Instant::now() + Duration::from_secs(seconds.into());
    while Instant::now() < end {
        let now = unix_millis();
        let seen = token_file.as_deref().map_or(Seen::NoCredential, |path| look(path, now));
        writeln!(record, "{now} {}", seen.word())
            .and_then(|()| record.flush())
            .with_context(|| "writing the record".into())?;
        std::thread::sleep(PAUSE);
    }
    writeln!(record, "end").and_then(|()| record.flush()).with_context(|| "writing the record".into())
}

/// Parses a record. A line that was cut off by the end of the task is left out.
#[must_use]
pub fn parse(record: &str) -> Vec<Line> {
    record.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Line> {
    if line == "end" {
        return Some(Line::End);
    }
    let (time, word) = line.split_once(' ')?;
    let seen = Seen::ALL.iter().find(|(_, name)| *name == word)?.0;
    Some(Line::Read(time.parse().ok()?, seen))
}

fn look(path: &Path, now: u64) -> Seen {
    match std::fs::read_to_string(path).ok().as_deref().and_then(expiry) {
        None => Seen::Missing,
        Some(exp) if exp.saturating_mul(1000) > now => Seen::Valid,
        Some(_) => Seen::Expired,
    }
}

/// `exp` of an access token, a JWT.
fn expiry(token: &str) -> Option<u64> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Value>(&claims).ok()?.get("exp")?.as_u64()
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expiry_is_read_from_the_claims() {
        // {"exp":1900000000}
        assert_eq!(expiry("h.eyJleHAiOjE5MDAwMDAwMDB9.s"), Some(1_900_000_000));
        assert_eq!((expiry("h.e30.s"), expiry("opaque"), expiry("h.***.s")), (None, None, None));
    }

    #[test]
    fn a_record_is_read_back() {
        let lines = parse("1000 valid\n1250 expired\n1500 missing\n1750 none\nend\n20");
        let read = |time, seen| Line::Read(time, seen);
        assert_eq!(
            lines,
            [
                read(1000, Seen::Valid),
                read(1250, Seen::Expired),
                read(1500, Seen::Missing),
                read(1750, Seen::NoCredential),
                Line::End
            ]
        );
    }
}
