// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl with-token`: gives the access token of `BEARER_TOKEN_FILE` to one program that reads no file.
//!
//! The token is in `BEARER_TOKEN` of that program's environment. This process becomes the program, so signals and exit status are the
//! program's own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mytoken::token::{Presented, TOKEN_LIMIT, classify};
use mytoken::{Clock, Secret};
use mytoken_wire::token_file;
use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use super::launch::{BEARER_TOKEN, CannotRun};

/// Why a program gets no access token. A sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// `BEARER_TOKEN_FILE` is not set.
    #[error(
        "BEARER_TOKEN_FILE is not set. Submit the job with sbatch --mytoken, or outside Slurm use: mytokenctl run -- COMMAND"
    )]
    NoFile,
    /// The file cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The program could not be started.
    #[error(transparent)]
    Run(#[from] CannotRun),
}

impl NoToken {
    /// The exit status.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NoFile | Self::File { .. } => super::launch::NO_TOKEN,
            Self::Run(cannot_run) => cannot_run.exit_status(),
        }
    }
}

/// Becomes the program `argv` with the access token of `file` in its environment. It returns only if that is not possible, and then this
/// process does not ignore SIGPIPE any more.
#[must_use]
pub fn exec(file: Option<OsString>, argv: &[OsString], uid: u32, clock: &dyn Clock) -> NoToken {
    match prepare(file, argv, uid, clock) {
        Ok((program, mut command)) => CannotRun::new(program, &command.exec()).into(),
        Err(reason) => reason,
    }
}

fn prepare<'a>(
    file: Option<OsString>,
    argv: &'a [OsString],
    uid: u32,
    clock: &dyn Clock,
) -> Result<(&'a OsString, Command), NoToken> {
    let file = file.filter(|file| !file.is_empty()).map(PathBuf::from).ok_or(NoToken::NoFile)?;
    let checked = read(&file, uid).and_then(|(token, written)| check(token, written, clock.now()));
    let token = checked.map_err(|reason| NoToken::File { path: file, reason })?;
    let (program, arguments) = argv.split_first().ok_or_else(CannotRun::nothing)?;
    let mut command = Command::new(program);
    command.args(arguments).env(BEARER_TOKEN, token.expose());
    Ok((program, command))
}

