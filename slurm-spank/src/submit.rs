// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs `mytoken-submit` and reads its answer.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;

use mytoken_wire::submission::{SubmitAnswer, VERSION};
use mytoken_wire::{Deadline, ProfileName};

use crate::ffi::SpankContext;
use crate::job_env::Credential;
use crate::settings::PluginSettings;
use crate::spawn::{self, ChildOutput, ChildStatus, SpawnError};

/// Most notes that are shown.
const NOTES: usize = 4;

/// What `mytoken-submit` gave.
#[derive(Debug, PartialEq, Eq)]
pub struct Submitted {
    /// For the job.
    pub credential: Credential,
    /// For the user: sentences.
    pub notes: Vec<String>,
}

/// What the submission wants.
pub struct Wanted<'a> {
    /// The profile.
    pub profile: &'a ProfileName,
    /// Whether the job must not run without a credential.
    pub required: bool,
    /// The value of `--clusters`.
    pub clusters: Option<String>,
}

/// Runs `mytoken-submit`.
///
/// # Errors
/// A sentence for the user.
pub fn run(settings: &PluginSettings, wanted: &Wanted<'_>, context: SpankContext) -> Result<Submitted, String> {
    let program = CString::new(settings.submit.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    let mut arguments = vec![program.clone(), c"--profile".to_owned(), c_string(wanted.profile.as_str())];
    if wanted.required {
        arguments.push(c"--required".to_owned());
    }
    if let Some(clusters) = &wanted.clusters {
        arguments.push(c_string(&format!("--clusters={clusters}")));
    }
    arguments.extend([c"--context".to_owned(), c_string(command_name(std::env::args_os().next(), context))]);
    let output = spawn::run(&program, &arguments, Deadline::after(settings.submit_time));
    let name = settings.submit.display();
    match output {
        Ok(output) => read(&output).map_err(|failure| match failure {
            SubmitFailure::Reported(sentence) => sentence,
            SubmitFailure::Misbehaved(fault) => format!("{name} {fault}"),
        }),
        Err(SpawnError::NotStarted(error)) => Err(format!("{name} cannot be started: {error}")),
        Err(SpawnError::Timeout) => Err(format!("{name} did not answer within {} s", settings.submit_time.as_secs())),
        Err(SpawnError::OutputTooLong) => Err(format!("{name} gave an answer that is too long")),
    }
}

/// Why mytoken-submit gave no credential.
#[derive(Debug, PartialEq, Eq)]
enum SubmitFailure {
    /// Its own reason, a sentence for the user.
    Reported(String),
    /// What it did wrong. Follows the program's name.
    Misbehaved(String),
}

/// Reads the credential in the output of mytoken-submit.
fn read(output: &ChildOutput) -> Result<Submitted, SubmitFailure> {
    let misbehaved = |fault: &str| SubmitFailure::Misbehaved(fault.to_owned());
    if let ChildStatus::Killed(signal) = output.status {
        return Err(SubmitFailure::Misbehaved(format!("was ended by signal {signal}")));
    }
    let answer = match SubmitAnswer::parse(&output.line) {
        Some(answer) => answer,
        None if output.line.is_empty() => return Err(misbehaved("gave no answer")),
        None => return Err(misbehaved("gave an answer that this plugin does not understand")),
    };
    match answer {
        SubmitAnswer { v, .. } if v != VERSION => {
            Err(SubmitFailure::Misbehaved(format!("speaks version {v}, this plugin version {VERSION}")))
        }
        SubmitAnswer { error: Some(sentence), .. } if !sentence.trim().is_empty() => {
            Err(SubmitFailure::Reported(sentence.trim().to_owned()))
        }
        SubmitAnswer { sealed: Some(sealed), handle: Some(handle), notes, tools, .. }
            if matches!(output.status, ChildStatus::Exited(0) | ChildStatus::Unknown) =>
        {
            Credential::parse(&sealed, &handle)
                .map(|credential| credential.with_tools(&tools))
                .map(|credential| Submitted { credential, notes: notes.into_iter().take(NOTES).collect() })
                .map_err(|fault| SubmitFailure::Misbehaved(format!("answered, but {fault}")))
        }
        _ => Err(misbehaved("gave an answer without a credential")),
    }
}

/// The name of the command that the user typed.
pub fn command_name(own: Option<OsString>, context: SpankContext) -> &'static str {
    let own = own.unwrap_or_default();
    let base = own.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    match (base, context) {
        (b"salloc", _) => "salloc",
        (_, SpankContext::Local) => "srun",
        _ => "sbatch",
    }
}

/// `text` for C. It contains no NUL.
fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str, status: ChildStatus) -> Result<Submitted, SubmitFailure> {
        read(&ChildOutput { line: line.as_bytes().to_vec(), status })
    }

    #[test]
    fn a_credential_is_used_when_the_exit_status_is_zero_or_unknown() {
        let line = format!(r#"{{"v":1,"sealed":"mt1.00000000.AAAA","handle":"{}"}}"#, "0".repeat(32));
        assert!(read_line(&line, ChildStatus::Exited(0)).is_ok());
        let with_tools = line.replace('}', r#","tools":["later","rclone"]}"#);
        let read = read_line(&with_tools, ChildStatus::Exited(0)).unwrap();
        assert_ne!(read, read_line(&line, ChildStatus::Exited(0)).unwrap());
        assert!(read_line(&line, ChildStatus::Unknown).is_ok());
        let failed = SubmitFailure::Misbehaved("gave an answer without a credential".into());
        assert_eq!(read_line(&line, ChildStatus::Exited(1)), Err(failed));
    }

    #[test]
    fn the_reason_of_mytoken_submit_is_passed_on() {
        let read = read_line(r#"{"v":1,"error":" your session has none. "}"#, ChildStatus::Exited(1));
        assert_eq!(read, Err(SubmitFailure::Reported("your session has none.".into())));
    }

    #[test]
    fn a_malformed_answer_is_not_quoted() {
        for line in [
            "",
            "mt1.secret",
            r#"{"v":2,"sealed":"x","handle":"y"}"#,
            r#"{"v":1,"sealed":"x;y","handle":"0"}"#,
            r#"{"v":1}"#,
        ] {
            match read_line(line, ChildStatus::Exited(0)) {
                Err(SubmitFailure::Misbehaved(fault)) => assert!(!fault.contains("secret"), "{fault}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
