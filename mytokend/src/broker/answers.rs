// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answers to the requests of nodes.

use std::time::Duration;

use mytoken_wire::agent::JobStart;

use super::binding::{self, Asked, BindingRefusal};
use super::messages::{
    EndAnswer, EndRequest, JobsAnswer, PermitRequest, StartAnswer, TokenAnswer, TokenOutcome, TokenRequest,
};
use super::slurmctld::{self, Answered};
use super::submission::{End, TokenState};
use super::{Broker, State, SubmissionKey, millis, submission};
use crate::agent::budget::site::SitePermit;
use crate::agent::credential_service::{Admitted, Denied, IssuedToken, RequestFailure};
use crate::agent::lanes::Place;
use crate::broker::work::Work;
use crate::log::Level;

/// How long a node waits at most for a token, and for slurmctld.
const LONGEST_PATIENCE: Duration = Duration::from_secs(30);

/// A node that was told to come later comes after this time at the earliest.
const LATER: Duration = Duration::from_secs(5);

/// How long the end of a submission waits for slurmctld.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Nodes tell an end again after this time if the broker has no room for the submission.
const END_PAUSE: Duration = Duration::from_secs(120);

impl Broker {
    /// The access token of a job that runs on `node`.
    pub async fn token(&self, node: &str, request: &TokenRequest) -> TokenAnswer {
        let admitted = match self.admit(request.job, request.uid, &request.sealed) {
            Ok(admitted) => admitted,
            Err(Denied { reason, required }) => {
                self.tell(request.uid, node, request.job, &reason);
                return TokenAnswer { outcome: TokenOutcome::Refused { reason, required }, admitted: None };
            }
        };
        let patience = Duration::from_millis(request.patience).min(LONGEST_PATIENCE);
        let begin = self.clock.elapsed();
        let outcome = tokio::time::timeout(patience, self.outcome(node, request, &admitted));
        let outcome = outcome.await.unwrap_or_else(|_| self.when_time_is_up(request, &admitted, begin));
        TokenAnswer { outcome, admitted: Some(admitted) }
    }

    /// No job of the submission runs on `node` any more.
    pub async fn end(&self, node: &str, request: &EndRequest) -> EndAnswer {
        // A credential that cannot be opened, or is of another user, cannot be revoked.
        let Ok(admitted) = self.admit(request.job, request.uid, &request.sealed) else { return EndAnswer::Settled {} };
        let key = SubmissionKey { uid: request.uid, handle: admitted.handle.clone() };
        let leader = self.leader_of_ended(node, request, &key).await;
        let mut state = self.state();
        let Some(submission) = submission(&mut state, &key, &request.sealed, &admitted) else {
            return EndAnswer::Waits { wait: millis(END_PAUSE) };
        };
        submission.binding.leaders.extend(leader);
        submission.jobs.insert(request.job);
        submission.judged_from = Duration::ZERO;
        match submission.end {
            End::Settled { .. } => EndAnswer::Settled {},
            End::Open { .. } => {
                let now = self.clock.elapsed();
                self.questions.plan(now);
                EndAnswer::Waits { wait: millis(submission.node_ended(now)) }
            }
            End::Revoking { .. } => EndAnswer::Waits { wait: millis(submission.node_ended(self.clock.elapsed())) },
        }
    }

    /// The leader of a job that has ended, for a submission of which no job is known: this broker has started anew. Only slurmctld proves
    /// that the job was on the node; without that, the submission waits for all jobs of its user.
    async fn leader_of_ended(&self, node: &str, request: &EndRequest, key: &SubmissionKey) -> Option<u32> {
        if self.state().submissions.get(key).is_some_and(|known| !known.binding.leaders.is_empty()) {
            return None;
        }
        let leader = |answered: &Answered| {
            let job = answered.jobs.as_ref()?.job(request.job)?;
            (job.uid == request.uid && job.had(node)).then_some(job.leader)
        };
        let (now, answered) = (self.clock.elapsed(), self.questions.last());
        if let Some(leader) = leader(&answered) {
            return Some(leader);
        }
        let answered = tokio::time::timeout(END_PATIENCE, self.questions.after(now)).await.ok()?;
        leader(&answered)
    }

