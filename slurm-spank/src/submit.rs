// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs `mytoken-submit` and reads its answer.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;

use mytoken_wire::submission::{SubmitAnswer, VERSION};
use mytoken_wire::{Deadline, ProfileName};

use crate::ffi::Context;
use crate::job_env::Credential;
use crate::settings::Settings;
use crate::spawn::{self, Ended, Failure};

/// Runs `mytoken-submit`.
///
/// # Errors
/// A sentence for the user.
pub fn run(settings: &Settings, profile: &ProfileName, required: bool, context: Context) -> Result<Credential, String> {
    let program = CString::new(settings.submit.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    let mut arguments = vec![program.clone(), c"--profile".to_owned(), word(profile.as_str())];
    if required {
        arguments.push(c"--required".to_owned());
    }
    arguments.extend([c"--context".to_owned(), word(command_name(std::env::args_os().next(), context))]);
    let ended = spawn::run(&program, &arguments, Deadline::after(settings.submit_time));
    let name = settings.submit.display();
    match ended {
        Ok(ended) => read(&ended).map_err(|reason| match reason {
            Reason::Told(sentence) => sentence,
            Reason::Found(fault) => format!("{name} {fault}"),
        }),
        Err(Failure::NotStarted(error)) => Err(format!("{name} cannot be started: {error}")),
        Err(Failure::Late) => Err(format!("{name} did not answer within {} s", settings.submit_time.as_secs())),
        Err(Failure::TooLong) => Err(format!("{name} gave an answer that is too long")),
    }
}

/// Why there is no credential.
#[derive(Debug, PartialEq, Eq)]
enum Reason {
    /// mytoken-submit gave this reason.
    Told(String),
    /// mytoken-submit misbehaved in this way.
    Found(String),
}

/// The credential in its output.
fn read(ended: &Ended) -> Result<Credential, Reason> {
    let found = |fault: &str| Reason::Found(fault.to_owned());
    if let Some(signal) = ended.signal {
        return Err(Reason::Found(format!("was ended by signal {signal}")));
    }
    let answer = match SubmitAnswer::parse(&ended.output) {
        Some(answer) => answer,
        None if ended.output.is_empty() => return Err(found("gave no answer")),
        None => return Err(found("gave an answer that this plugin does not understand")),
    };
    match answer {
        SubmitAnswer { v, .. } if v != VERSION => {
            Err(Reason::Found(format!("speaks version {v}, this plugin version {VERSION}")))
        }
        SubmitAnswer { error: Some(sentence), .. } if !sentence.trim().is_empty() => {
            let sentence = sentence.trim();
            // This plugin writes these words before every reason.
            Err(Reason::Told(sentence.strip_prefix("no credential: ").unwrap_or(sentence).to_owned()))
        }
        SubmitAnswer { sealed: Some(sealed), handle: Some(handle), .. }
            if ended.status.is_none_or(|status| status == 0) =>
        {
            Credential::parse(&sealed, &handle).map_err(|fault| Reason::Found(format!("answered, but {fault}")))
        }
        _ => Err(found("gave an answer without a credential")),
    }
}

/// The command that the user called.
fn command_name(own: Option<OsString>, context: Context) -> &'static str {
    let own = own.unwrap_or_default();
    let base = own.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    match (base, context) {
        (b"salloc", _) => "salloc",
        (_, Context::Local) => "srun",
        _ => "sbatch",
    }
}

/// A word without NUL.
fn word(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(output: &str, status: Option<i32>) -> Ended {
        Ended { output: output.as_bytes().to_vec(), status, signal: None }
    }

    #[test]
    fn a_good_answer_counts_also_when_somebody_else_took_the_status() {
        let line = format!(r#"{{"v":1,"sealed":"mt1.00000000.AAAA","handle":"{}"}}"#, "0".repeat(32));
        assert!(read(&ended(&line, Some(0))).is_ok());
        assert!(read(&ended(&line, None)).is_ok());
        assert_eq!(read(&ended(&line, Some(1))), Err(Reason::Found("gave an answer without a credential".into())));
    }

    #[test]
    fn its_own_sentence_is_passed_on() {
        let told = read(&ended(r#"{"v":1,"error":" your session has none. "}"#, Some(1)));
        assert_eq!(told, Err(Reason::Told("your session has none.".into())));
        let told = read(&ended(r#"{"v":1,"error":"no credential: your session has none."}"#, Some(1)));
        assert_eq!(told, Err(Reason::Told("your session has none.".into())));
    }

    #[test]
    fn anything_else_is_its_fault() {
        for (output, status) in [
            ("", Some(0)),
            ("mt1.secret", Some(0)),
            (r#"{"v":2,"sealed":"x","handle":"y"}"#, Some(0)),
            (r#"{"v":1,"sealed":"x;y","handle":"0"}"#, Some(0)),
            (r#"{"v":1}"#, Some(0)),
        ] {
            match read(&ended(output, status)) {
                Err(Reason::Found(fault)) => assert!(!fault.contains("secret"), "{fault}"),
                other => panic!("{output}: {other:?}"),
            }
        }
    }
}
