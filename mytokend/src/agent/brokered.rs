// SPDX-License-Identifier: MIT OR Apache-2.0
//! Broker mode: this node has no key of the cluster. It asks a broker for the access tokens of its jobs, and tells it when they have ended.
//! Login sessions, and submissions of this host, need no key: their requests go to the mytoken servers as in direct mode.

mod kept_texts;
mod learned;
mod pending;

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mytoken::Deadline;
use mytoken_wire::agent::{HandedOver, JobStart, Register, RenewalCredential, ReplacePending};
use mytoken_wire::{FileName, Handle, sealed};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use self::learned::Learned;
use super::broker_connection::BrokerConnection;
use super::budget::Budgets;
use super::budget::site::{SitePermit, SitePermits};
use super::credential_service::{Admitted, Charge, CredentialService, Denied, IssuedToken, RequestFailure};
use super::direct::DirectMode;
use super::lease::LeaseCredential;
use super::slurm::{Controller, ControllerFacts, Squeue, SqueueError};
use crate::broker::client::ClientError;
use crate::broker::messages::{
    END_PATH, EndAnswer, EndRequest, FORGET_PATH, ForgetAnswer, ForgetRequest, JOBS_PATH, JobsAnswer, JobsRequest,
    KEEP_PATH, KeepAnswer, KeepRequest, PERMIT_PATH, PermitRequest, START_PATH, StartAnswer, StartRequest, TOKEN_PATH,
    TokenAnswer, TokenOutcome, TokenRequest,
};
use crate::jobs::job_start::StartRefusal;

/// The lane of jobs whose provider the broker has not told yet.
const LANE: &str = "broker";

/// Time limit of a question for a permit: a submission waits for it.
const PERMIT: Duration = Duration::from_secs(1);

/// HTTP status: the broker does not know the request.
const NOT_FOUND: u16 = 404;

/// Time limit of a question about the jobs of a user.
const JOBS: Duration = Duration::from_secs(10);

/// The credential service of broker mode.
pub struct BrokerMode {
    direct: DirectMode,
    connection: Arc<BrokerConnection>,
    memory: Arc<BrokerMemory>,
}

/// What brokers have told this node. It outlives a reload.
#[derive(Default)]
pub struct BrokerMemory {
    /// Of credentials, by their hash.
    learned: Mutex<Learned>,
    /// Texts that they keep for jobs of this node, by user and handle.
    texts: Mutex<HashMap<(u32, String), String>>,
}

impl BrokerMode {
    /// Broker mode. `direct` serves login sessions.
    #[must_use]
    pub fn new(direct: DirectMode, connection: Arc<BrokerConnection>, memory: Arc<BrokerMemory>) -> Self {
        Self { direct, connection, memory }
    }

    fn learn(&self, credential: &LeaseCredential, admitted: Admitted) {
        if let Some(hash) = hash_of(credential) {
            self.memory.learned.lock().unwrap_or_else(PoisonError::into_inner).put(hash, admitted);
        }
    }

    fn token(
        &self,
        credential: &LeaseCredential,
        sealed: &str,
        file: Option<&FileName>,
        charge: Charge,
        deadline: Deadline,
    ) -> Result<IssuedToken, RequestFailure> {
        let job = charge.job.ok_or_else(|| RequestFailure::temporary("no job of the credential runs here"))?;
        let request = |part: Duration| TokenRequest {
            job,
            uid: charge.uid,
            sealed: sealed.to_owned(),
            file: file.cloned(),
            patience: patience(part),
        };
        let TokenAnswer { outcome, admitted } =
            self.connection.post_within(TOKEN_PATH, &request, deadline).map_err(|error| failure(&error))?;
        if let Some(admitted) = admitted {
            self.learn(credential, admitted);
        }
        match outcome {
            TokenOutcome::Token { token, left, lifetime } => {
                Ok(IssuedToken { token, left: Duration::from_secs(left), lifetime })
            }
            TokenOutcome::Later { reason, wait } => Err(later(reason, wait)),
            TokenOutcome::Refused { reason, .. } => Err(RequestFailure::permanent(reason)),
        }
    }

    fn end(&self, sealed: &str, charge: Charge, deadline: Deadline) -> Result<(), RequestFailure> {
        let request = EndRequest { job: charge.job.unwrap_or_default(), uid: charge.uid, sealed: sealed.to_owned() };
        match self.connection.post(END_PATH, &request, deadline).map_err(|error| failure(&error))? {
            EndAnswer::Settled {} => Ok(()),
            EndAnswer::Waits { wait } => Err(RequestFailure {
                retry_after: Some(Duration::from_millis(wait)),
                unsent: true,
                ..RequestFailure::temporary("the broker revokes the sub-token when the submission is over")
            }),
        }
    }
}

/// What the broker keeps of a node's patience for its way back.
const MARGIN: Duration = Duration::from_millis(200);

