// SPDX-License-Identifier: MIT OR Apache-2.0
//! A program that prints a token: `command` of a `[[host]]`.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use mytoken::Secret;
use zeroize::Zeroizing;

use super::{LIMIT, within};
use crate::error::Error;
use crate::printable::printable;

/// Time limit. The program may ask the user for a passphrase, and sshd waits for two minutes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// For which login the program is asked, in its environment.
pub struct Login<'a> {
    /// `MYTOKEN_SSH_HOST`
    pub host: &'a str,
    /// `MYTOKEN_SSH_SCOPE`
    pub scope: &'a str,
    /// `MYTOKEN_SSH_AUDIENCE`
    pub audience: &'a str,
}

/// The first line that the program prints.
///
/// # Errors
/// It cannot be started, fails, takes too long, or prints nothing.
pub fn token(command: &[String], login: &Login<'_>) -> Result<Secret, Error> {
    token_within(TIMEOUT, command, login)
}

fn token_within(time: Duration, command: &[String], login: &Login<'_>) -> Result<Secret, Error> {
    let [program, arguments @ ..] = command else {
        return Err(Error::Usage("command = [] names no program".into()));
    };
    let said = |text: String| Error::Usage(format!("{}, which makes the token, {text}", printable(program)));
    let mut child = Command::new(program)
        .args(arguments)
        .envs([
            ("MYTOKEN_SSH_HOST", login.host),
            ("MYTOKEN_SSH_SCOPE", login.scope),
            ("MYTOKEN_SSH_AUDIENCE", login.audience),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::cannot_run(program.as_ref()))?;
    let output = child.stdout.take();
    let read = move || {
        let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(LIMIT).unwrap_or_default()));
        output.map(|output| output.take(LIMIT).read_to_end(&mut text)).transpose().map(|_| text)
    };
    let Some(read) = within(time, read) else {
        // It may have ended meanwhile. Its own children are left alone.
        let _ = child.kill();
        let _ = child.wait();
        return Err(said(format!("did not answer within {} s", time.as_secs())));
    };
    let text = read.map_err(Error::system(format!("cannot read what {} prints", printable(program))))?;
    if u64::try_from(text.len()).is_ok_and(|length| length >= LIMIT) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(said("prints more than a token".into()));
    }
    let status = child.wait().map_err(Error::cannot_run(program.as_ref()))?;
    if !status.success() {
        return Err(said(format!("failed ({status})")));
    }
    let first = std::str::from_utf8(&text).unwrap_or_default().lines().next().unwrap_or_default().trim();
    if first.is_empty() {
        return Err(said("printed no token on its first line".into()));
    }
    Ok(Secret::new(first))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const LOGIN: Login<'static> = Login { host: "h", scope: "openid", audience: "https://a" };

    fn run(script: &str) -> Result<String, String> {
        let command = ["sh", "-c", script].map(str::to_owned);
        let found = token_within(Duration::from_secs(2), &command, &LOGIN);
        found.map(|token| token.expose().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_line_is_the_token_and_the_program_knows_what_it_is_for() {
        assert_eq!(run("echo ' abc '; echo more"), Ok("abc".into()));
        let asked = run("echo $MYTOKEN_SSH_HOST,$MYTOKEN_SSH_SCOPE,$MYTOKEN_SSH_AUDIENCE; cat");
        assert_eq!(asked, Ok("h,openid,https://a".into()));
    }

    #[test]
    fn a_program_that_gives_no_token_is_told_and_what_it_printed_is_not() {
        for (script, told) in [
            ("echo s3cret; exit 3", "sh, which makes the token, failed (exit status: 3)"),
            ("true", "printed no token on its first line"),
            ("echo; echo s3cret", "printed no token on its first line"),
            ("printf '\\377s3cret'", "printed no token on its first line"),
            ("echo s3cret; cat /dev/zero", "prints more than a token"),
            ("kill -9 $$", "failed (signal: 9"),
        ] {
            let error = run(script).unwrap_err();
            assert!(error.contains(told) && !error.contains("s3cret"), "{script}: {error}");
        }
        assert!(token(&[], &LOGIN).is_err());
        let missing = token(&["/no/such/program".to_owned()], &LOGIN).unwrap_err().to_string();
        assert!(missing.starts_with("cannot run /no/such/program"), "{missing}");
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let begin = Instant::now();
        let error = run("echo $$ >&2; exec sleep 60").unwrap_err();
        assert!(error.contains("did not answer within 2 s") && begin.elapsed() < Duration::from_secs(20), "{error}");
    }
}
