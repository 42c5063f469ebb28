// SPDX-License-Identifier: MIT OR Apache-2.0
//! Obtains and renews access tokens. The lease table is not locked during a request.

use std::time::Duration;

use mytoken::{Deadline, time_format};
use mytoken_wire::agent::EventKind;

use super::budget::ledger::Purpose;
use super::credential_service::{Charge, IssuedToken, RequestFailure};
use super::lease::{Arrived, CurrentToken, Lease, LeaseKey, Phase};
use super::lease_table::Task;
use super::{Agent, millis};
use crate::jobs::renewal::Plan;
use crate::jobs::{StartRefusal, Validity, attempt_times, plan, validity, windows};
use crate::log::Level;

/// How much this machine's clock and the server's may differ, in seconds. So long after the begin of a window, a refusal is temporary.
pub(super) const CLOCK_DIFFERENCE: u64 = 600;

/// What is told of an access token that was there already.
pub(super) const SAME: &str = "the same access token as before";

impl Agent {
    /// Requests an access token for the files of the jobs, or of the session.
    pub(super) fn renew(&self, task: &Task) {
        let now = self.now();
        let longest = self.configured().intervals.request_deadline;
        let begun = {
            let mut table = self.leases();
            let begun = table.begin(task, |lease| {
                let credential = lease.credential.clone().filter(|_| !lease.is_closed())?;
                let left = lease.token.map(|token| token.exp.saturating_mul(1000).saturating_sub(now));
                let times = attempt_times(left, lease.failures, longest);
                let purpose = match lease.asked {
                    Some(_) => Purpose::Asked,
                    None if lease.proven => Purpose::Token,
                    None => Purpose::FirstToken,
                };
                let jobs: Vec<u32> = lease.running_jobs().collect();
                let about = (self.comment(lease), (lease.uid, purpose, jobs));
                Some((credential, about, validity(&lease.windows, self.server_time(lease)), times))
            });
            // While this request has no answer, a further one may become due.
            if let (Some((.., times)), Some(lease)) = (&begun, table.current(task)) {
                let further = times.further(lease.requests.count()).filter(|_| !lease.limited_uses);
                lease.requests.further_due = further.map(|wait| now.saturating_add(millis(wait)));
                table.schedule(&task.key);
                self.wake.notify_all();
            }
            begun
        };
        let Some((credential, (comment, (uid, purpose, jobs)), validity, times)) = begun else { return };
        let begin = self.clock.elapsed();
        let result = match validity {
            // Only the server's clock says whether a credential has expired.
            Validity::Now | Validity::Over => {
                let (configured, deadline) = (self.configured(), Deadline::after(times.deadline));
                let charge = Charge { uid, purpose, job: configured.service.job_for(&credential, &jobs, deadline) };
                configured.service.access_token(&credential, None, &comment, charge, deadline)
            }
            Validity::From(_) => Err(RequestFailure::permanent("the credential is not valid yet")),
        };
        let learned = self.configured().service.learned(&credential);
        drop(credential);
        self.tell_difference(task);
        let took = self.clock.elapsed().saturating_sub(begin);
        let mut table = self.leases();
        let Some(lease) = table.finish(task) else { return };
        match learned {
            Some(admitted) if lease.is_unopened => self.take_content(lease, admitted, now),
            Some(admitted) => self.take_newer_content(lease, admitted, now),
            None => {}
        }
        // Otherwise another request has brought the token for which this one was sent.
        let is_current = lease.requests.is_current(task.round);
        let asked = if is_current { lease.asked.take() } else { None };
        // A job that ended during the request gets no file.
        match (lease.phase, result) {
            (Phase::Active { .. }, Ok(issued)) => self.install(lease, &issued, took, is_current),
            (Phase::Active { .. }, Err(_)) if !is_current => {}
            // The other request may still be answered. If it hangs, the token must not wait for its end.
            (Phase::Active { .. }, Err(failure)) if failure.temporary && lease.requests.count() > 0 => {
                if !lease.limited_uses {
                    let failures = lease.failures.saturating_add(lease.requests.failed().into());
                    let due = self.next_try(lease, &failure, failures);
                    lease.requests.plan_further(due);
                }
            }
            // The renewal that was planned stays.
            (Phase::Active { .. }, Err(failure)) if failure.unsent && asked.is_some() => {
                let text = format!("not renewed on request: {}", failure.reason);
                self.record(lease, Level::Info, EventKind::Retry, text);
                lease.requests.further_due = None;
                lease.phase = asked.unwrap_or(lease.phase);
            }
            (Phase::Active { .. }, Err(failure)) => self.request_failed(lease, &failure),
            (_, Ok(_)) => {
                let text = "an access token arrived after the end of the job or session";
                self.record(lease, Level::Info, EventKind::Dropped, text);
            }
            (_, Err(_)) => {}
        }
        self.lease_changed(&mut table, &task.key);
    }

