// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a hook leaves for later hooks in the same process. A static, because SPANK passes no pointer of a plugin's own.

use std::path::PathBuf;
use std::sync::{Mutex, TryLockError};

use crate::credential_option::CredentialOption;
use crate::job_env::Credential;

/// What is kept between hooks.
#[derive(Debug)]
pub struct State {
    /// The last `--mytoken` of this process, as typed or, on a node, as sent.
    pub option: Option<CredentialOption>,
    /// What became of the submission. A heterogeneous job calls the hook once per component.
    pub submission: Submission,
    /// The option's variable that `crate::local` has hidden from Slurm for a while.
    pub hidden_option: Option<String>,
    /// On a node: the step's access token.
    pub step: Option<Step>,
    /// A test build was asked to panic in the option's callback, which gets no arguments.
    pub panic_in_option: bool,
}

/// What became of the submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submission {
    /// The hook was not called yet.
    New,
    /// No credential was wanted.
    Unwanted,
    /// The credential is in the environment.
    Placed(Credential),
    /// There is no credential, for this reason.
    Failed(String),
}

/// A step's access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `BEARER_TOKEN_FILE`.
    pub file: PathBuf,
    /// Whether the file is there, may come, or why not.
    pub outlook: Outlook,
    /// The job requires it.
    pub required: bool,
}

/// Whether the access token is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// It is there.
    Ready,
    /// The agent is still trying.
    Pending,
    /// It will not come, for this reason.
    Failed(String),
}

static STATE: Mutex<State> = Mutex::new(State {
    option: None,
    submission: Submission::New,
    hidden_option: None,
    step: None,
    panic_in_option: false,
});

/// Reads or changes the state. `None` when another thread holds the lock, which does not happen in Slurm. Never waits: a task's process
/// is forked from one with threads, and a lock that was held at the fork is never released.
pub fn change<R>(with: impl FnOnce(&mut State) -> R) -> Option<R> {
    match STATE.try_lock() {
        Ok(mut state) => Some(with(&mut state)),
        // A hook has panicked. Its half-changed state is still valid.
        Err(TryLockError::Poisoned(poisoned)) => Some(with(&mut poisoned.into_inner())),
        Err(TryLockError::WouldBlock) => None,
    }
}
