// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answers to the requests of nodes.

use std::time::Duration;

use mytoken_wire::agent::JobStart;

use super::binding::{self, Asked, BindingRefusal};
use super::brought::{Brought, Served};
use super::file_token::TokenState;
use super::messages::{JobsAnswer, PermitRequest, StartAnswer, TokenAnswer, TokenOutcome, TokenRequest};
use super::node_questions::was_there;
use super::places::{NO_ROOM, submission};
use super::replacements::Leader;
use super::slurmctld::{self, Answered};
use super::status::Reason;
use super::submission::End;
use super::submission_key::SubmissionKey;
use super::{Broker, millis};
use crate::agent::budget::site::SitePermit;
use crate::agent::credential_service::{Admitted, Denied, IssuedToken, RequestFailure};
use crate::agent::lanes::{Place, needed};
use crate::broker::work::Work;
use crate::log::Level;

/// How long a node waits at most for a token, and for slurmctld.
const LONGEST_PATIENCE: Duration = Duration::from_secs(30);

/// What the broker tells a node to wait when the cause is slurmctld, or the broker itself.
const LATER: Duration = Duration::from_secs(5);

/// Most requests for access tokens of one user that wait for a worker. Each submission has one or a few at a time, but a node with one job
/// of the user can bring any number of texts that it has sealed itself. Submissions that have had a token may have more.
pub(super) const MOST_WAITING: usize = 1_000;

/// What a node is told if slurmctld does not answer.
pub(super) const NO_SLURMCTLD: &str = "slurmctld does not answer the broker";

/// What a node is told, too, if slurmctld is not asked for it again.
pub(super) const NOT_ASKED: &str =
    "this is its last answer, and it is not asked again yet: this node has asked often for jobs that are not there";

impl Broker {
    /// The access token of a job that runs on `node`.
    ///
    /// # Errors
    /// A sentence: this broker cannot open the credential. Another one may, or this one after a reload.
    pub async fn token(&self, node: &str, request: &TokenRequest) -> Result<TokenAnswer, String> {
        let brought = match self.brought(request.job, request.uid, &request.sealed) {
            Ok(brought) => brought,
            Err(Denied { reason, required, is_final, has_retired_key }) => {
                self.tell(request.uid, node, request.job, &reason);
                if !is_final && !has_retired_key {
                    return Err(reason);
                }
                return Ok(TokenAnswer { outcome: TokenOutcome::Refused { reason, required }, admitted: None });
            }
        };
        let patience = Duration::from_millis(request.patience).min(LONGEST_PATIENCE);
        let begin = self.clock.elapsed();
        let key = SubmissionKey::new(request.uid, &brought.admitted.handle, &request.sealed);
        let mut served = self.served_at_first(key, &brought);
        let outcome = tokio::time::timeout(patience, self.outcome(node, request, &brought, &mut served)).await;
        let required = brought.admitted.required;
        let outcome = outcome.unwrap_or_else(|_| self.when_time_is_up(request, (&served, required), begin));
        Ok(TokenAnswer { outcome, admitted: served.told })
    }

    /// When the present run of a job on `node` began.
    ///
    /// # Errors
    /// A sentence: slurmctld does not answer, or is not asked.
    pub async fn start(&self, node: &str, job: u32) -> Result<StartAnswer, String> {
        // An earlier answer may show the run before a requeue.
        let now = self.clock.elapsed();
        if self.asking.started.may_ask(node, job, now).is_err() {
            return Err(format!("slurmctld was asked about job {job} too often for {node}"));
        }
        let away = || NO_SLURMCTLD.to_owned();
        let unanswered = self.unanswered(&self.asking.started, node, job);
        let answered = tokio::time::timeout(LONGEST_PATIENCE, self.questions.after(now)).await;
        unanswered.answered();
        let answered = answered.map_err(|_| away())?;
        if answered.trouble.is_some() {
            return Err(away());
        }
        let known = answered.jobs.as_ref().ok_or_else(away)?.job(job).filter(|job| job.is_on(node));
        match known {
            Some(_) => self.asking.started.asked(node, job, self.clock.elapsed()),
            None => self.not_shown(&self.asking.started, node, (job, None), &answered),
        }
        Ok(StartAnswer { started: known.and_then(|job| job.started) })
    }