    /// When the present run of a job on `node` began. `None`: slurmctld does not answer.
    pub async fn start(&self, node: &str, job: u32) -> Option<StartAnswer> {
        // An earlier answer may show the run before a requeue.
        let answered = self.questions.after(self.clock.elapsed());
        let answered = tokio::time::timeout(LONGEST_PATIENCE, answered).await.ok()?;
        if answered.trouble.is_some() {
            return None;
        }
        let job = answered.jobs?.job(job).filter(|job| job.is_on(node)).cloned();
        Some(StartAnswer { started: job.and_then(|job| job.started) })
    }

    /// A permit for a request of `host` to a mytoken server.
    #[must_use]
    pub fn permit(&self, host: &str, request: &PermitRequest) -> SitePermit {
        let service = self.service();
        let Some(budgets) = service.budgets() else { return SitePermit::Unlimited {} };
        let now = millis(self.clock.elapsed());
        self.hosts.give(budgets, host, (&request.server, request.purpose, request.uid), now)
    }

    /// The jobs of a user.
    pub async fn jobs(&self, uid: u32) -> Option<JobsAnswer> {
        let now = self.clock.elapsed();
        let mut answered = self.questions.last();
        if answered.jobs.is_none() || now.saturating_sub(answered.asked) > slurmctld::INTERVAL {
            answered = tokio::time::timeout(LONGEST_PATIENCE, self.questions.after(now)).await.ok()?;
        }
        let jobs = answered.jobs.filter(|_| answered.trouble.is_none())?;
        Some(JobsAnswer { lines: jobs.of_user(uid).to_owned() })
    }

    pub(super) fn admit(&self, job: u32, uid: u32, sealed: &str) -> Result<Admitted, Denied> {
        let now = self.clock.elapsed();
        if let Some(admitted) = self.opened.get(uid, sealed, now) {
            return Ok(admitted);
        }
        let (step, gid, array_job, name, handle) = (0, 0, None, None, None);
        let start = JobStart { job, step, uid, gid, array_job, name, sealed: None, handle, at: None };
        let admitted = self.service().admit(&start, sealed)?;
        self.opened.keep(uid, sealed, &admitted, now);
        Ok(admitted)
    }

    async fn outcome(&self, node: &str, request: &TokenRequest, admitted: &Admitted) -> TokenOutcome {
        let key = SubmissionKey { uid: request.uid, handle: admitted.handle.clone() };
        if let Err(outcome) = self.bind(node, request, admitted, &key).await {
            return outcome;
        }
        loop {
            let mut answered = {
                let mut state = self.state();
                let Some(submission) = state.submissions.get_mut(&key) else { return self.later("the broker is busy") };
                if !matches!(submission.end, End::Open { .. }) {
                    return TokenOutcome::Refused {
                        reason: "the submission is over, and its credential was revoked".to_owned(),
                        required: admitted.required,
                    };
                }
                let lane = submission.admitted.lane.clone();
                let file = submission.tokens.entry(request.file.clone()).or_default();
                let answered = file.answered.subscribe();
                match file.state(self.clock.elapsed()) {
                    TokenState::Ready(token) => return outcome_of(Ok(token), admitted.required),
                    TokenState::Failed(failure) => return outcome_of(Err(failure), admitted.required),
                    TokenState::Wait => {}
                    TokenState::Ask => {
                        file.asked = true;
                        let place = Place { lane, uid: key.uid };
                        state.tokens.push(place, Work::Token(key.clone(), request.file.clone()));
                        // All: the threads for revocations wait for it too.
                        self.queued.notify_all();
                    }
                }
                answered
            };
            if answered.changed().await.is_err() {
                return self.later("the broker stops");
            }
        }
    }