/// Reads a file of this user, and when it was written. Others cannot read or change it, and it is not another user's trap.
fn read(path: &Path, uid: u32) -> Result<(Secret, Option<u64>), String> {
    // O_NONBLOCK: a FIFO must not hang the program.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::options().read(true).custom_flags(flags.bits()).open(path).map_err(|error| unreadable(&error))?;
    let found = file.metadata().map_err(|error| unreadable(&error))?;
    if !found.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if found.uid() != uid {
        return Err(format!("it belongs to user {}, not to you ({uid})", found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        return Err(format!("other users can use it (mode {:04o}); run: chmod 600", found.mode() & 0o7777));
    }
    let written = token_file::written(&file);
    // The whole size from the start: a growing buffer would leave copies of the token in freed memory.
    let limit = u64::try_from(TOKEN_LIMIT).unwrap_or(u64::MAX).saturating_add(2);
    let mut text = Zeroizing::new(String::with_capacity(TOKEN_LIMIT + 2));
    file.take(limit).read_to_string(&mut text).map_err(|error| unreadable(&error))?;
    Ok((Secret::new(text.as_str()), written))
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no access token at the moment; mytokenctl status says why. Wait a minute and try again".to_owned()
        }
        _ if error.raw_os_error() == Some(libc::ELOOP) => "it is a symbolic link".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}

/// Checks that `token` is an access token that has not expired, as far as its form, its own claims and its file say. `now` is Unix seconds.
fn check(token: Secret, written: Option<u64>, now: u64) -> Result<Secret, String> {
    let end = |exp: u64, iat| written.map_or(exp, |written| token_file::end(exp, iat, written.min(now)));
    match classify(&token) {
        Presented::AccessToken(jwt) => match jwt.unverified_exp.map(|exp| end(exp, jwt.unverified_iat)) {
            Some(exp) if exp <= now => Err(format!(
                "its access token expired {} s ago; mytokenctl status says why. Wait a minute and try again",
                now.saturating_sub(exp)
            )),
            _ => Ok(token),
        },
        // Nothing shows when an opaque token expires, and some have the form of a short token or one-time password.
        Presented::Opaque | Presented::ShortToken | Presented::OneTimePassword => Ok(token),
        Presented::Mytoken(_) => Err("it holds a mytoken, which no program must get as an access token".to_owned()),
        Presented::TransferCode => Err("it holds no access token".to_owned()),
        Presented::Garbage(why) => Err(format!("it holds no access token ({})", why.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use mytoken_wire::clock::FixedClock;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn jwt(claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(r#"{"alg":"HS256","typ":"at+jwt"}"#), part(claims), part("signature"))
    }

    fn me() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    fn prepared(file: Option<&Path>, uid: u32) -> Result<(), NoToken> {
        prepare(file.map(Into::into), &["true".into()], uid, &FixedClock(NOW)).map(drop)
    }

    fn refusal(file: &Path) -> String {
        prepared(Some(file), me()).unwrap_err().to_string()
    }

    #[test]
    fn only_a_valid_access_token_is_given() {
        let checked = |text: &str| check(Secret::new(text), Some(NOW - 60), NOW);
        let good = jwt(&format!(r#"{{"iss":"x","exp":{}}}"#, NOW + 1));
        assert_eq!(checked(&format!("{good}\n")).unwrap().expose(), good, "without the line's end");
        assert!(checked(&jwt(r#"{"iss":"x"}"#)).is_ok());
        assert!(checked("0123456789.0123456789").is_ok(), "an opaque token");
        let expired = checked(&jwt(&format!(r#"{{"iss":"x","exp":{NOW}}}"#))).unwrap_err();
        assert!(expired.contains("expired 0 s ago"), "{expired}");
        // A year of this host's clock more or less.
        for (exp, good) in [(NOW - 31_000_000, true), (NOW + 31_000_000, true)] {
            let text = jwt(&format!(r#"{{"iss":"x","exp":{exp},"iat":{}}}"#, exp - 3_600));
            assert_eq!(checked(&text).is_ok(), good, "{exp}");
            assert!(check(Secret::new(text), Some(NOW - 3_700), NOW).unwrap_err().contains("expired 100 s ago"));
        }
        let mytoken = r#"{"ver":"0.7","token_type":"mytoken","iss":"https://mt","aud":"https://mt"}"#;
        for (text, why) in [
            (jwt(mytoken), "holds a mytoken"),
            (String::new(), "nothing"),
            ("two words".to_owned(), "characters"),
            ("ABCDEFGH".to_owned(), "no access token"),
            ("x".repeat(TOKEN_LIMIT + 1), "longer"),
        ] {
            let reason = checked(&text).unwrap_err();
            assert!(reason.contains(why) && !reason.contains("eyJ"), "{reason}");
        }
    }

    #[test]
    fn only_a_private_regular_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bt");
        assert!(refusal(&file).contains("no access token at the moment"), "{}", refusal(&file));
        std::fs::write(&file, jwt(r#"{"exp":1800000001}"#)).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        assert!(refusal(&file).contains("mode 0640"), "{}", refusal(&file));
        std::fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
        prepared(Some(&file), me()).unwrap();
        let other = prepared(Some(&file), me() + 1).unwrap_err();
        assert!(other.to_string().contains("belongs to user") && other.exit_status() == 125, "{other}");
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        assert!(refusal(&link).contains("symbolic link"), "{}", refusal(&link));
        assert!(refusal(dir.path()).contains("not a regular file"), "{}", refusal(dir.path()));
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(refusal(&fifo).contains("not a regular file"), "{}", refusal(&fifo));
        assert!(matches!(prepared(None, me()), Err(NoToken::NoFile)));
        assert!(matches!(prepare(Some(file.into()), &[], me(), &FixedClock(NOW)), Err(NoToken::Run(_))));
    }
}
