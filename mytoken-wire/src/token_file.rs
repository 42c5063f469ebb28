// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a file holds an access token that can still be used, as far as its text tells.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use crate::base64url;
use crate::limited_read;
use crate::members::{self, number};

/// Longest access token in bytes.
const LIMIT: usize = 64 * 1024;

/// When an access token in a file ends, Unix seconds of this host's clock. The claims `exp` and `iat` are times of another clock, but their
/// difference is a duration, which counts from `written`: the token was issued then or earlier.
#[must_use]
pub fn end(exp: u64, iat: Option<u64>, written: u64) -> u64 {
    let Some(lifetime) = iat.and_then(|iat| exp.checked_sub(iat)) else { return exp };
    let latest = written.saturating_add(lifetime);
    // If both clocks agree, `exp` is better: a provider may give a token a second time.
    if (written..=latest).contains(&exp) { exp } else { latest }
}

/// Whether the file at `path` holds an access token that has not expired at `now` (Unix seconds). Nothing verifies the token. One that does
/// not tell its expiry counts as valid: the agent removes it when it expires. What has not the characters of a token is none.
#[must_use]
pub fn is_valid(path: &Path, now: u64) -> bool {
    // O_NONBLOCK: a FIFO in the place of the file must not hang the reader.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let Ok(file) = File::options().read(true).custom_flags(flags.bits()).open(path) else { return false };
    let written = written(&file).map(|written| written.min(now));
    let Some(text) = limited_read(&file, LIMIT).ok().and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return false;
    };
    let text = Zeroizing::new(text);
    let text = text.trim_ascii();
    let is_token = !text.is_empty() && text.len() < LIMIT && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_token && expiry(text, written).is_none_or(|end| end > now)
}

/// When a file was written, Unix seconds.
#[must_use]
pub fn written(file: &File) -> Option<u64> {
    file.metadata().ok()?.mtime().try_into().ok()
}

/// When an unverified JWT ends that was written at `written`. `None` for opaque tokens.
fn expiry(token: &str, written: Option<u64>) -> Option<u64> {
    let (_, payload) = token.split_once('.')?;
    let (payload, _) = payload.split_once('.')?;
    let claims = Zeroizing::new(base64url::decode(payload.trim_end_matches('='))?);
    // Without the signature, claims are no token.
    let claims = members::parse(&claims).ok()?;
    let (exp, iat) = (number(&claims, "exp").ok()?, number(&claims, "iat").ok().flatten());
    written.map_or(exp, |written| Some(end(exp?, iat, written)))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn jwt(payload: &str) -> String {
        format!("eyJhbGciOiJFUzI1NiJ9.{}.c2ln\n", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn the_text_of_a_token_tells_whether_it_can_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bt_u1");
        assert!(!is_valid(&path, 0), "there is none");
        for (text, valid) in [
            (String::new(), false),
            (" \n".to_owned(), false),
            ("opaque-token".to_owned(), true),
            (jwt(r#"{"exp":1001}"#), true),
            (jwt(r#"{"exp":1000}"#), false),
            (jwt(r#"{"exp":1e3}"#), true),
            (jwt(r#"{"sub":"x"}"#), true),
            ("a.b.c".to_owned(), true),
            // Somebody wrote over it.
            ("two words".to_owned(), false),
            ("\0".repeat(LIMIT), false),
            ("x".repeat(LIMIT), false),
            (format!("{}x", jwt(r#"{"exp":1001}"#)), false),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(is_valid(&path, 1000), valid, "{text:.40}");
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(!is_valid(&path, 1000));
    }

    #[test]
    fn a_token_lives_as_long_as_it_says_whatever_the_clocks() {
        const YEAR: u64 = 366 * 86_400;
        for (exp, iat, written, expected) in [
            (YEAR + 4_600, Some(YEAR + 1_000), YEAR + 1_002, YEAR + 4_600),
            // The provider gave it a second time.
            (YEAR + 4_600, Some(YEAR + 1_000), YEAR + 4_000, YEAR + 4_600),
            // This host's clock is a year ahead, a year behind, and a little behind.
            (YEAR + 4_600, Some(YEAR + 1_000), 2 * YEAR, 2 * YEAR + 3_600),
            (YEAR + 4_600, Some(YEAR + 1_000), 7, 3_607),
            (YEAR + 4_600, Some(YEAR + 1_000), YEAR + 700, YEAR + 4_300),
            (YEAR, None, 7, YEAR),
            (7, Some(8), YEAR, 7),
        ] {
            assert_eq!(end(exp, iat, written), expected, "{exp} {iat:?} {written}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bt_u1");
        std::fs::write(&path, jwt(r#"{"exp":4600,"iat":1000}"#)).unwrap();
        let written = written(&File::open(&path).unwrap()).unwrap();
        assert!(is_valid(&path, written + 3_599) && !is_valid(&path, written + 3_601), "this host is far ahead");
        std::fs::write(&path, jwt(r#"{"exp":1000,"iat":"x"}"#)).unwrap();
        assert!(!is_valid(&path, 1_001));
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, link) = (dir.path().join("fifo"), dir.path().join("link"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(dir.path().join("token"), "opaque").unwrap();
        std::os::unix::fs::symlink(dir.path().join("token"), &link).unwrap();
        assert!(!is_valid(&fifo, 0) && !is_valid(&link, 0) && !is_valid(dir.path(), 0));
    }
}
