// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl attach`: prints the environment that gives a credential to a job which no Slurm command submits: slurmrestd and programs
//! with libslurm load no plugin at submission.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use mytoken_wire::submission::SubmitAnswer;
use mytoken_wire::tools;
use serde::Serialize;

use crate::output::tell;
use crate::submit::arguments::{SubmitArguments, SubmitCommand};
use crate::submit::relay::{self, WORKER};
use crate::submit::worker;

/// The variable with the sealed credential.
const SEALED: &str = "SLURM_MYTOKEN";
/// The handle in the job's steps.
const HANDLE: &str = "SLURM_SPANK_MYTOKEN_H";
/// The tools of the profile.
const TOOLS: &str = "SLURM_MYTOKEN_TOOLS";
/// Set when the job has several token files.
const FILES: &str = "SLURM_MYTOKEN_FILES";
/// The value of the option `--mytoken`.
const OPTION: &str = "SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken";
/// The handle as a job-control variable, which epilogs see.
const HANDLE_CONTROL: &str = "MYTOKEN_H";

/// The members of a job's description that carry a credential, as slurmrestd takes them since `v0.0.39`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    environment: Vec<String>,
    spank_environment: Vec<String>,
}

impl Attachment {
    /// The attachment of the worker's answer. `None`: it has no credential.
    #[must_use]
    pub fn of(answer: &SubmitAnswer) -> Option<Self> {
        let (sealed, handle) = (answer.sealed.as_ref()?, answer.handle.as_ref()?);
        let mut environment = vec![format!("{SEALED}={sealed}"), format!("{HANDLE}={handle}")];
        let tools = tools::known(answer.tools.iter().map(String::as_str));
        if !tools.is_empty() {
            environment.push(format!("{TOOLS}={}", tools::join(&tools)));
        }
        if answer.several_files {
            environment.push(format!("{FILES}=1"));
        }
        Some(Self { environment, spank_environment: vec![format!("{HANDLE_CONTROL}={handle}")] })
    }

    /// The same for a job that must not run without its credential. The sealed text says it too, but only an agent can open it: this
    /// variable says it while no agent answers.
    #[must_use]
    pub fn requiring(mut self, profile: &str) -> Self {
        self.environment.push(format!("{OPTION}=required:{profile}"));
        self
    }

    /// The lines of the environment.
    #[must_use]
    pub fn lines(&self) -> String {
        self.environment.join("\n")
    }
}

/// Prints a credential, made as sbatch does, for a job that is submitted within an hour. The agent of this host revokes it if there is none.
/// It is revoked at once if this process ends before it was printed.
#[must_use]
pub fn attach(config: &Path, profile: &str, required: bool, json: bool) -> ExitCode {
    // The worker leaves this directory.
    let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    let mut arguments: Vec<OsString> = vec!["attach".into(), WORKER.into(), "--config".into(), config.into()];
    arguments.extend(required.then(|| "--required".into()));
    arguments.extend(["--".into(), profile.into()]);
    relay::pass_on(arguments, |answer| {
        let printed = print(answer, required.then_some(profile), json);
        printed.inspect_err(|error| tell(error))
    })
}

/// The worker of [`attach`].
#[must_use]
pub fn work(config: PathBuf, profile: String, required: bool) -> ExitCode {
    let arguments = SubmitArguments {
        profile: Some(profile),
        default: None,
        by_default: false,
        partition: None,
        account: None,
        required,
        clusters: None,
        export_file: false,
        context: SubmitCommand::Attach,
        config,
        worker: true,
        command_pid: None,
    };
    worker::work(arguments, Instant::now())
}

/// Prints the environment to standard output, and what the user must know to standard error. `required`: the profile of a job that must not
/// run without its credential.
fn print(answer: &SubmitAnswer, required: Option<&str>, json: bool) -> std::io::Result<()> {
    for sentence in answer.notes.iter().chain(&answer.error) {
        tell(sentence);
    }
    let Some(attachment) = Attachment::of(answer) else { return Ok(()) };
    let attachment = match required {
        Some(profile) => attachment.requiring(profile),
        None => attachment,
    };
    let text = if json { serde_json::to_string(&attachment)? } else { attachment.lines() };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_are_those_of_the_plugin() {
        let answer = SubmitAnswer::made("mt1.a.b".into(), "0f".into());
        let more = SubmitAnswer { several_files: true, ..answer.clone().with_tools(&tools::ALL) };
        let with_tools = Attachment::of(&more).unwrap().lines();
        let more = "\nSLURM_MYTOKEN_TOOLS=rclone\nSLURM_MYTOKEN_FILES=1";
        assert!(with_tools.ends_with(more), "{with_tools}");
        let requiring = Attachment::of(&answer).unwrap().requiring("data").lines();
        assert!(requiring.ends_with("\nSLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken=required:data"), "{requiring}");
        assert_eq!(Attachment::of(&SubmitAnswer::failed("no".into())), None);
        let attachment = Attachment::of(&answer).unwrap();
        assert_eq!(attachment.lines(), "SLURM_MYTOKEN=mt1.a.b\nSLURM_SPANK_MYTOKEN_H=0f");
        assert_eq!(
            serde_json::to_string(&attachment).unwrap(),
            r#"{"environment":["SLURM_MYTOKEN=mt1.a.b","SLURM_SPANK_MYTOKEN_H=0f"],"spank_environment":["MYTOKEN_H=0f"]}"#
        );
    }
}
