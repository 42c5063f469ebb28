// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks a module of PAM about an account, in a child process: modules are foreign code that can hang, crash or change their process.
//!
//! The child reads a stack of one line from a directory that only root can read (`pam_start_confdir(3)`). It authenticates nobody and opens
//! no session. What modules log stays: lines of the system log with the name of this program, and records of the kernel's audit.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mytoken::Deadline;
use pam_account::Question;
use serde::{Deserialize, Serialize};

use super::host::{AccountAnswer, AccountError, AccountQuestion};
use crate::program::ProgramError;
use crate::{output, program, terminal};

/// What the child prints.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Printed {
    /// libpam will be asked now.
    Asking,
    Answer {
        code: i32,
        messages: Vec<String>,
    },
    /// There is no libpam that can be asked.
    Unsupported(String),
}

/// Asks. `longest`: the time limit of one question.
///
/// # Errors
/// [`AccountError`].
pub(super) fn ask(question: &AccountQuestion<'_>, longest: Duration) -> Result<AccountAnswer, AccountError> {
    let no_answer = |reason: String| AccountError::NoAnswer(reason);
    // The name of the service is that of a file.
    let not_asked = |reason: String| AccountError::Unsupported(reason);
    if question.service.is_empty() || question.service.starts_with('.') || question.service.contains('/') {
        return Err(not_asked("the name of the service is no file name".to_owned()));
    }
    let directory = tempfile::Builder::new().prefix("mytoken-check-").tempdir_in("/run");
    let directory = directory.map_err(|error| not_asked(format!("/run cannot be written: {error}")))?;
    let line = question.line;
    // The stack returns what the line returns.
    let argument =
        |argument: &String| if argument.contains([' ', '\t']) { format!("[{argument}]") } else { argument.clone() };
    let arguments: Vec<String> = line.arguments.iter().map(argument).collect();
    let stack = format!("account [success=ok default=ok] {} {}\n", line.module, arguments.join(" "));
    // libpam logs an error without the second file.
    for (name, text) in [(question.service, stack.as_str()), ("other", "account required pam_deny.so\n")] {
        std::fs::write(directory.path().join(name), text)
            .map_err(|error| not_asked(format!("/run cannot be written: {error}")))?;
    }
    let mut child = Command::new("/proc/self/exe");
    child.arg0("mytokenctl").args(["check", "--as", question.user, "--only-account"]).arg(directory.path());
    child.args([question.service, question.origin]);
    let outcome =
        program::run(&mut child, Deadline::after(question.limit.min(longest))).map_err(|error| match &error {
            ProgramError::Timeout | ProgramError::Stuck => no_answer(format!("the child process that asks it {error}")),
            _ => not_asked(format!("the child process that asks it {error}")),
        })?;
    // Modules may print something, too.
    let printed = outcome.output.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    match printed {
        Some(Printed::Answer { code, messages }) => Ok(AccountAnswer { code, messages }),
        Some(Printed::Unsupported(reason)) => Err(AccountError::Unsupported(reason)),
        Some(Printed::Asking) => Err(no_answer(outcome.reason())),
        // The child itself failed before it asked.
        None => Err(not_asked(outcome.reason())),
    }
}

/// The child's part. Returns what it prints.
///
/// # Errors
/// A sentence, when this process cannot leave its terminal.
pub fn answer(directory: &Path, service: &str, user: &str, origin: &str) -> Result<String, String> {
    terminal::leave()?;
    let question = Question { directory, service, user, origin, terminal: "ssh" };
    output::print(&json(&Printed::Asking)?);
    let printed = match pam_account::ask(&question) {
        Ok(answer) => Printed::Answer { code: answer.code, messages: answer.messages },
        Err(reason) => Printed::Unsupported(reason),
    };
    json(&printed)
}

fn json(printed: &Printed) -> Result<String, String> {
    serde_json::to_string(printed).map_err(|error| error.to_string())
}
