// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one hook leaves for the next in the same process. SPANK's callbacks carry no pointer of ours, so it is a static.

use std::path::PathBuf;
use std::sync::{Mutex, TryLockError};

use crate::carriers::Credential;
use crate::wish::Wish;

/// Everything that is remembered.
#[derive(Debug)]
pub struct State {
    /// The last `--mytoken` of this process, as typed or, on a node, as sent.
    pub wish: Option<Wish>,
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
    /// It is in the environment.
    Placed(Credential),
    /// There is none, and why.
    Failed(String),
}

/// A step's access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `BEARER_TOKEN_FILE`.
    pub file: PathBuf,
    /// Whether it is there, will be, or why not.
    pub outlook: Outlook,
    /// The job demands it.
    pub required: bool,
}

/// Whether the access token is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// The agent said so.
    Ready,
    /// The agent is still at it.
    Pending,
    /// No, and why.
    Failed(String),
}

static STATE: Mutex<State> = Mutex::new(State {
    wish: None,
    submission: Submission::New,
    hidden_option: None,
    step: None,
    panic_in_option: false,
});

/// Reads or changes the state. `None` when another thread is at it, which Slurm does not do; a task's process is forked from a
/// process with threads, so that waiting for the lock could be for ever.
pub fn change<R>(with: impl FnOnce(&mut State) -> R) -> Option<R> {
    match STATE.try_lock() {
        Ok(mut state) => Some(with(&mut state)),
        // A hook has panicked; what it left is still the best there is.
        Err(TryLockError::Poisoned(poisoned)) => Some(with(&mut poisoned.into_inner())),
        Err(TryLockError::WouldBlock) => None,
    }
}