    /// A permit for a request of `host` to a mytoken server.
    #[must_use]
    pub fn permit(&self, host: &str, request: &PermitRequest) -> SitePermit {
        let service = self.service();
        let Some(budgets) = service.budgets() else { return SitePermit::Unlimited {} };
        let now = millis(self.clock.elapsed());
        let server = &request.server;
        let (permit, heard) = self.hosts.answer(budgets, host, request, now);
        if heard.is_to_tell {
            let text = format!(
                "host {host}: it tells of more requests than its part of those to {server}, and further ones are not counted"
            );
            self.log.line(Level::Warning, &text);
        }
        if budgets.must_ask(server) || heard.is_to_verify && budgets.must_verify(server) {
            // The hosts hear its answers, and this broker perhaps sends no request for hours.
            let (lane, work) = (request.server.clone(), Work::Limit(request.server.clone()));
            self.state().tokens.push(Place { lane, uid: 0 }, needed(None, now), work);
            self.queued.notify_all();
        }
        permit
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
        let start = JobStart { job, uid, ..JobStart::default() };
        let admitted = self.service().admit(&start, sealed)?;
        self.opened.keep(uid, sealed, &admitted, now);
        Ok(admitted)
    }

    async fn outcome(
        &self,
        node: &str,
        request: &TokenRequest,
        brought: &Brought,
        served: &mut Served,
    ) -> TokenOutcome {
        match self.bind(node, request, brought).await {
            Ok(found) => *served = found,
            Err(outcome) => {
                // No other credential comes for this job: the node must know whether it may run without one.
                if matches!(outcome, TokenOutcome::Refused { .. }) && brought.expired.is_none() {
                    served.told = Some(brought.admitted.clone());
                }
                return outcome;
            }
        }
        let (key, required) = (served.key.clone(), brought.admitted.required);
        // Each name would get an entry until the end of the submission, and a node can make up any number of names.
        if let Some(name) = request.file.as_ref().filter(|name| !served.has_file(name)) {
            let reason = format!("the credential has no file \"{name}\"");
            self.tell(request.uid, node, request.job, &reason);
            return TokenOutcome::Refused { reason, required };
        }
        loop {
            let (mut answered, look_after) = {
                let mut state = self.state();
                let waiting = state.tokens.waiting_of(key.uid);
                let Some(submission) = state.submissions.get_mut(&key) else { return self.later("the broker is busy") };
                if !matches!(submission.end, End::Open { .. }) {
                    return TokenOutcome::Refused {
                        reason: "the submission is over, and its credential was revoked".to_owned(),
                        required,
                    };
                }
                let has_room = submission.proven || waiting < MOST_WAITING;
                let lane = submission.admitted.lane.clone();
                let file = submission.tokens.entry(request.file.clone()).or_default();
                let answered = file.answered.subscribe();
                let now = self.clock.elapsed();
                let look_after = match file.state(now) {
                    TokenState::Ready(token) => return outcome_of(Ok(token), required),
                    TokenState::Failed(failure) => return outcome_of(Err(failure), required),
                    TokenState::Wait => file.look_after(now),
                    TokenState::Ask if !has_room => {
                        return self.later("too many requests for access tokens of this user wait at the broker");
                    }
                    TokenState::Ask => {
                        let end = file.usable(now).map(|token| millis(now.saturating_add(token.left)));
                        file.ask();
                        let place = Place { lane, uid: key.uid };
                        state.tokens.push(
                            place,
                            needed(end, millis(now)),
                            Work::Token(key.clone(), request.file.clone()),
                        );
                        // All: the threads for revocations wait for it too.
                        self.queued.notify_all();
                        None
                    }
                };
                (answered, look_after)
            };
            let changed = match look_after {
                Some(wait) => match tokio::time::timeout(wait, answered.changed()).await {
                    Ok(changed) => changed,
                    Err(_) => continue,
                },
                None => answered.changed().await,
            };
            if changed.is_err() {
                return self.later("the broker stops");
            }
        }
    }

