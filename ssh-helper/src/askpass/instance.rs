// SPDX-License-Identifier: MIT OR Apache-2.0
//! This program as ssh's askpass: asks the wrapper, prints the answer, and passes every other prompt on.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use mytoken::Secret;
use zeroize::Zeroizing;

use super::message::{Answer, ENTERED, Former, Message, NONCE, PROGRAM, Question, SOCKET, receive, send};
use super::{socket, terminal};
use crate::error::Error;

/// Longer than the wrapper takes to get a token.
const PATIENCE: Duration = Duration::from_secs(90);

/// Whether ssh runs us as its askpass, by the name of the link.
pub fn is_called_as(name: Option<&OsString>) -> bool {
    name.is_some_and(|name| Path::new(name).file_name().is_some_and(|name| name == PROGRAM))
}

/// Answers `prompt` on standard output. Status 1 makes ssh give up the question.
pub fn run(prompt: &OsString) -> ExitCode {
    // A prompt that is no UTF-8 cannot be the token's, and its damaged copy is good enough to be shown.
    let prompt = String::from_utf8_lossy(prompt.as_bytes()).into_owned();
    if prompt == ENTERED {
        // A wrapper that is gone does not need to know.
        let _ = ask_wrapper(Message::Entered);
        return ExitCode::SUCCESS;
    }
    let answered = match ask_wrapper(Message::Prompt(prompt.clone())) {
        Ok(Answer::Token(token)) => print(token.expose().as_bytes()),
        Ok(Answer::Refused | Answer::Noted) => false,
        Ok(Answer::NotOurs(former)) => ask_elsewhere(&prompt, &former),
        // ssh in the background outlives the wrapper, and its questions with it.
        Err(_) => ask_elsewhere(&prompt, &Former::default()),
    };
    if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ask_wrapper(message: Message) -> Result<Answer, Error> {
    let told = "the askpass socket";
    let path = std::env::var_os(SOCKET).ok_or_else(|| Error::Usage("this program is run by ssh".into()))?;
    let nonce = Secret::new(std::env::var(NONCE).unwrap_or_default());
    let stream = socket::connect(Path::new(&path)).map_err(Error::system(told))?;
    if !socket::same_user(&stream) {
        return Err(Error::System { what: told.into(), reason: "it belongs to somebody else".into() });
    }
    stream.set_read_timeout(Some(PATIENCE)).map_err(Error::system(told))?;
    send(&stream, &Question { nonce, message })?;
    receive(&stream)
}

fn ask_elsewhere(prompt: &str, former: &Former) -> bool {
    let wanted = matches!(former.require.as_deref(), Some("force" | "prefer"));
    let graphical =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let program = former.program.as_deref().filter(|program| !program.is_empty());
    match program {
        Some(program) if wanted => run_former(program, prompt, former),
        _ => match terminal::ask(prompt, std::env::var("SSH_ASKPASS_PROMPT").ok().as_deref()) {
            Some(answer) => answer.is_some_and(|answer| print(&answer)),
            None => program.is_some_and(|program| graphical && run_former(program, prompt, former)),
        },
    }
}

fn run_former(program: &str, prompt: &str, former: &Former) -> bool {
    let mut command = Command::new(program);
    command.arg(prompt).env_remove(SOCKET).env_remove(NONCE).env("SSH_ASKPASS", program);
    match &former.require {
        Some(require) => command.env("SSH_ASKPASS_REQUIRE", require),
        None => command.env_remove("SSH_ASKPASS_REQUIRE"),
    };
    command.status().is_ok_and(|status| status.success())
}

fn print(answer: &[u8]) -> bool {
    // One write of the whole line from a buffer that is wiped; the formatting layer of std keeps copies.
    let mut line = Zeroizing::new(Vec::with_capacity(answer.len() + 1));
    line.extend_from_slice(answer);
    line.push(b'\n');
    let written = nix::unistd::dup(std::io::stdout())
        .map(std::fs::File::from)
        .and_then(|mut out| out.write_all(&line).map_err(|_| nix::errno::Errno::EIO));
    written.is_ok()
}
