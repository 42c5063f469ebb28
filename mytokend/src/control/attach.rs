// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl attach`: prints the environment that gives a credential to a job which no Slurm command submits: slurmrestd and programs
//! with libslurm load no plugin at submission.

use std::path::Path;

use mytoken::time_format::TimeFormat;
use mytoken::{Clock, Deadline, SystemClock};
use mytoken_wire::tools::{self, Tool};
use serde::Serialize;

use crate::submit::patience::Patience;
use crate::submit::{
    JobTime, SealedSubmission, SubmitConfig, SubmitRequest, SubmittedCredential, UserEnvironment, submit,
};

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
    /// The attachment of a submission, with the tools of its profile.
    #[must_use]
    pub fn of(submission: &SealedSubmission, tools: &[Tool], several_files: bool) -> Self {
        let SealedSubmission { sealed, handle } = submission;
        let mut environment = vec![format!("{SEALED}={sealed}"), format!("{HANDLE}={handle}")];
        if !tools.is_empty() {
            environment.push(format!("{TOOLS}={}", tools::join(tools)));
        }
        if several_files {
            environment.push(format!("{FILES}=1"));
        }
        Self { environment, spank_environment: vec![format!("{HANDLE_CONTROL}={handle}")] }
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

/// Makes a credential as sbatch does, for a job that is submitted within an hour. The agent of this host revokes it if there is none.
///
/// # Errors
/// A sentence that says why there is none.
pub fn attach(config: &Path, profile: &str, required: bool) -> Result<SubmittedCredential, String> {
    make(config, profile, required, (JobTime::WithinHour, "attach"))
}

/// The same for a job of another time, and another command, which the server's history names.
pub(super) fn make(
    config: &Path,
    profile: &str,
    required: bool,
    (job, command): (JobTime, &str),
) -> Result<SubmittedCredential, String> {
    let config = SubmitConfig::load(config).map_err(|error| error.to_string())?;
    let deadline = Deadline::after(config.jobs.submit.deadline.get());
    let times = TimeFormat::local(SystemClock.now());
    let request = SubmitRequest {
        profile: profile.to_owned(),
        required,
        clusters: None,
        command: command.to_owned(),
        job,
        export_file: false,
        command_pid: None,
        times,
    };
    let patience = Patience { deadline, waits: &|| true, threads: None };
    submit(&config, &request, &UserEnvironment::current(), &SystemClock, &patience).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_are_those_of_the_plugin() {
        let submission = SealedSubmission { sealed: "mt1.a.b".into(), handle: "0f".into() };
        let with_tools = Attachment::of(&submission, &tools::ALL, true).lines();
        let more = "\nSLURM_MYTOKEN_TOOLS=rclone\nSLURM_MYTOKEN_FILES=1";
        assert!(with_tools.ends_with(more), "{with_tools}");
        let requiring = Attachment::of(&submission, &[], false).requiring("data").lines();
        assert!(requiring.ends_with("\nSLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken=required:data"), "{requiring}");
        let attachment = Attachment::of(&submission, &[], false);
        assert_eq!(attachment.lines(), "SLURM_MYTOKEN=mt1.a.b\nSLURM_SPANK_MYTOKEN_H=0f");
        assert_eq!(
            serde_json::to_string(&attachment).unwrap(),
            r#"{"environment":["SLURM_MYTOKEN=mt1.a.b","SLURM_SPANK_MYTOKEN_H=0f"],"spank_environment":["MYTOKEN_H=0f"]}"#
        );
    }
}