/// How long a broker may take that gets this part of the time, in milliseconds. With more, its own answer would never arrive, and the next
/// broker would ask once more for the same.
fn patience(part: Duration) -> u64 {
    u64::try_from(part.saturating_sub(MARGIN).as_millis()).unwrap_or(u64::MAX)
}

/// The broker has no token now, and perhaps tells when to ask again, in milliseconds.
fn later(reason: String, wait: Option<u64>) -> RequestFailure {
    let retry_after = wait.map(Duration::from_millis);
    RequestFailure { retry_after, by_broker: true, ..RequestFailure::temporary(reason) }
}

fn failure(error: &ClientError) -> RequestFailure {
    RequestFailure::temporary(error.to_string())
}

/// What is known of a credential until the broker has opened it.
fn provisional(handle: String, description: &str) -> Admitted {
    Admitted {
        profile: "-".to_owned(),
        handle,
        required: false,
        made: 0,
        exp: u64::MAX,
        windows: Vec::new(),
        start_windows: Vec::new(),
        submitted: None,
        followed: false,
        lane: LANE.to_owned(),
        limited_uses: true,
        description: description.to_owned(),
        files: Vec::new(),
        is_provisional: true,
    }
}

fn hash_of(credential: &LeaseCredential) -> Option<[u8; 32]> {
    match credential {
        LeaseCredential::Sealed(text) => Some(hash(text)),
        LeaseCredential::Registered { uid, handle } => Some(hash(&format!("{uid} {handle}"))),
        LeaseCredential::Mytoken(_) | LeaseCredential::SubToken { .. } => None,
    }
}

fn hash(sealed: &str) -> [u8; 32] {
    Sha256::digest(sealed).into()
}

/// The handle of a submission while the broker has not told its own: that in the job's environment, or one made of the sealed text, which
/// all steps of the submission bring. A wrong one in the environment joins only credentials of the same user.
fn provisional_handle(start: &JobStart, sealed: &str) -> String {
    let own = start.handle.as_deref().filter(|handle| Handle::parse(handle).is_some());
    own.map_or_else(
        || {
            hash(sealed).iter().take(16).fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        },
        str::to_owned,
    )
}

impl CredentialService for BrokerMode {
    /// Only the broker can open the text. The first answer to a request for a token says what it contains.
    fn admit(&self, start: &JobStart, text: &str) -> Result<Admitted, Denied> {
        if let Err(fault) = sealed::parse(text) {
            let reason = format!("the job's credential is not valid: {fault}");
            return Err(Denied { reason, required: false, is_final: true, has_retired_key: false });
        }
        Ok(provisional(provisional_handle(start, text), "the broker opens the credential"))
    }

    /// Which broker keeps it, if any, is found out by the first request for a token.
    fn registered(&self, start: &JobStart) -> Option<Admitted> {
        let handle = start.handle.as_deref().filter(|handle| Handle::parse(handle).is_some())?;
        if !self.connection.keeps_texts() {
            return None;
        }
        Some(provisional(handle.to_owned(), "the brokers are asked for the credential"))
    }

    fn register(&self, uid: u32, register: &Register, deadline: Deadline) -> Result<Vec<String>, String> {
        let Register { handle, sealed } = register;
        let (is_kept, mut problems) = (Cell::new(false), Vec::new());
        let mut take = |answer: Result<KeepAnswer, ClientError>| {
            match answer {
                Ok(KeepAnswer::Kept {}) => is_kept.set(true),
                Ok(KeepAnswer::Refused { reason }) => problems.push(format!("a broker keeps no credential: {reason}")),
                Err(error) => problems.push(error.to_string()),
            }
            ControlFlow::Continue(())
        };
        // The first that keeps it is asked to follow the submission.
        let mut body = || KeepRequest { uid, handle: handle.clone(), sealed: sealed.clone(), follows: !is_kept.get() };
        let asked = self.connection.post_each(KEEP_PATH, deadline, &mut body, &mut take);
        asked.map_err(|error| error.to_string())?;
        if is_kept.get() { Ok(problems) } else { Err(problems.pop().unwrap_or_default()) }
    }

    fn replace_pending(&self, uid: u32, pending: &ReplacePending, deadline: Deadline) -> HandedOver {
        self.hand_over(uid, pending, deadline)
    }

    fn forget(&self, uid: u32, handle: &str, deadline: Deadline) -> Result<(), String> {
        if !self.connection.keeps_texts() {
            return Ok(());
        }
        let (request, mut failed) = (ForgetRequest { uid, handle: handle.to_owned() }, None);
        let mut take = |answer: Result<ForgetAnswer, ClientError>| {
            match answer {
                // A broker of an earlier version does not know the request.
                Ok(_) | Err(ClientError::Refused { status: NOT_FOUND, .. }) => {}
                Err(error) => failed = Some(error.to_string()),
            }
            ControlFlow::Continue(())
        };
        let told = self.connection.post_each(FORGET_PATH, deadline, &mut || request.clone(), &mut take);
        told.map_err(|error| error.to_string())?;
        failed.map_or(Ok(()), Err)
    }

