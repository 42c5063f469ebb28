// SPDX-License-Identifier: MIT OR Apache-2.0
//! A program that prints a token: `command` of a `[[host]]`.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mytoken::{Deadline, Secret};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{AccessFlags, Pid, access};
use zeroize::Zeroizing;

use super::waiting::{self, Unfinished};
use super::{LIMIT, Reach};
use crate::error::Error;
use crate::printable::printable;
use crate::ssh::installed;
use crate::stand_in::handed_on;

/// Time limit. The program may ask the user for a passphrase. What a mytoken that it prints makes after that must be done before the
/// askpass gives up.
const TIMEOUT: Duration = Duration::from_secs(40);

/// How long a program may take to end after it was told to, and what it has printed to come.
const GRACE: Duration = Duration::from_secs(1);

/// The first line that the program prints. Its environment says what it is for.
///
/// # Errors
/// It cannot be started, fails, takes too long, or prints nothing.
pub fn token(command: &[String], host: &str, reach: Reach<'_>) -> Result<Secret, Error> {
    token_within(TIMEOUT, command, host, reach)
}

/// Whether there is a program of this name, or at this path.
pub fn is_there(program: &str) -> bool {
    if !program.contains('/') {
        return installed::find(program).is_ok();
    }
    let file = Path::new(program);
    file.is_file() && access(file, AccessFlags::X_OK).is_ok()
}

fn token_within(time: Duration, command: &[String], host: &str, reach: Reach<'_>) -> Result<Secret, Error> {
    let [program, arguments @ ..] = command else {
        return Err(Error::Usage("command = [] names no program".into()));
    };
    let said = |text: String| Error::Usage(format!("{}, which makes the token, {text}", printable(program)));
    let mut child = start(program, arguments, host, reach)?;
    let output = child.stdout.take().map(Output::read).unwrap_or_default();
    // A program in the background may still have the output, so its end is not waited for.
    let status = match waiting::until(Deadline::after(time), || child.try_wait().transpose()) {
        Ok(status) => status.map_err(Error::cannot_run(program.as_ref()))?,
        Err(why) => {
            end(&mut child);
            return Err(match why {
                Unfinished::TimeOver => said(format!("did not end within {} s", time.as_secs())),
                Unfinished::NotNeeded => Error::Interrupted,
            });
        }
    };
    if !status.success() {
        return Err(said(format!("failed ({status})")));
    }
    let line = output.first_line();
    let text = std::str::from_utf8(&line).unwrap_or_default().trim();
    if text.is_empty() {
        return Err(said("printed no token on its first line".into()));
    }
    Ok(Secret::new(text))
}

/// What it starts is below this program, but not a connection of the run: an ssh that it starts gets what its own host's entry says.
fn start(program: &str, arguments: &[String], host: &str, reach: Reach<'_>) -> Result<Child, Error> {
    let mut command = Command::new(program);
    installed::mark_below(&mut command);
    command
        .args(arguments)
        .env_remove(handed_on::VARIABLE)
        .env("MYTOKEN_SSH_HOST", host)
        .env("MYTOKEN_SSH_SCOPE", reach.scope)
        .env("MYTOKEN_SSH_AUDIENCE", reach.audience)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::cannot_run(program.as_ref()))
}

/// What a program prints.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Printed>>);

#[derive(Default)]
struct Printed {
    /// The first line, as far as it has come, at most [`LIMIT`].
    line: Zeroizing<Vec<u8>>,
    /// Whether nothing can be added to it.
    is_whole: bool,
}

