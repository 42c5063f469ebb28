// SPDX-License-Identifier: MIT OR Apache-2.0
//! The environment variables that carry a credential from the submission to the nodes.
//!
//! `SLURM_MYTOKEN` holds the sealed credential. Variables with the prefix `SLURM_` survive every `--export` (SLURM-11); slurmctld keeps them in one
//! 0600 file and not in memory (SLURM-12). A job-control variable holds the random handle. It also reaches epilogs, and jobs whose
//! environment `--export-file` replaced: there it shows that the credential was lost. On a node both are untrusted: every user can set them.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use mytoken_wire::tools::{self, Tool};
use mytoken_wire::{CredentialOption, Handle, JobName, sealed};

use crate::ffi::{JobEnv, Spank, env, set_env, unset_env};

/// The sealed credential, in the environment of submission and job.
pub const SEALED: &CStr = c"SLURM_MYTOKEN";
/// The handle as job-control variable.
pub const HANDLE_CONTROL: &CStr = c"MYTOKEN_H";
/// The handle in a step.
pub const HANDLE_STEP: &CStr = c"SLURM_SPANK_MYTOKEN_H";
/// The handle in an epilog.
pub const HANDLE_EPILOG: &CStr = c"SPANK_MYTOKEN_H";
/// The option's value. sbatch and salloc put it into the job's environment, and commands inside the job import it from there (SLURM-16).
pub const OPTION: &CStr = c"SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken";
/// Set by srun in a step of a job from outside it (`--jobid`) when the user typed `--mytoken` for the step.
pub const WANTED: &CStr = c"SLURM_MYTOKEN_WANTED";
/// Why the job has no credential: a sentence for its output.
pub const REASON: &CStr = c"SLURM_MYTOKEN_REASON";
/// How often the job was requeued; absent in its first run (SLURM-28).
pub const RESTARTS: &CStr = c"SLURM_RESTART_COUNT";
/// The tools of the profile, as [`tools::join`] writes them.
pub const TOOLS: &CStr = c"SLURM_MYTOKEN_TOOLS";
/// Set when the job has several token files.
pub const FILES: &CStr = c"SLURM_MYTOKEN_FILES";
/// The directory of the job's token files, in a job with several.
pub const TOKEN_DIR: &CStr = c"MYTOKEN_TOKEN_DIR";
/// What the user wants by default, [`VARIABLE`](mytoken_wire::credential_option::VARIABLE).
pub const PROFILE: &CStr = c"MYTOKEN_PROFILE";
/// The path of the file with a login session's mytoken.
pub const MYTOKEN_FILE: &CStr = c"MYTOKEN_FILE";
/// The path of the file with the access token (WLCG Bearer Token Discovery).
pub const TOKEN_FILE: &CStr = c"BEARER_TOKEN_FILE";
/// An access token itself. It takes precedence over the file (WLCG Bearer Token Discovery).
pub const TOKEN: &CStr = c"BEARER_TOKEN";

/// Sealed credential and handle, both well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// `None`: brokers keep it.
    sealed: Option<String>,
    handle: Handle,
    tools: Vec<Tool>,
    several_files: bool,
}

impl Credential {
    /// Checks the form of both. Without a sealed credential brokers keep it.
    pub fn parse(sealed: Option<&str>, handle: &str) -> Result<Self, &'static str> {
        if sealed.is_some_and(|sealed| sealed::parse(sealed).is_err()) {
            return Err("its sealed credential is malformed");
        }
        let handle = Handle::parse(handle).ok_or("its handle is malformed")?;
        Ok(Self { sealed: sealed.map(str::to_owned), handle, tools: Vec::new(), several_files: false })
    }

    /// With these tools of the profile. Unknown names are of a later release.
    pub fn with_tools(self, names: &[String]) -> Self {
        Self { tools: tools::known(names.iter().map(String::as_str)), ..self }
    }

    /// For a job with several token files, or with one.
    pub fn with_several_files(self, several_files: bool) -> Self {
        Self { several_files, ..self }
    }

    /// Sets the variables for the job that is about to be submitted. The handle also goes into this process's environment, because
    /// the steps of srun's own allocation do not see job-control variables (SLURM-13).
    pub fn place(&self, spank: &Spank) -> Result<(), &'static str> {
        let placed = self.sealed.as_ref().is_none_or(|sealed| set_env(SEALED, sealed))
            && set_env(HANDLE_STEP, self.handle.as_str())
            && (self.tools.is_empty() || set_env(TOOLS, &tools::join(&self.tools)))
            && (!self.several_files || set_env(FILES, "1"))
            && spank.set_job_control(HANDLE_CONTROL, self.handle.as_str());
        if placed { Ok(()) } else { Err("Slurm refused to set the credential's variables") }
    }
}

