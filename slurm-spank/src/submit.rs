// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs `mytoken-submit` and reads its answer.

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStrExt;

use mytoken_wire::submission::{SubmitAnswer, VERSION};
use mytoken_wire::{CredentialOption, Deadline};

use crate::credential_option::Wish;
use crate::ffi::{SpankContext, command_options};
use crate::job_env::Credential;
use crate::settings::{PluginSettings, SiteDefault};
use crate::spawn::{self, ChildOutput, ChildStatus, SpawnError};

/// Most notes that are shown.
const NOTES: usize = 4;

/// What `mytoken-submit` gave.
#[derive(Debug, PartialEq, Eq)]
pub struct Submitted {
    /// For the job.
    pub credential: Credential,
    /// What was wanted, with the choice of the defaults.
    pub chosen: CredentialOption,
    /// For the user: sentences.
    pub notes: Vec<String>,
}

/// Why there is no credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A sentence for the user.
    pub reason: String,
    /// Whether the job must not run without a credential.
    pub required: bool,
}

/// The job need not have it.
impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, required: false }
    }
}

/// Runs `mytoken-submit`. `None`: the defaults say that this submission gets no credential.
pub fn run(settings: &PluginSettings, wish: &Wish, context: SpankContext) -> Result<Option<Submitted>, Failure> {
    let failed = |reason| Failure { reason, required: wish.is_required() };
    let program = CString::new(settings.submit.as_os_str().as_bytes()).map_err(|error| failed(error.to_string()))?;
    let own = command_name(std::env::args_os().next(), context);
    let arguments = [vec![program.clone()], arguments(wish, &settings.default, own, command_options::value)].concat();
    let output = spawn::run(&program, &arguments, Deadline::after(settings.submit_time));
    let name = settings.submit.display();
    match output {
        Ok(output) => read(&output, &wish.option).map_err(|failure| match failure {
            SubmitFailure::Reported(failure) => failure,
            SubmitFailure::Misbehaved(fault) => failed(format!("{name} {fault}")),
        }),
        Err(SpawnError::NotStarted(error)) => Err(failed(format!("{name} cannot be started: {error}"))),
        Err(SpawnError::Timeout) => {
            Err(failed(format!("{name} did not answer within {} s", settings.submit_time.as_secs())))
        }
        Err(SpawnError::OutputTooLong) => Err(failed(format!("{name} gave an answer that is too long"))),
    }
}

/// The arguments of `mytoken-submit`. `value` gives the value of an option of the command. Only where the defaults choose the profile, they
/// need to know where the job goes.
fn arguments(wish: &Wish, site: &SiteDefault, own: &str, value: impl Fn(&CStr) -> Option<String>) -> Vec<CString> {
    let mut arguments = Vec::new();
    let mut option = |name: &str, value: Option<String>| {
        arguments.extend(value.map(|value| c_string(&format!("--{name}={value}"))));
    };
    if let CredentialOption::On { profile: Some(profile), .. } = &wish.option {
        option("profile", Some(profile.to_string()));
    } else {
        if let SiteDefault::Profile(profile) = site {
            option("default", Some(profile.to_string()));
        }
        option("partition", value(c"partition"));
        option("account", value(c"account"));
    }
    option("clusters", value(c"clusters"));
    option("context", Some(own.to_owned()));
    arguments.extend(wish.is_required().then(|| c"--required".to_owned()));
    arguments.extend(wish.by_default.then(|| c"--by-default".to_owned()));
    arguments
}

/// Why mytoken-submit gave no credential.
#[derive(Debug, PartialEq, Eq)]
enum SubmitFailure {
    /// Its own reason.
    Reported(Failure),
    /// What it did wrong. Follows the program's name.
    Misbehaved(String),
}