    /// Finds out from slurmctld whether the job may have the token, and notes it.
    async fn bind(
        &self,
        node: &str,
        request: &TokenRequest,
        admitted: &Admitted,
        key: &SubmissionKey,
    ) -> Result<(), TokenOutcome> {
        let begin = self.clock.elapsed();
        let mut answered = self.questions.last();
        loop {
            let refusal = match self.judge(node, request, admitted, key, &answered) {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            };
            // The job may have started since the answer.
            if refusal.as_ref().is_none_or(BindingRefusal::may_be_late) && answered.asked < begin {
                answered = self.questions.newer(&answered).await;
                continue;
            }
            let Some(refusal) = refusal else {
                // A broker that has just started has had no answer of slurmctld, which may be away.
                let trouble = answered.trouble.as_ref().filter(|_| answered.jobs.is_none());
                let reason = trouble
                    .map_or_else(|| "the broker has too many submissions".to_owned(), |trouble| cannot_ask(trouble));
                return Err(self.later(&reason));
            };
            if let (Some(trouble), true) = (&answered.trouble, refusal.may_be_late()) {
                return Err(self.later(&cannot_ask(trouble)));
            }
            self.tell(request.uid, node, request.job, &refusal.to_string());
            let reason = refusal.to_string();
            return Err(if refusal.may_be_late() {
                self.later(&reason)
            } else {
                TokenOutcome::Refused { reason, required: admitted.required }
            });
        }
    }

    /// Judges by one answer of slurmctld. `Err(None)`: there is no room, or no answer yet.
    fn judge(
        &self,
        node: &str,
        request: &TokenRequest,
        admitted: &Admitted,
        key: &SubmissionKey,
        answered: &Answered,
    ) -> Result<(), Option<BindingRefusal>> {
        let jobs = answered.jobs.as_ref().ok_or(None)?;
        let submitted = self.submitted(admitted, answered);
        let mut state = self.state();
        let mut bound = state.submissions.get(key).map(|known| known.binding.clone()).unwrap_or_default();
        bound.submitted = submitted;
        let asked = Asked { job: request.job, uid: request.uid, node };
        let leader = binding::judge(jobs.job(request.job), asked, &bound)?;
        let submission = submission(&mut state, key, &request.sealed, admitted).ok_or(None)?;
        submission.binding.submitted = submitted;
        submission.binding.leaders.insert(leader);
        submission.jobs.insert(request.job);
        submission.judged_from = Duration::ZERO;
        Ok(())
    }

    /// The token that there is, or that there is none yet.
    fn when_time_is_up(&self, request: &TokenRequest, admitted: &Admitted, begin: Duration) -> TokenOutcome {
        let key = SubmissionKey { uid: request.uid, handle: admitted.handle.clone() };
        let now = self.clock.elapsed();
        let state = self.state();
        let bound = state.submissions.get(&key).filter(|submission| submission.jobs.contains(&request.job));
        let token = bound.and_then(|submission| submission.tokens.get(&request.file)?.usable(now));
        drop(state);
        if let Some(token) = token {
            return outcome_of(Ok(token), admitted.required);
        }
        let seconds = now.saturating_sub(begin).as_secs();
        let (what, wait) = if bound_to(&self.state(), &key, request.job) {
            ("the mytoken server", Duration::ZERO)
        } else {
            ("slurmctld", LATER)
        };
        let reason = format!("{what} has not answered the broker within {seconds} s");
        TokenOutcome::Later { reason, wait: (!wait.is_zero()).then(|| millis(wait)) }
    }

    fn later(&self, reason: &str) -> TokenOutcome {
        TokenOutcome::Later { reason: reason.to_owned(), wait: Some(millis(LATER)) }
    }

    fn tell(&self, uid: u32, node: &str, job: u32, reason: &str) {
        let text = format!("node {node}, job {job} uid {uid}: no access token: {reason}");
        if self.told.is_new(&text, self.clock.elapsed()) {
            self.log.line_of(uid, Level::Warning, &text);
        }
    }
}

fn cannot_ask(trouble: &str) -> String {
    format!("the broker cannot ask slurmctld about the job: {trouble}")
}

fn bound_to(state: &State, key: &SubmissionKey, job: u32) -> bool {
    state.submissions.get(key).is_some_and(|submission| submission.jobs.contains(&job))
}

fn outcome_of(result: Result<IssuedToken, RequestFailure>, required: bool) -> TokenOutcome {
    match result {
        Ok(IssuedToken { token, left, lifetime }) => TokenOutcome::Token { token, left, lifetime },
        Err(RequestFailure { reason, temporary: true, retry_after, .. }) => {
            TokenOutcome::Later { reason, wait: retry_after.map(millis) }
        }
        Err(RequestFailure { reason, .. }) => TokenOutcome::Refused { reason, required },
    }
}
