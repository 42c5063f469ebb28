// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service that opens sealed credentials, obtains access tokens and revokes sub-tokens. [`super::direct`] implements it on this node; a
//! broker will be the second implementation.

use std::time::Duration;

use mytoken::{Deadline, Secret};
use mytoken_wire::FileName;
use mytoken_wire::agent::{HandOver, HandedOver, JobStart, Register, RenewalCredential, ReplacePending};
use serde::{Deserialize, Serialize};

use super::budget::Budgets;
use super::budget::ledger::Purpose;
use super::lease::{AdmittedFile, LeaseCredential};
use crate::jobs::{StartWindow, Window, backoff, told_pause};

/// The content of an opened credential, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// Profile of the submission.
    pub profile: String,
    /// Handle of the submission.
    pub handle: String,
    /// Whether the job must fail without a credential.
    pub required: bool,
    /// When the sub-token was made, Unix seconds of its server's clock. 0: not known.
    #[serde(default)]
    pub made: u64,
    /// Expiry of the sub-token, Unix seconds.
    pub exp: u64,
    /// When the sub-token gives access tokens, as its own text says. Empty: always.
    pub windows: Vec<Window>,
    /// When its jobs get access tokens, counted from the start of each. Empty: always. The server does not know these windows.
    pub start_windows: Vec<StartWindow>,
    /// Begin and end of the time in which jobs may have been submitted with it, Unix seconds. Only if several submissions share it.
    pub submitted: Option<(u64, u64)>,
    /// The agent of the submission's host follows it, too.
    pub followed: bool,
    /// Where requests for its access tokens belong: mytoken server and provider.
    pub lane: String,
    /// Whether the sub-token limits the number of access tokens.
    pub limited_uses: bool,
    /// Scopes and audience of the sub-token, as text for the job's owner.
    pub description: String,
    /// The further files of the submission.
    pub files: Vec<AdmittedFile>,
    /// The text could not be opened here. A later answer says what it contains.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_provisional: bool,
}

impl Admitted {
    /// The URL of the mytoken server in its lane.
    #[must_use]
    pub fn server(&self) -> &str {
        self.lane.split(' ').next().unwrap_or_default()
    }
}

/// The credential of a job was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The reason, a sentence for the job's owner.
    pub reason: String,
    /// Whether the job must fail without a credential. False when the sealed text could not be opened.
    pub required: bool,
    /// Whether the text is refused everywhere, and for good. False when this process lacks the key or the server: another broker, or this one
    /// after a reload, may have it.
    pub is_final: bool,
    /// Whether its key was retired: a job gets no token of it from any host. One that still has the key may revoke its sub-token.
    pub has_retired_key: bool,
}

/// A new access token.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The token.
    pub token: Secret,
    /// Time until its expiry, counted from the answer. It does not depend on this machine's clock if the answer names it.
    pub left: Duration,
    /// Lifetime in seconds.
    pub lifetime: u64,
}

/// A request for an access token or a revocation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFailure {
    /// The reason, a sentence without secrets.
    pub reason: String,
    /// Whether the same request may succeed later.
    pub temporary: bool,
    /// The server's `Retry-After`, or when the budget has a permit.
    pub retry_after: Option<Duration>,
    /// Nothing was sent: the budget had no permit.
    pub unsent: bool,
    /// A broker has told the time in `retry_after`. It sends one request for all nodes, so they may come at the same time.
    pub by_broker: bool,
}

/// Who has caused a request, and what it is for: the budget of requests goes by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// The user.
    pub uid: u32,
    /// The purpose.
    pub purpose: Purpose,
    /// A job for which it is, if there is one.
    pub job: Option<u32>,
}

impl RequestFailure {
    /// The same request may succeed later.
    #[must_use]
    pub fn temporary(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), temporary: true, retry_after: None, unsent: false, by_broker: false }
    }

    /// The same request will fail again.
    #[must_use]
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), temporary: false, retry_after: None, unsent: false, by_broker: false }
    }

    /// The pause before the same request is sent again, as [`backoff`] has it, or as the broker has told.
    #[must_use]
    pub fn pause(&self, failures: u32, lifetime: u64, left: Option<u64>, draw: f64) -> Duration {
        match self.retry_after.filter(|_| self.by_broker) {
            Some(told) => told_pause(told, draw),
            None => backoff(failures, lifetime, left, self.retry_after, draw),
        }
    }
}

