// SPDX-License-Identifier: MIT OR Apache-2.0
//! The askpass that ssh runs: it prints the wrapper's answer to the token prompt, and passes other prompts on.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use mytoken::Secret;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;
use zeroize::Zeroizing;

use super::message::{
    ASKPASS_NAME, AUTHENTICATED_FLAG, AskpassEvent, AskpassRequest, AskpassResponse, NONCE_VARIABLE, PreviousAskpass,
    SOCKET_VARIABLE, receive, send,
};
use super::terminal::{self, PromptKind, TerminalReply};
use crate::error::Error;
use crate::unix_socket;

/// How long the askpass waits for the wrapper. The wrapper takes less time to get a token.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(90);

/// Whether this process was started as askpass. `name` is its first argument, the name of the link.
pub fn is_askpass_name(name: Option<&OsString>) -> bool {
    name.is_some_and(|name| Path::new(name).file_name().is_some_and(|name| name == ASKPASS_NAME))
}

/// Answers `prompt` on standard output. On status 1 ssh treats the prompt as not answered.
pub fn run(prompt: &OsString) -> ExitCode {
    // A prompt that is not UTF-8 cannot be the token prompt. The lossy copy is good enough to show it.
    let prompt = String::from_utf8_lossy(prompt.as_bytes()).into_owned();
    if prompt == AUTHENTICATED_FLAG {
        // If the wrapper has ended, it does not need the event.
        let _ = ask_wrapper(AskpassEvent::Authenticated);
        return ExitCode::SUCCESS;
    }
    let ssh = getppid();
    let answered = match ask_wrapper(AskpassEvent::Prompt(prompt.clone())) {
        Ok(AskpassResponse::Token(token)) => print_answer(token.expose().as_bytes()),
        Ok(AskpassResponse::Refused | AskpassResponse::Acknowledged) => false,
        Ok(AskpassResponse::EndConnection) => {
            // If ssh has ended meanwhile, the parent is another process.
            let _ = (getppid() == ssh).then(|| kill(ssh, Signal::SIGTERM));
            false
        }
        Ok(AskpassResponse::PassOn(previous)) => pass_on(&prompt, &previous),
        // An ssh in the background outlives the wrapper and may still show prompts.
        Err(_) => pass_on(&prompt, &PreviousAskpass::default()),
    };
    if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ask_wrapper(event: AskpassEvent) -> Result<AskpassResponse, Error> {
    let action = "the askpass socket";
    let path = std::env::var_os(SOCKET_VARIABLE).ok_or(Error::NotStartedBySsh)?;
    let nonce = Secret::new(std::env::var(NONCE_VARIABLE).unwrap_or_default());
    let stream = unix_socket::connect(Path::new(&path)).map_err(Error::system(action))?;
    if !unix_socket::is_same_user(&stream) {
        return Err(Error::System { action: action.into(), reason: "it belongs to another user".into() });
    }
    stream.set_read_timeout(Some(RESPONSE_TIMEOUT)).map_err(Error::system(action))?;
    send(&stream, &AskpassRequest { nonce, ssh: getppid().as_raw(), event })?;
    receive(&stream)
}

/// Asks the previous askpass or the user at the terminal. `SSH_ASKPASS_REQUIRE` decides which of them comes first.
fn pass_on(prompt: &str, previous: &PreviousAskpass) -> bool {
    let preferred = matches!(previous.require.as_deref(), Some("force" | "prefer"));
    let graphical =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let program = previous.program.as_deref().filter(|program| !program.is_empty());
    match program {
        Some(program) if preferred => run_previous(program, prompt, previous),
        _ => match terminal::ask(prompt, PromptKind::from_environment()) {
            TerminalReply::Line(answer) => print_answer(&answer),
            TerminalReply::Declined => false,
            TerminalReply::Unavailable => {
                program.is_some_and(|program| graphical && run_previous(program, prompt, previous))
            }
        },
    }
}

fn run_previous(program: &str, prompt: &str, previous: &PreviousAskpass) -> bool {
    let mut command = Command::new(program);
    command.arg(prompt).env_remove(SOCKET_VARIABLE).env_remove(NONCE_VARIABLE).env("SSH_ASKPASS", program);
    match &previous.require {
        Some(require) => command.env("SSH_ASKPASS_REQUIRE", require),
        None => command.env_remove("SSH_ASKPASS_REQUIRE"),
    };
    command.status().is_ok_and(|status| status.success())
}

fn print_answer(answer: &[u8]) -> bool {
    // The whole line in one write, from a buffer that is wiped: std's buffered output would keep a copy.
    let mut line = Zeroizing::new(Vec::with_capacity(answer.len() + 1));
    line.extend_from_slice(answer);
    line.push(b'\n');
    let written = nix::unistd::dup(std::io::stdout())
        .map(std::fs::File::from)
        .and_then(|mut out| out.write_all(&line).map_err(|_| nix::errno::Errno::EIO));
    written.is_ok()
}