    /// Has a new access token written to its files, and schedules the next renewal. `is_current`: no other request has brought one since this
    /// one was sent.
    pub(super) fn install(&self, lease: &mut Lease, issued: &IssuedToken, took: Duration, is_current: bool) {
        let now = self.now();
        let left = issued.left;
        if left.is_zero() && !is_current {
            return;
        }
        if left.is_zero() {
            let reason = "the new access token has expired already; check this node's clock";
            return self.request_failed(lease, &RequestFailure::temporary(reason));
        }
        let Plan { exp, renewal: due } = plan(now, left, issued.lifetime, (self.draw)());
        // Two requests were answered. The token of the other one is in the files already, and its renewal is planned.
        let planned = matches!(lease.phase, Phase::Active { due } if due > now);
        let held = lease.token_text.as_ref();
        let same = lease.token.is_some_and(|token| token.came_again(held, (&issued.token, exp), took));
        if (planned || !is_current) && (same || lease.token.is_some_and(|token| token.exp >= exp)) {
            return;
        }
        if same {
            return self.goes_on(lease, EventKind::Unchanged, due, took);
        }
        let token = CurrentToken { exp, lifetime: issued.lifetime };
        if matches!(lease.key, LeaseKey::Session(_)) {
            // It counts when it is in the file: a session has no other copy of the one before it.
            if lease.arrived.as_ref().is_none_or(|other| other.token.exp < exp) {
                lease.arrived = Some(Box::new(Arrived { text: issued.token.clone(), token, renewal: due, took }));
                lease.files_due = true;
                lease.requests.answered();
            }
            return;
        }
        lease.token_text = Some(issued.token.clone());
        // A file is known by the end of its token. One with an earlier token of the same end is written again.
        for job in lease.jobs.values_mut().filter(|job| job.file == Some(exp)) {
            job.file = exp.checked_sub(1);
        }
        lease.files_due = true;
        self.installed(lease, token, due, took);
    }

    /// The lease has a new access token, which is renewed at `due`, Unix milliseconds.
    pub(super) fn installed(&self, lease: &mut Lease, token: CurrentToken, due: u64, took: Duration) {
        let kind = if lease.token.is_none() { EventKind::Started } else { EventKind::Renewed };
        lease.token = Some(token);
        self.goes_on(lease, kind, due, took);
    }

    /// A request has brought an access token. The next one is sent at `due`, Unix milliseconds.
    fn goes_on(&self, lease: &mut Lease, kind: EventKind, due: u64, took: Duration) {
        lease.proven = true;
        lease.requests.answered();
        (lease.failures, lease.failing_since) = (0, None);
        lease.reason = None;
        lease.waits_until = None;
        lease.phase = Phase::Active { due };
        let next = time_format::short(due.saturating_sub(self.now()) / 1000);
        let what = if kind == EventKind::Unchanged { SAME } else { "access token" };
        self.record(lease, Level::Info, kind, format!("{what} in {} ms, next in {next}", took.as_millis()));
    }

    /// Ends the renewal after a permanent failure, schedules the next attempt after a temporary one.
    pub(super) fn request_failed(&self, lease: &mut Lease, failure: &RequestFailure) {
        let now = self.now();
        let at_server = self.server_time(lease);
        let begun = windows::begun_since(&lease.windows, at_server, CLOCK_DIFFERENCE);
        if !failure.temporary && !begun {
            // Not valid yet is not refused: the server gives the same answer to both.
            if let Some(begin) = windows::next_begin(&lease.windows, at_server) {
                return self.wait_for_window(lease, begin);
            }
            let reason = match lease.until.filter(|until| *until <= at_server) {
                // The server's clock was not known when the job began.
                Some(exp) if !lease.proven => StartRefusal::Expired { exp }.to_string(),
                Some(_) => format!("the credential itself has expired: {}", failure.reason),
                None => failure.reason.clone(),
            };
            self.log.line_of(lease.uid, Level::Warning, &format!("{}: refused: {reason}", super::name(lease)));
            return lease.refuse(now, reason);
        }
        lease.failures = lease.failures.saturating_add(1);
        lease.failing_since = lease.failing_since.or(Some(now / 1000));
        lease.requests.further_due = None;
        lease.phase = Phase::Active { due: self.next_try(lease, failure, lease.failures) };
        let kept = if lease.token.is_some() { "the old access token stays, " } else { "" };
        let text = format!("{}; {kept}the agent tries again", failure.reason);
        self.record(lease, Level::Warning, EventKind::Retry, text.clone());
        lease.reason = Some(text);
    }

    /// When to send a request again after so many `failures`, Unix milliseconds.
    fn next_try(&self, lease: &Lease, failure: &RequestFailure, failures: u32) -> u64 {
        let now = self.now();
        let left = lease.token.map(|token| token.exp.saturating_mul(1000).saturating_sub(now));
        let lifetime = lease.token.map_or(0, |token| token.lifetime);
        now.saturating_add(millis(failure.pause(failures, lifetime, left, (self.draw)())))
    }

    /// The credential gives no access token now, but will again from `begin` on, Unix seconds.
    fn wait_for_window(&self, lease: &mut Lease, begin: u64) {
        (lease.failures, lease.failing_since) = (0, None);
        lease.waits_until = Some(begin);
        lease.phase = Phase::Active { due: self.first_request(lease, begin) };
        let from = time_format::utc_minute(begin);
        let kept = if lease.token.is_some() { "; the last access token stays until it expires" } else { "" };
        let text = format!("the credential gives access tokens again from {from} on{kept}");
        self.record(lease, Level::Info, EventKind::Waiting, text.clone());
        lease.reason = Some(text);
    }

    /// The comment for the token's history at the mytoken server.
    pub(super) fn comment(&self, lease: &Lease) -> String {
        let node = &self.node;
        match (&lease.key, lease.running_jobs().next()) {
            (LeaseKey::Session(_), _) => format!("session on {node}"),
            (_, Some(job)) => format!("job {job} on {node}"),
            (_, None) => format!("jobs on {node}"),
        }
    }
}