/// Opens credentials, obtains tokens, revokes them.
pub trait CredentialService: Send + Sync {
    /// Opens the sealed text of a starting job and checks that it was made for this job's user and cluster, and has not expired by its
    /// server's clock.
    ///
    /// # Errors
    /// [`Denied`].
    fn admit(&self, start: &JobStart, sealed: &str) -> Result<Admitted, Denied>;

    /// The content of a credential that has expired: another one may have replaced it. `None`: it cannot be used for another reason, too.
    fn admit_expired(&self, _start: &JobStart, _sealed: &str) -> Option<Admitted> {
        None
    }

    /// The content of a credential of which the job has brought only the handle. `None`: nobody keeps such credentials.
    fn registered(&self, _start: &JobStart) -> Option<Admitted> {
        None
    }

    /// Gives the sealed credential of a submission to the brokers. Returns what the administrator must know.
    ///
    /// # Errors
    /// Why no broker keeps it: a sentence for the user.
    fn register(&self, _uid: u32, _register: &Register, _deadline: Deadline) -> Result<Vec<String>, String> {
        Err("this host asks no brokers".to_owned())
    }

    /// Gives the brokers a new credential for a job of the user `uid` that waits.
    fn replace_pending(&self, _uid: u32, _pending: &ReplacePending, _deadline: Deadline) -> HandedOver {
        HandedOver { outcome: HandOver::Refused, reason: Some("this host asks no brokers".to_owned()) }
    }

    /// A submission that was made on this host is over: the brokers need not keep its credential any more.
    ///
    /// # Errors
    /// A sentence, when a broker could not be told now.
    fn forget(&self, _uid: u32, _handle: &str, _deadline: Deadline) -> Result<(), String> {
        Ok(())
    }

    /// The job for which a token of this credential is asked, of those that run with it here.
    fn job_for(&self, _credential: &LeaseCredential, jobs: &[u32], _deadline: Deadline) -> Option<u32> {
        jobs.first().copied()
    }

    /// Obtains an access token: for the main file, or for a further one. The mytoken server writes `comment` into the token's history.
    ///
    /// # Errors
    /// [`RequestFailure`].
    fn access_token(
        &self,
        credential: &LeaseCredential,
        file: Option<&FileName>,
        comment: &str,
        charge: Charge,
        deadline: Deadline,
    ) -> Result<IssuedToken, RequestFailure>;

    /// Where requests with a session's mytoken belong: mytoken server and provider.
    fn lane_of(&self, renewal: &RenewalCredential) -> String;

    /// Whether `mytoken.toml` names this mytoken server.
    fn knows_server(&self, name: &str) -> bool;

    /// Revokes the sub-token of a submission with all that was made of it, or a session's mytoken alone.
    ///
    /// # Errors
    /// [`RequestFailure`].
    fn revoke(&self, credential: &LeaseCredential, charge: Charge, deadline: Deadline) -> Result<(), RequestFailure>;

    /// What the last request has told of a credential that could not be opened here. It is told once.
    fn learned(&self, _credential: &LeaseCredential) -> Option<Admitted> {
        None
    }

    /// Whether it finds out itself when a submission is over. `revoke` then only tells it that no job of it runs here any more.
    fn decides_ends(&self) -> bool {
        false
    }

    /// The budgets of requests to the mytoken servers. `None`: this service does not count.
    fn budgets(&self) -> Option<&Budgets> {
        None
    }

    /// Sends the server at this URL a request whose answer tells what is left of its limit.
    fn ask_for_limit(&self, _server: &str, _deadline: Deadline) {}

    /// The time of day at a mytoken server, by its URL or its name, Unix seconds. `None` while the server has not told it.
    fn server_time(&self, server: &str) -> Option<u64>;

    /// The earliest time of day at the mytoken servers that have told it, Unix seconds.
    fn earliest_server_time(&self) -> Option<u64> {
        None
    }

    /// Ids of the key pairs whose sealed texts it opens, the current one first.
    fn key_ids(&self) -> Vec<String>;
}
