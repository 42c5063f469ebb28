// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who opens sealed credentials and exchanges tokens: this node itself (direct mode), or later a broker.

use std::time::Duration;

use mytoken::{Deadline, Secret};
use mytoken_wire::agent::JobStart;

use super::lease::Source;

/// What a job that may have a token is told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Profile of the submission.
    pub profile: String,
    /// Handle of the submission.
    pub handle: String,
    /// The user demanded a credential.
    pub required: bool,
    /// Expiry of the sub-token, Unix seconds.
    pub exp: u64,
    /// What it is good for, a sentence.
    pub told: String,
}

/// A job that gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// A sentence for the job's owner.
    pub text: String,
    /// The user demanded a credential, as far as that could be found out.
    pub required: bool,
}

/// A fresh access token.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// The token.
    pub token: Secret,
    /// Expiry, Unix seconds.
    pub exp: u64,
    /// Lifetime in seconds.
    pub lifetime: u64,
}

/// Why an exchange or revocation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A sentence without secrets.
    pub text: String,
    /// Whether the same request may succeed later.
    pub temporary: bool,
    /// The server wants to be left alone so long.
    pub retry_after: Option<Duration>,
}

/// Opens, exchanges, revokes.
pub trait Authority: Send + Sync {
    /// Opens the sealed text that a starting job carries and checks that it is this job's.
    ///
    /// # Errors
    /// [`Denied`].
    fn admit(&self, start: &JobStart, sealed: &str, now: u64) -> Result<Admitted, Denied>;

    /// Obtains an access token; `comment` goes to the server's log.
    ///
    /// # Errors
    /// [`Failure`].
    fn access_token(&self, source: &Source, comment: &str, deadline: Deadline) -> Result<Fresh, Failure>;

    /// Revokes the sub-token in a sealed text.
    ///
    /// # Errors
    /// [`Failure`].
    fn revoke(&self, source: &Source, deadline: Deadline) -> Result<(), Failure>;
}