impl Output {
    /// Reads in a thread, also what follows the first line, which nobody needs: the program must not fail because of a closed pipe.
    fn read(mut output: ChildStdout) -> Self {
        let read = Self::default();
        let thread = read.clone();
        std::thread::spawn(move || {
            let mut chunk = Zeroizing::new([0; 4096]);
            loop {
                match output.read(chunk.as_mut_slice()) {
                    Ok(count @ 1..) => thread.add(chunk.get(..count).unwrap_or_default()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                }
            }
            thread.printed().is_whole = true;
        });
        read
    }

    fn add(&self, chunk: &[u8]) {
        let mut printed = self.printed();
        if printed.is_whole {
            return;
        }
        // Reserved at once: a buffer that grows leaves copies.
        if printed.line.capacity() < LIMIT {
            printed.line.reserve_exact(LIMIT);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let added = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
        printed.is_whole = end.is_some();
        if printed.line.len() + added.len() > LIMIT {
            // A line without an end is no token.
            printed.line = Zeroizing::default();
            printed.is_whole = true;
            return;
        }
        printed.line.extend_from_slice(added);
    }

    /// The first line, when the program has ended. What it has printed is still on its way.
    fn first_line(&self) -> Zeroizing<Vec<u8>> {
        let _ = waiting::until(Deadline::after(GRACE), || self.printed().is_whole.then_some(()));
        std::mem::take(&mut self.printed().line)
    }

    fn printed(&self) -> MutexGuard<'_, Printed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the program: a prompt for a passphrase then puts the terminal back.
fn end(child: &mut Child) {
    let pid = i32::try_from(child.id()).map(Pid::from_raw);
    let told = pid.is_ok_and(|pid| kill(pid, Signal::SIGTERM).is_ok());
    let deadline = Deadline::after(if told { GRACE } else { Duration::ZERO });
    while !matches!(child.try_wait(), Ok(Some(_))) {
        let Some(left) = deadline.remaining() else {
            let _ = child.kill();
            let _ = child.wait();
            return;
        };
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const REACH: Reach<'static> = Reach { scope: "openid", audience: "https://a" };

    fn run(script: &str) -> Result<String, String> {
        let command = ["sh", "-c", script].map(str::to_owned);
        let found = token_within(Duration::from_secs(2), &command, "h", REACH);
        found.map(|token| token.expose().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_line_is_the_token_and_the_program_knows_what_it_is_for() {
        assert_eq!(run("echo ' abc '; echo more"), Ok("abc".into()));
        assert_eq!(run("printf abc"), Ok("abc".into()));
        let asked = run("echo $MYTOKEN_SSH_HOST,$MYTOKEN_SSH_SCOPE,$MYTOKEN_SSH_AUDIENCE; cat");
        assert_eq!(asked, Ok("h,openid,https://a".into()));
        let below = run("echo $MYTOKEN_SSH_DEPTH${MYTOKEN_SSH_OPTIONS-,none}");
        assert_eq!(below, Ok("1,none".into()), "an ssh that it starts is no connection of the run");
    }

    #[test]
    fn what_follows_the_first_line_does_not_matter() {
        assert_eq!(run("echo abc; printf '\\377'; head -c 1000000 /dev/zero"), Ok("abc".into()));
        let begin = Instant::now();
        assert_eq!(run("sleep 60 & echo abc"), Ok("abc".into()));
        assert!(begin.elapsed() < Duration::from_secs(2), "a program in the background keeps the output open");
        assert_eq!(run("sleep 60 & printf abc"), Ok("abc".into()));
        assert!(run("sleep 60 & exit 3").is_err_and(|error| error.contains("exit status: 3")));
    }

    #[test]
    fn a_program_that_gives_no_token_is_told_and_what_it_printed_is_not() {
        for (script, told) in [
            ("echo s3cret; exit 3", "sh, which makes the token, failed (exit status: 3)"),
            ("true", "printed no token on its first line"),
            ("echo; echo s3cret", "printed no token on its first line"),
            ("printf '\\377s3cret'", "printed no token on its first line"),
            ("printf s3cret; head -c 70000 /dev/zero | tr '\\0' x", "printed no token on its first line"),
            ("kill -9 $$", "failed (signal: 9"),
        ] {
            let error = run(script).unwrap_err();
            assert!(error.contains(told) && !error.contains("s3cret"), "{script}: {error}");
        }
        assert!(token(&[], "h", REACH).is_err());
        let missing = token(&["/no/such/program".to_owned()], "h", REACH).unwrap_err().to_string();
        assert!(missing.starts_with("cannot run /no/such/program"), "{missing}");
        assert!(is_there("sh") && is_there("/bin/sh") && !is_there("/etc/passwd") && !is_there("no-such-program"));
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ended");
        let tidy = format!("trap 'echo tidy >{}; exit' TERM; while :; do sleep 0.1; done", file.display());
        for script in ["echo abc; exec >&-; sleep 60", "sleep 60", "trap '' TERM; while :; do sleep 0.1; done", &tidy] {
            let begin = Instant::now();
            let error = run(script).unwrap_err();
            assert!(error.contains("did not end within 2 s"), "{script}: {error}");
            assert!(begin.elapsed() < Duration::from_secs(20), "{script}");
        }
        assert_eq!(std::fs::read_to_string(file).unwrap(), "tidy\n", "it can put the terminal back");
    }
}