    /// Finds out from slurmctld whether the job may have the token, and of which credential, and notes it.
    async fn bind(&self, node: &str, request: &TokenRequest, brought: &Brought) -> Result<Served, TokenOutcome> {
        let required = brought.admitted.required;
        let begin = self.clock.elapsed();
        let mut answered = self.questions.last();
        loop {
            let refusal = match self.judge(node, request, brought, &answered) {
                Ok(Some(served)) => {
                    self.asking.running.found(node, request.job);
                    return Ok(served);
                }
                Ok(None) => {
                    let expired = brought.expired.as_ref();
                    let reason = expired.map(|denied| denied.reason.clone()).unwrap_or_default();
                    self.tell(request.uid, node, request.job, &reason);
                    return Err(TokenOutcome::Refused { reason, required });
                }
                Err(refusal) => refusal,
            };
            // No further answer of slurmctld makes room.
            if refusal.is_none() && answered.jobs.is_some() {
                return Err(self.later(NO_ROOM));
            }
            // The job may have started since the answer.
            if refusal.as_ref().is_none_or(BindingRefusal::may_be_late) && answered.asked < begin {
                let pause = refusal.as_ref().map_or(Duration::ZERO, |_| self.pause(node, request.job));
                if pause.is_zero() {
                    let unanswered = self.unanswered(&self.asking.running, node, request.job);
                    answered = self.questions.newer(&answered).await;
                    unanswered.answered();
                    continue;
                }
            }
            let Some(refusal) = refusal else {
                // A broker that has just started has had no answer of slurmctld, which may be away.
                let trouble = answered.trouble.as_ref();
                let reason = trouble.map_or_else(|| NO_SLURMCTLD.to_owned(), |trouble| cannot_ask(trouble));
                return Err(self.later(&reason));
            };
            if let (Some(trouble), true) = (&answered.trouble, refusal.may_be_late()) {
                return Err(self.later(&cannot_ask(trouble)));
            }
            let is_asked = answered.asked >= begin;
            let is_paused = refusal.may_be_late() && !is_asked;
            let refused = refusal.to_string();
            // The same line with and without a question: a node that goes on asking is logged once.
            self.tell(request.uid, node, request.job, &refused);
            let reason = if is_paused { format!("{refused}; {NOT_ASKED}") } else { refused };
            if !refusal.may_be_late() {
                return Err(TokenOutcome::Refused { reason, required });
            }
            if !was_there(&answered, node, (request.job, Some(request.uid))) {
                self.counts.unauthorized(Reason::OtherNode);
            }
            if is_asked {
                self.not_shown(&self.asking.running, node, (request.job, Some(request.uid)), &answered);
            }
            let wait = self.pause(node, request.job).max(LATER);
            return Err(TokenOutcome::Later { reason, wait: Some(millis(wait)) });
        }
    }

