// SPDX-License-Identifier: MIT OR Apache-2.0
//! State that the hooks of one process share. It is a static, because SPANK has no pointer to a plugin's own data.

use std::path::PathBuf;
use std::sync::{Mutex, TryLockError};

use mytoken_wire::FileName;

use crate::credential_option::CredentialOption;
use crate::job_env::Credential;
use crate::settings::SiteDefault;

/// State that is kept between hooks.
#[derive(Debug)]
pub struct HookState {
    /// The last value of `--mytoken`: as the user typed it, or on a node as Slurm sent it.
    pub option: Option<CredentialOption>,
    /// What submissions get for which the user says nothing.
    pub default: SiteDefault,
    /// What the first component of a heterogeneous job has got: the profile is the one that was chosen, also by the defaults.
    pub chosen: Option<CredentialOption>,
    /// The result of the submission hook so far. Slurm calls it once per component of a heterogeneous job.
    pub submission: Submission,
    /// Value of the option's variable, which `crate::local` takes out of the environment for a while.
    pub hidden_option: Option<String>,
    /// On a node: the step's access token.
    pub step: Option<StepToken>,
    /// In a test build: panic in the option's callback, which does not get the plugin's arguments.
    pub panic_in_option: bool,
}

/// Result of the submission hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submission {
    /// The hook was not called yet.
    New,
    /// No credential was requested.
    NotRequested,
    /// Nothing is submitted: `--test-only`.
    Test,
    /// The credential is in the environment.
    Placed(Credential),
    /// There is no credential, for this reason.
    Failed(String),
}

/// A step's access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepToken {
    /// `BEARER_TOKEN_FILE`.
    pub file: PathBuf,
    /// State of the access token in it.
    pub state: TokenState,
    /// Whether the job requires an access token.
    pub required: bool,
    /// Whether the step prints why there is none: the first step of the job or on this node, and a step from outside the
    /// job.
    pub announces: bool,
    /// The further files of the job that do not exist, with the reason.
    pub missing: Vec<(FileName, String)>,
    /// Whether the job has further files.
    pub several: bool,
}

impl StepToken {
    /// A step that prints nothing, of a job with one file.
    pub fn new(file: PathBuf, state: TokenState, required: bool) -> Self {
        Self { file, state, required, announces: false, missing: Vec::new(), several: false }
    }
}

/// State of an access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenState {
    /// The file exists.
    Ready,
    /// The agent still tries to get one. This is why there is none yet.
    Pending(String),
    /// There will be none, for this reason.
    Failed(String),
}

static STATE: Mutex<HookState> = Mutex::new(HookState {
    option: None,
    default: SiteDefault::Off,
    chosen: None,
    submission: Submission::New,
    hidden_option: None,
    step: None,
    panic_in_option: false,
});

/// Reads or changes the state. `None` when another thread holds the lock, which does not happen in Slurm. It never waits: a task's
/// process is forked from a process with threads, and a lock that was held at the fork is never released.
pub fn change<R>(with: impl FnOnce(&mut HookState) -> R) -> Option<R> {
    match STATE.try_lock() {
        Ok(mut state) => Some(with(&mut state)),
        // A hook has panicked. Its half-changed state is still valid.
        Err(TryLockError::Poisoned(poisoned)) => Some(with(&mut poisoned.into_inner())),
        Err(TryLockError::WouldBlock) => None,
    }
}
