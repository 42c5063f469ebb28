// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that ssh shows the destination in its prompts.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::printable::printable;

/// First release that puts `(user@host) ` in front of keyboard-interactive prompts (SSH-17).
const OLDEST: (u32, u32) = (8, 5);

/// The first line of `ssh -V`. Refuses an ssh that does not show the destination in its prompts: any host could get the token.
pub fn check_version(ssh: &OsStr) -> Result<String, Error> {
    let output = Command::new(ssh).arg("-V").stdin(Stdio::null()).output().map_err(Error::cannot_run(ssh))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let first = printable(text.lines().next().unwrap_or("this ssh"));
    match parse_version(&text) {
        Some(found) if found >= OLDEST => Ok(first),
        Some((major, minor)) => Err(Error::SshTooOld { found: format!("OpenSSH {major}.{minor}") }),
        None => Err(Error::SshTooOld { found: first }),
    }
}

/// Reads the output of `ssh -V`, for example `OpenSSH_9.2p1 Debian-2+deb12u6, OpenSSL 3.0.19`.
pub(crate) fn parse_version(text: &str) -> Option<(u32, u32)> {
    let rest = text.strip_prefix("OpenSSH_")?;
    let (major, rest) = rest.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_the_output_of_ssh() {
        let table = [
            ("OpenSSH_9.2p1 Debian-2+deb12u6, OpenSSL 3.0.19 27 Jan 2026\n", Some((9, 2))),
            ("OpenSSH_8.4p1 Debian-5+deb11u3", Some((8, 4))),
            ("OpenSSH_10.0p2, OpenSSL 3", Some((10, 0))),
            ("OpenSSH_8.9p1 Ubuntu-3", Some((8, 9))),
            ("Sun_SSH_1.1", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_version(text), expected, "{text}");
        }
        assert!(parse_version("OpenSSH_8.4p1") < Some(OLDEST) && parse_version("OpenSSH_10.0p2") >= Some(OLDEST));
    }
}
