// SPDX-License-Identifier: MIT OR Apache-2.0
//! A command of the administrator. It reads the identity as JSON, and prints the account.

use login_child::{Command, Errno, Ran, User};
use mytoken::Deadline;
use mytoken::config::FileTrust;
use mytoken_wire::printable;
use nix::unistd::User as Account;
use serde_json::json;

use super::{Asked, Given, Mapper};
use crate::refusal::Refusal;
use crate::settings::CommandSettings;

/// Longest line that a command may print, without its end: longer than any name of an account.
const LONGEST: usize = 256;

/// How much of the command's standard error a reason shows, in characters.
const SHOWN: usize = 120;

/// Runs the command of a rule.
pub(super) struct CommandMapper<'a> {
    pub(super) settings: &'a CommandSettings,
    /// Who may own the program and its path.
    pub(super) trust: FileTrust,
}

impl Mapper for CommandMapper<'_> {
    fn gives(&self, asked: &Asked<'_>, deadline: Deadline) -> Result<Given, Refusal> {
        // Whoever can change the program or a directory of its path decides who logs in.
        self.trust.check_file(&self.settings.program).map_err(|error| Refusal::Configuration(error.to_string()))?;
        let user = self.user()?;
        if deadline.remaining().is_none() {
            return Err(Refusal::DeadlinePassed);
        }
        let end = deadline.at_most(self.settings.timeout.get());
        let input = question(asked);
        let command = Command {
            program: &self.settings.program,
            arguments: &self.settings.arguments,
            user: Some(user),
            input: input.as_bytes(),
            output_limit: LONGEST + 1,
        };
        // The deadline is the earlier one if something else took the time, which a caller of a set-uid program can cause. That is no outage.
        let cut = end == deadline;
        let ran = login_child::run(&command, end).map_err(|errno| {
            if cut && deadline.remaining().is_none() {
                return Refusal::DeadlinePassed;
            }
            Refusal::System(format!("{} cannot be run: {errno}", self.settings.program.display()))
        })?;
        self.answer(ran, &asked.account.name, cut)
    }
}

impl CommandMapper<'_> {
    /// The user as which it runs.
    fn user(&self) -> Result<User, Refusal> {
        let name = &self.settings.run_as;
        let found = Account::from_name(name)
            .map_err(|errno| Refusal::System(format!("run_as \"{name}\" cannot be looked up: {errno}")))?;
        match found.map(|found| User { uid: found.uid.as_raw(), gid: found.gid.as_raw() }) {
            None => Err(Refusal::Configuration(format!("run_as: this host has no account \"{name}\""))),
            Some(User { uid: 0, .. }) => {
                Err(Refusal::Configuration(format!("run_as: \"{name}\" has uid 0; a command does not run as root")))
            }
            Some(user) => Ok(user),
        }
    }

    fn answer(&self, ran: Ran, account: &str, cut: bool) -> Result<Given, Refusal> {
        let program = self.settings.program.display();
        let nothing = |reason: String| Ok(Given::Nothing(reason));
        match ran {
            Ran::Exited { status: 0, output, .. } => Ok(compare(&output, account)),
            Ran::Exited { status, errors, .. } => nothing(format!("ended with status {status}{}", said(&errors))),
            Ran::Killed { signal, errors } => nothing(format!("was ended by signal {signal}{}", said(&errors))),
            Ran::TooMuch => nothing(format!("printed more than {LONGEST} bytes")),
            Ran::TimedOut if cut => Err(Refusal::DeadlinePassed),
            Ran::TimedOut => {
                let limit = self.settings.timeout;
                Err(Refusal::Unavailable(format!("the command {program} did not end within {limit}")))
            }
            Ran::NotStarted(Errno::EPERM) => Err(Refusal::Configuration(format!(
                "{program} cannot be run as \"{}\": Operation not permitted (only root can do that)",
                self.settings.run_as
            ))),
            Ran::NotStarted(errno) => {
                let reason = format!("{program} cannot be executed: {}", errno.desc());
                // A stack may ignore a wrong configuration, so it is one only if nobody but root can cause it.
                Err(match errno {
                    Errno::ENOENT | Errno::EACCES | Errno::ENOEXEC | Errno::ENOTDIR | Errno::ELOOP => {
                        Refusal::Configuration(reason)
                    }
                    _ => Refusal::System(reason),
                })
            }
        }
    }
}

/// The identity and what is asked, for the command.
fn question(asked: &Asked<'_>) -> String {
    let identity = asked.identity;
    let question = json!({
        "v": 1,
        "user": asked.account.name,
        "issuer": identity.issuer,
        "iss": identity.iss,
        "sub": identity.sub,
        "scopes": identity.scopes,
        "claims": identity.claims,
        "service": asked.service,
        "rhost": asked.rhost,
    });
    format!("{question}\n")
}

/// Compares what the command printed with the account, byte for byte. Only one line feed at the end is left out.
fn compare(output: &[u8], account: &str) -> Given {
    let line = output.strip_suffix(b"\n").unwrap_or(output);
    if line == account.as_bytes() {
        return Given::Account;
    }
    Given::Nothing(match std::str::from_utf8(line) {
        Ok("") => "printed nothing".to_owned(),
        Ok(text) if text.contains('\n') => "printed more than one line".to_owned(),
        Ok(text) if printable(text, LONGEST) == text => format!("gives \"{text}\""),
        _ => "printed something that is no name of an account".to_owned(),
    })
}

/// The begin of what it wrote to its standard error.
fn said(errors: &[u8]) -> String {
    let text = String::from_utf8_lossy(errors);
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(": {}", printable(text, SHOWN)) }
}

#[cfg(test)]
mod tests;