/// Removes the credential of an outer job from this environment: it belongs to that job alone. `BEARER_TOKEN_FILE` and
/// `MYTOKEN_TOKEN_DIR` are removed only if they point into `jobs`, the agent's directory of jobs. The variable of a login session stays.
pub fn remove_inherited(jobs: &Path) {
    unset_env(SEALED);
    unset_env(HANDLE_STEP);
    unset_env(TOOLS);
    unset_env(FILES);
    unset_env(WANTED);
    unset_env(REASON);
    for name in [TOKEN_FILE, TOKEN_DIR] {
        if env(name).is_some_and(|path| Path::new(&path).starts_with(jobs)) {
            unset_env(name);
        }
    }
    for tool in tools::ALL {
        let value = env(tool.variable()).and_then(|value| value.into_string().ok());
        if value.is_some_and(|value| tool.file(&value).is_some_and(|file| Path::new(file).starts_with(jobs))) {
            unset_env(tool.variable());
        }
    }
}

/// Removes the files of a login session from the environment of a job: the node does not have them, and here they end with the session.
/// `sessions` is their directory. Files elsewhere are the user's own affair.
pub fn remove_session(sessions: &Path) {
    for name in [TOKEN_FILE, MYTOKEN_FILE] {
        if env(name).is_some_and(|file| Path::new(&file).starts_with(sessions)) {
            unset_env(name);
        }
    }
}

/// Longest reason in bytes.
pub const REASON_LIMIT: u16 = 1600;

/// Sends the job the reason for its lack of a credential. It holds no secret: the user has just seen it.
pub fn explain(reason: &str) {
    let _ = set_env(REASON, &mytoken_wire::printable(reason, usize::from(REASON_LIMIT) / 4));
}

/// Gives the job the option's variable as if the user had typed the option: from it steps know whether the job requires its credential
/// while no agent answers, and which profile it has.
pub fn note_option(option: &CredentialOption) {
    let _ = set_env(OPTION, &option.to_string());
}

/// Whether this process runs inside a job.
pub fn inside_job() -> bool {
    env(JOB_ID).is_some_and(|value| !value.is_empty())
}

/// Whether `job`, the argument of `--jobid`, is another job than the one in whose environment this process runs.
pub fn is_other_job(job: &str) -> bool {
    own_id().zip(job.parse::<u32>().ok()).is_some_and(|(own, other)| own != other)
}

/// The directory of the job in whose environment this process runs, below `jobs`. It exists on the job's nodes.
pub fn own_directory(jobs: &Path) -> Option<PathBuf> {
    Some(jobs.join(own_id()?.to_string()))
}

/// The id of the job in whose environment this process runs.
fn own_id() -> Option<u32> {
    env(JOB_ID)?.to_str()?.parse().ok()
}

/// The name of `job`, a component of a heterogeneous job. slurmctld tells each component the ids of all.
pub fn component(spank: &Spank, job: u32) -> Option<JobName> {
    let id = |offset: u32| {
        let name = CString::new(format!("SLURM_JOB_ID_HET_GROUP_{offset}")).ok()?;
        match spank.job_env(&name, 16) {
            JobEnv::Text(id) => id.parse::<u32>().ok(),
            JobEnv::Absent | JobEnv::Unusable => None,
        }
    };
    let leader = id(0)?;
    let offset = (0..MOST_COMPONENTS).map_while(|offset| Some((offset, id(offset)?))).find(|(_, id)| *id == job)?.0;
    Some(JobName::Component { leader, offset })
}

/// Slurm's own limit of components (`MAX_HET_JOB_COMPS`).
const MOST_COMPONENTS: u32 = 128;

/// The job's id, for all its processes.
const JOB_ID: &CStr = c"SLURM_JOB_ID";

#[cfg(test)]
mod tests {
    use mytoken_wire::credential_option::VARIABLE;

    use super::*;

    #[test]
    fn the_variable_of_the_user_has_one_name() {
        assert_eq!(PROFILE.to_str(), Ok(VARIABLE));
    }
}