    /// Judges by one answer of slurmctld. `Ok(None)`: the credential has expired, and none has replaced it. `Err(None)`: there is no room,
    /// or no answer yet.
    fn judge(
        &self,
        node: &str,
        request: &TokenRequest,
        Brought { admitted, expired }: &Brought,
        answered: &Answered,
    ) -> Result<Option<Served>, Option<BindingRefusal>> {
        let jobs = answered.jobs.as_ref().ok_or(None)?;
        let (job, uid) = (jobs.job(request.job), request.uid);
        let key = SubmissionKey::new(uid, &admitted.handle, &request.sealed);
        let time = self.submission_time(admitted, answered);
        let submitted = admitted.submitted.map(|_| time);
        let own = job.filter(|job| job.uid == uid);
        let replacing = own.and_then(|job| self.replacing(Leader { uid, job: job.leader }, &key, admitted.made));
        let mut state = self.state();
        let mut bound = state.submissions.get(&key).map(|known| known.binding.clone()).unwrap_or_default();
        bound.submitted = submitted;
        // By the credential that it has brought, also if another one serves it: a copy of that gives a job nothing.
        let leader = binding::judge(job, Asked { job: request.job, uid, node }, &bound)?;
        let is_sure = job.is_some_and(|job| binding::is_sure(job, &bound, time));
        let is_live = |other: u32| jobs.live_leaders(uid).any(|live| live == other);
        if let Some(first) = bound.holder(leader, is_live).filter(|_| !is_sure && replacing.is_none()) {
            return Err(Some(BindingRefusal::Copied { job: request.job, first }));
        }
        let is_superseded = replacing.as_ref().is_some_and(|own| own.replacement.has_retired(&key));
        if expired.is_none() && !is_superseded {
            let submission = submission(&mut state, &key, &request.sealed, admitted, node).ok_or(None)?;
            submission.binding.submitted = submitted;
            submission.serve(leader, request.job, is_sure);
        }
        let Some(replacing) = replacing else {
            return Ok(expired.is_none().then(|| Served { key, told: Some(admitted.clone()), runs_here: true }));
        };
        let sealed = &replacing.replacement.sealed;
        let submission = submission(&mut state, &replacing.key, sealed, &replacing.admitted, node).ok_or(None)?;
        submission.serve(leader, request.job, true);
        let told = Some(replacing.told(admitted));
        Ok(Some(Served { key: replacing.key, told, runs_here: true }))
    }

    /// The token that there is, or that there is none yet. Other nodes may have the job, and this one may have lost it: without slurmctld's
    /// word a node gets nothing, however often it gives up before the answer.
    fn when_time_is_up(
        &self,
        request: &TokenRequest,
        (served, required): (&Served, bool),
        begin: Duration,
    ) -> TokenOutcome {
        let now = self.clock.elapsed();
        let seconds = now.saturating_sub(begin).as_secs();
        let late = |what: &str, wait: Option<Duration>| TokenOutcome::Later {
            reason: format!("{what} has not answered the broker within {seconds} s"),
            wait: wait.map(millis),
        };
        if !served.runs_here {
            return late("slurmctld", Some(LATER));
        }
        let state = self.state();
        let submission = state.submissions.get(&served.key).filter(|known| matches!(known.end, End::Open { .. }));
        let token = submission.and_then(|known| known.tokens.get(&request.file)?.usable(now));
        drop(state);
        token.map_or_else(|| late("the mytoken server", None), |token| outcome_of(Ok(token), required))
    }

    /// For how long slurmctld is not asked about a job for `node`.
    fn pause(&self, node: &str, job: u32) -> Duration {
        self.asking.running.may_ask(node, job, self.clock.elapsed()).err().unwrap_or_default()
    }

    fn later(&self, reason: &str) -> TokenOutcome {
        TokenOutcome::Later { reason: reason.to_owned(), wait: Some(millis(LATER)) }
    }

    fn tell(&self, uid: u32, node: &str, job: u32, reason: &str) {
        let text = format!("node {node}, job {job} uid {uid}: no access token: {reason}");
        if self.told.is_new_of(node, &text, self.clock.elapsed()) {
            self.log.line_of(uid, Level::Warning, &text);
        }
    }
}

fn cannot_ask(trouble: &str) -> String {
    format!("the broker cannot ask slurmctld about the job: {trouble}")
}

fn outcome_of(result: Result<IssuedToken, RequestFailure>, required: bool) -> TokenOutcome {
    match result {
        Ok(IssuedToken { token, left, lifetime }) => TokenOutcome::Token { token, left: left.as_secs(), lifetime },
        Err(RequestFailure { reason, temporary: true, retry_after, .. }) => {
            TokenOutcome::Later { reason, wait: retry_after.map(millis) }
        }
        Err(RequestFailure { reason, .. }) => TokenOutcome::Refused { reason, required },
    }
}