    fn learned(&self, credential: &LeaseCredential) -> Option<Admitted> {
        self.memory.learned.lock().unwrap_or_else(PoisonError::into_inner).take(hash_of(credential)?)
    }

    fn decides_ends(&self) -> bool {
        true
    }

    fn job_for(&self, credential: &LeaseCredential, jobs: &[u32], deadline: Deadline) -> Option<u32> {
        match credential {
            LeaseCredential::Registered { uid, handle } => self.job_with_text(*uid, handle, jobs, deadline),
            _ => jobs.first().copied(),
        }
    }

    fn access_token(
        &self,
        credential: &LeaseCredential,
        file: Option<&FileName>,
        comment: &str,
        charge: Charge,
        deadline: Deadline,
    ) -> Result<IssuedToken, RequestFailure> {
        match credential {
            LeaseCredential::Sealed(text) => self.token(credential, text, file, charge, deadline),
            LeaseCredential::Registered { uid, handle } => match self.text(*uid, handle, charge.job, deadline)? {
                Some(text) => self.token(credential, &text, file, charge, deadline),
                None => Err(RequestFailure::permanent(StartRefusal::NotKept.to_string())),
            },
            other => self.direct.access_token(other, file, comment, charge, deadline),
        }
    }

    fn lane_of(&self, renewal: &RenewalCredential) -> String {
        self.direct.lane_of(renewal)
    }

    fn knows_server(&self, name: &str) -> bool {
        self.direct.knows_server(name)
    }

    fn revoke(&self, credential: &LeaseCredential, charge: Charge, deadline: Deadline) -> Result<(), RequestFailure> {
        match credential {
            LeaseCredential::Sealed(text) => self.end(text, charge, deadline),
            LeaseCredential::Registered { uid, handle } => {
                // Whoever keeps no text has revoked its sub-token, or it has expired.
                let ended = match self.text(*uid, handle, None, deadline)? {
                    Some(text) => self.end(&text, charge, deadline),
                    None => Ok(()),
                };
                if ended.is_ok() {
                    self.texts().remove(&(*uid, handle.clone()));
                }
                ended
            }
            other => self.direct.revoke(other, charge, deadline),
        }
    }

    fn budgets(&self) -> Option<&Budgets> {
        self.direct.budgets()
    }

    fn ask_for_limit(&self, server: &str, deadline: Deadline) {
        self.direct.ask_for_limit(server, deadline);
    }

    fn server_time(&self, server: &str) -> Option<u64> {
        self.direct.server_time(server)
    }

    fn key_ids(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Answers about jobs from the broker, which asks slurmctld for all nodes. On a host that is not enrolled, squeue is asked: there, jobs are
/// only submitted, or the broker has not been there yet.
pub struct BrokeredJobs {
    /// The connection.
    pub connection: Arc<BrokerConnection>,
    /// squeue on this host.
    pub squeue: Squeue,
}

impl BrokeredJobs {
    fn ask<T: DeserializeOwned>(&self, path: &str, question: &impl Serialize) -> Result<T, SqueueError> {
        let answer = self.connection.post(path, question, Deadline::after(JOBS));
        answer.map_err(|error| SqueueError::Failed(error.to_string()))
    }
}

impl Controller for BrokeredJobs {
    fn jobs_of(&self, uid: u32) -> Result<String, SqueueError> {
        if !self.connection.is_enrolled() {
            return self.squeue.jobs_of(uid);
        }
        Ok(self.ask::<JobsAnswer>(JOBS_PATH, &JobsRequest { uid })?.lines)
    }

    fn start_of(&self, job: u32) -> Result<Option<u64>, SqueueError> {
        Ok(self.ask::<StartAnswer>(START_PATH, &StartRequest { job })?.started)
    }

    /// Asked for submissions of this host only.
    fn itself(&self) -> Option<ControllerFacts> {
        self.squeue.itself()
    }
}

/// Permits of the brokers for the requests of this host.
pub struct BrokerPermits(
    /// The connection.
    pub Arc<BrokerConnection>,
);

impl SitePermits for BrokerPermits {
    fn permit(&self, request: &PermitRequest) -> Option<SitePermit> {
        self.0.post(PERMIT_PATH, request, Deadline::after(PERMIT)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_answers_before_the_node_asks_the_next_one() {
        assert_eq!([0, 150, 5_000].map(|part| patience(Duration::from_millis(part))), [0, 0, 4_800]);
    }

    #[test]
    fn a_node_comes_when_the_broker_says() {
        let told = later("the server is away".to_owned(), Some(5_000));
        assert!((5_100..=6_000).contains(&told.pause(9, 3_600, None, 0.9).as_millis()), "and not minutes later");
        let untold = later("the server is away".to_owned(), None);
        assert_eq!(untold.pause(9, 3_600, None, 1.0).as_secs(), 180);
    }
}
