// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs `mytoken-submit` and reads its answer.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mytoken_wire::defaults::Destination;
use mytoken_wire::paths::CONFIGURATION;
use mytoken_wire::submission::{SubmitAnswer, VERSION};
use mytoken_wire::{CredentialOption, Deadline};

use crate::allocator;
use crate::credential_option::Wish;
use crate::demand::{self, Demand};
use crate::ffi::{SpankContext, command_options};
use crate::job_env::Credential;
use crate::settings::SiteDefault;
use crate::spawn::{self, ChildOutput, ChildStatus, SpawnError};
use mytoken_wire::PluginSettings;

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

impl Failure {
    /// mytoken-submit has not said what the site's tables want.
    pub fn untold(reason: String, wish: &Wish) -> Self {
        Self::by_tables(reason, wish, Path::new(CONFIGURATION), command_options::value)
    }

    /// The same with the directory of the tables. `value` gives the value of an option of the command.
    fn by_tables(reason: String, wish: &Wish, directory: &Path, value: impl Fn(&CStr) -> Option<String>) -> Self {
        if !wish.by_default {
            return Self { reason, required: wish.is_required() };
        }
        let (partition, account) = (value(c"partition"), value(c"account"));
        let to = Destination { partition: partition.as_deref(), account: account.as_deref() };
        match demand::of_site(directory, to) {
            Demand::None => Self { reason, required: false },
            Demand::Required => {
                Self { reason: format!("{reason}; the site requires one for this job"), required: true }
            }
            Demand::Unknown(file) => Self {
                reason: format!(
                    "{reason}; {} cannot be read, so the site may require one for this job. --mytoken=off submits without one",
                    file.to_string_lossy()
                ),
                required: true,
            },
        }
    }
}

/// Runs `mytoken-submit`. `None`: the defaults say that this submission gets no credential.
pub fn run(settings: &PluginSettings, wish: &Wish, context: SpankContext) -> Result<Option<Submitted>, Failure> {
    let failed = |reason| Failure::untold(reason, wish);
    let program = c_string(&settings.submit.to_string_lossy());
    let own = command_name(std::env::args_os().next(), context);
    let mut words = arguments(wish, &settings.default, own, command_options::value);
    // SLURM-11: only job-control variables reach the job then.
    words.extend(allocator::has_option(c"export-file", "--export-file").then(|| c"--export-file".to_owned()));
    words.insert(0, program.clone());
    let output = spawn::run(&program, &words, Deadline::after(settings.submit_time));
    let name = settings.submit.to_string_lossy();
    match output {
        Ok(output) => read(&output, &wish.option).map_err(|failure| match failure {
            SubmitFailure::Reported { reason, chosen: Some(chosen) } => {
                Failure { reason, required: wish.is_required() || chosen.is_required() }
            }
            SubmitFailure::Reported { reason, chosen: None } => failed(reason),
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
    /// Its own reason, and what the tables want, if they have chosen.
    Reported {
        /// A sentence.
        reason: String,
        /// With the name of the profile.
        chosen: Option<CredentialOption>,
    },
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
    let chosen = answer.chosen.as_deref().and_then(CredentialOption::parse);
    match answer {
        SubmitAnswer { v, .. } if v != VERSION => {
            Err(SubmitFailure::Misbehaved(format!("speaks version {v}, this plugin version {VERSION}")))
        }
        SubmitAnswer { error: Some(sentence), .. } if !sentence.trim_ascii().is_empty() => {
            Err(SubmitFailure::Reported { reason: sentence.trim_ascii().to_owned(), chosen })
        }
        SubmitAnswer { off: true, .. } => Ok(None),
        SubmitAnswer { sealed, handle: Some(handle), notes, tools, several_files, registered, .. }
            if sealed.is_some() != registered
                && matches!(output.status, ChildStatus::Exited(0) | ChildStatus::Unknown) =>
        {
            let credential = Credential::parse(sealed.as_deref(), &handle)
                .map_err(|fault| SubmitFailure::Misbehaved(format!("answered, but {fault}")))?
                .with_tools(&tools)
                .with_several_files(several_files);
            let chosen = chosen.unwrap_or_else(|| wanted.clone());
            Ok(Some(Submitted { credential, chosen, notes: notes.into_iter().take(NOTES).collect() }))
        }
        _ => Err(misbehaved("gave an answer without a credential")),
    }
}

/// The name of the command that the user typed.
pub fn command_name(own: Option<OsString>, context: SpankContext) -> &'static str {
    let own = own.unwrap_or_default();
    match (base_name(&own), context) {
        (b"salloc", _) => "salloc",
        (_, SpankContext::Local) => "srun",
        _ => "sbatch",
    }
}

/// Whether the command that the user typed is scrontab.
pub fn is_scrontab(own: Option<OsString>) -> bool {
    own.is_some_and(|own| base_name(&own) == b"scrontab")
}

fn base_name(path: &OsStr) -> &[u8] {
    path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default()
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
        for chosen in ["", "data", "required:data"] {
            let more = if chosen.is_empty() { String::new() } else { format!(r#","chosen":"{chosen}""#) };
            let read =
                read_line(&format!(r#"{{"v":1,"error":" your session has none. "{more}}}"#), ChildStatus::Exited(1));
            let failure = SubmitFailure::Reported {
                reason: "your session has none.".into(),
                chosen: CredentialOption::parse(chosen),
            };
            assert_eq!(read, Err(failure), "{chosen}");
        }
    }

    #[test]
    fn without_an_answer_the_sites_tables_say_whether_the_job_may_run() {
        let directory = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(directory.path().join("jobs.toml"), text).unwrap();
        let failure = |option: Option<&str>, partition: &str| {
            let option = option.map_or(CredentialOption::On { profile: None, required: false }, |text| {
                CredentialOption::parse(text).unwrap()
            });
            let wish = Wish { by_default: option == CredentialOption::On { profile: None, required: false }, option };
            let value = |name: &CStr| (name == c"partition").then(|| partition.to_owned());
            let Failure { reason, required } = Failure::by_tables("it died".to_owned(), &wish, directory.path(), value);
            (reason, required)
        };
        let runs = ("it died".to_owned(), false);
        assert_eq!(failure(None, "secured"), runs, "no file");
        write("[[default]]\npartition = \"secured\"\nmytoken = \"required:data\"\n");
        let required = ("it died; the site requires one for this job".to_owned(), true);
        for (option, partition, wanted) in [
            (None, "secured", required),
            (None, "main", runs.clone()),
            (Some("data"), "secured", runs),
            (Some("required"), "main", ("it died".to_owned(), true)),
        ] {
            assert_eq!(failure(option, partition), wanted, "{option:?} {partition}");
        }
        write("[[default]]\nmytoken = [\"required\"]\n");
        let (reason, is_required) = failure(None, "main");
        assert!(is_required && reason.contains("jobs.toml cannot be read") && reason.contains("--mytoken=off"));
    }

    #[test]
    fn brokers_may_keep_the_credential() {
        let handle = "0".repeat(32);
        let line = |members: &str| format!(r#"{{"v":1,"handle":"{handle}"{members}}}"#);
        let kept = read_line(&line(r#","registered":true"#), ChildStatus::Exited(0)).unwrap().unwrap();
        assert_eq!(kept.credential, Credential::parse(None, &handle).unwrap());
        // Not both, and not neither.
        for members in ["", r#","registered":true,"sealed":"mt1.00000000.AAAA""#] {
            assert!(read_line(&line(members), ChildStatus::Exited(0)).is_err(), "{members}");
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