/// Reads the credential in the output of mytoken-submit. `wanted` is what it was asked for.
fn read(output: &ChildOutput, wanted: &CredentialOption) -> Result<Option<Submitted>, SubmitFailure> {
    let misbehaved = |fault: &str| SubmitFailure::Misbehaved(fault.to_owned());
    if let ChildStatus::Killed(signal) = output.status {
        return Err(SubmitFailure::Misbehaved(format!("was ended by signal {signal}")));
    }
    let answer = match SubmitAnswer::parse(&output.line) {
        Some(answer) => answer,
        None if output.line.is_empty() => return Err(misbehaved("gave no answer")),
        None => return Err(misbehaved("gave an answer that this plugin does not understand")),
    };
    let chosen = answer.chosen.as_deref().and_then(CredentialOption::parse).unwrap_or_else(|| wanted.clone());
    match answer {
        SubmitAnswer { v, .. } if v != VERSION => {
            Err(SubmitFailure::Misbehaved(format!("speaks version {v}, this plugin version {VERSION}")))
        }
        SubmitAnswer { error: Some(sentence), .. } if !sentence.trim().is_empty() => {
            let required = wanted.is_required() || chosen.is_required();
            Err(SubmitFailure::Reported(Failure { reason: sentence.trim().to_owned(), required }))
        }
        SubmitAnswer { off: true, .. } => Ok(None),
        SubmitAnswer { sealed: Some(sealed), handle: Some(handle), notes, tools, several_files, .. }
            if matches!(output.status, ChildStatus::Exited(0) | ChildStatus::Unknown) =>
        {
            let credential = Credential::parse(&sealed, &handle)
                .map_err(|fault| SubmitFailure::Misbehaved(format!("answered, but {fault}")))?
                .with_tools(&tools)
                .with_several_files(several_files);
            Ok(Some(Submitted { credential, chosen, notes: notes.into_iter().take(NOTES).collect() }))
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

    fn read_line(line: &str, status: ChildStatus) -> Result<Option<Submitted>, SubmitFailure> {
        let wanted = CredentialOption::parse("data").unwrap();
        read(&ChildOutput { line: line.as_bytes().to_vec(), status }, &wanted)
    }

    #[test]
    fn a_credential_is_used_when_the_exit_status_is_zero_or_unknown() {
        let line = format!(r#"{{"v":1,"sealed":"mt1.00000000.AAAA","handle":"{}"}}"#, "0".repeat(32));
        let of = |line: &str| read_line(line, ChildStatus::Exited(0)).unwrap().unwrap();
        assert_eq!(of(&line).chosen.to_string(), "data");
        let with_tools = line.replace('}', r#","tools":["later","rclone"]}"#);
        assert_ne!(of(&with_tools).credential, of(&line).credential);
        assert_eq!(of(&line.replace('}', r#","chosen":"required:x"}"#)).chosen.to_string(), "required:x");
        assert_ne!(of(&line.replace('}', r#","several_files":true}"#)).credential, of(&line).credential);
        assert!(read_line(&line, ChildStatus::Unknown).is_ok());
        let failed = SubmitFailure::Misbehaved("gave an answer without a credential".into());
        assert_eq!(read_line(&line, ChildStatus::Exited(1)), Err(failed));
    }

    #[test]
    fn the_reason_of_mytoken_submit_is_passed_on() {
        for (chosen, required) in [("", false), (r#","chosen":"data""#, false), (r#","chosen":"required:data""#, true)]
        {
            let read =
                read_line(&format!(r#"{{"v":1,"error":" your session has none. "{chosen}}}"#), ChildStatus::Exited(1));
            let failure = Failure { reason: "your session has none.".into(), required };
            assert_eq!(read, Err(SubmitFailure::Reported(failure)), "{chosen}");
        }
    }

    #[test]
    fn the_defaults_may_want_no_credential() {
        assert_eq!(read_line(r#"{"v":1,"off":true}"#, ChildStatus::Exited(0)), Ok(None));
    }

    #[test]
    fn where_the_job_goes_is_told_only_to_the_defaults() {
        let value = |name: &CStr| match name.to_str().unwrap() {
            "partition" => Some("a,b".to_owned()),
            "account" => Some("-bio".to_owned()),
            _ => None,
        };
        let name = |text| SiteDefault::Profile(mytoken_wire::ProfileName::parse(text).unwrap());
        let place = "--partition=a,b --account=-bio --context=sbatch";
        for (option, by_default, site, wanted) in [
            (Some("data"), false, SiteDefault::Off, "--profile=data --context=sbatch".to_owned()),
            (Some("required:data"), false, name("site"), "--profile=data --context=sbatch --required".to_owned()),
            (Some("required"), false, name("site"), format!("--default=site {place} --required")),
            (None, false, SiteDefault::Off, place.to_owned()),
            (None, true, SiteDefault::Tables, format!("{place} --by-default")),
            (None, true, name("site"), format!("--default=site {place} --by-default")),
        ] {
            let option = option.map_or(CredentialOption::On { profile: None, required: false }, |text| {
                CredentialOption::parse(text).unwrap()
            });
            let given = arguments(&Wish { option, by_default }, &site, "sbatch", value);
            let given: Vec<&str> = given.iter().map(|one| one.to_str().unwrap()).collect();
            assert_eq!(given.join(" "), wanted);
        }
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
