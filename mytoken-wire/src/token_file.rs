// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a file holds an access token that can still be used, as far as its text tells.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::fcntl::OFlag;
use serde::Deserialize;

use crate::Secret;

/// Longest access token in bytes.
const LIMIT: usize = 64 * 1024;

/// Whether the file at `path` holds an access token that has not expired at `now` (Unix seconds). Nothing verifies the token. One that does
/// not tell its expiry counts as valid: the agent removes it when it expires.
#[must_use]
pub fn is_valid(path: &Path, now: u64) -> bool {
    // O_NONBLOCK: a FIFO in the place of the file must not hang the reader.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let Ok(file) = File::options().read(true).custom_flags(flags.bits()).open(path) else { return false };
    // The buffer has its full size from the start: a growing one would leave copies of the token in freed memory.
    let mut text = String::with_capacity(LIMIT);
    let read = file.take(LIMIT as u64).read_to_string(&mut text);
    let token = Secret::new(text);
    read.is_ok() && !token.is_empty() && expiry(&token).is_none_or(|exp| exp > now)
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<u64>,
}

/// The claim `exp` of an unverified JWT. `None` for opaque tokens.
fn expiry(token: &Secret) -> Option<u64> {
    let (_, payload) = token.expose().split_once('.')?;
    let (payload, _) = payload.split_once('.')?;
    let claims = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    serde_json::from_slice::<Claims>(&claims).ok()?.exp
}

#[cfg(test)]
mod tests {
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
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(is_valid(&path, 1000), valid, "{text}");
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(!is_valid(&path, 1000));
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
