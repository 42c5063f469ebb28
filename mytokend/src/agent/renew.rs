// SPDX-License-Identifier: MIT OR Apache-2.0
//! Obtains and renews access tokens. The lease table is not locked during a request.

use std::time::Duration;

use mytoken::{Deadline, time_format};
use mytoken_wire::agent::EventKind;

use super::credential_service::{IssuedToken, RequestFailure};
use super::lease::{CurrentToken, Lease, LeaseKey, Phase};
use super::lease_table::Task;
use super::{Agent, millis};
use crate::jobs::{backoff, renew_at};
use crate::log::Level;

/// Shortest time between two renewals: a token that comes with little life left must not cause a loop.
const SHORTEST_PAUSE: u64 = 500;

impl Agent {
    /// Requests an access token and writes it to the job's or session's file.
    pub(super) fn renew(&self, task: &Task) {
        let Some((credential, comment, until)) = self.leases().begin(task, |lease| {
            lease.credential.clone().map(|credential| (credential, self.comment(lease), lease.until))
        }) else {
            return;
        };
        let begin = self.clock.elapsed();
        let result = if until.is_some_and(|until| until.saturating_mul(1000) <= self.clock.unix_millis()) {
            Err(RequestFailure::permanent("the credential itself has expired"))
        } else {
            self.configured().service.access_token(
                &credential,
                &comment,
                Deadline::after(self.configured().intervals.request_deadline),
            )
        };
        drop(credential);
        let took = self.clock.elapsed().saturating_sub(begin);
        let mut table = self.leases();
        let Some(lease) = table.finish(task) else { return };
        // A job that ended during the request gets no file.
        match (lease.phase, result) {
            (Phase::Active { .. }, Ok(issued)) => self.install(lease, &issued, took),
            (Phase::Active { .. }, Err(failure)) => self.request_failed(lease, failure),
            (_, Ok(_)) => {
                self.record(
                    lease,
                    Level::Info,
                    EventKind::Dropped,
                    "an access token arrived after the end of the job or session",
                );
            }
            (_, Err(_)) => {}
        }
        self.lease_changed(&mut table, &task.key);
    }

    /// Writes a new access token to its file and schedules the next renewal.
    fn install(&self, lease: &mut Lease, issued: &IssuedToken, took: Duration) {
        let now = self.clock.unix_millis();
        let left = issued.exp.saturating_sub(now / 1000);
        if left == 0 {
            let ago = (now / 1000).saturating_sub(issued.exp);
            let reason = format!("the new access token expired {ago} s ago; check this node's clock");
            return self.request_failed(lease, RequestFailure::temporary(reason));
        }
        if let Err(error) = self.runtime_dir.write_token(lease, issued.token.expose()) {
            let reason = format!("the access token could not be written: {error}");
            return self.request_failed(lease, RequestFailure::temporary(reason));
        }
        let first = lease.token.is_none();
        lease.token = Some(CurrentToken { exp: issued.exp, lifetime: issued.lifetime });
        lease.failures = 0;
        lease.reason = None;
        // If this clock is ahead, or the provider issues old tokens, less than the lifetime is left. If the next renewal were computed
        // from the whole lifetime, it would be due at once, every time and on every node.
        let lifetime = issued.lifetime.min(left);
        let due = renew_at(issued.exp, lifetime, (self.draw)()).max(now.saturating_add(SHORTEST_PAUSE));
        lease.phase = Phase::Active { due };
        let kind = if first { EventKind::Started } else { EventKind::Renewed };
        let next = time_format::short(due.saturating_sub(now) / 1000);
        self.record(lease, Level::Info, kind, format!("access token in {} ms, next in {next}", took.as_millis()));
    }

    /// Ends the renewal after a permanent failure, schedules the next attempt after a temporary one.
    pub(super) fn request_failed(&self, lease: &mut Lease, failure: RequestFailure) {
        let now = self.clock.unix_millis();
        if !failure.temporary {
            self.log.line(Level::Warning, &format!("{}: refused: {}", super::name(lease), failure.reason));
            return lease.refuse(now, failure.reason);
        }
        lease.failures = lease.failures.saturating_add(1);
        let lifetime = lease.token.map_or(0, |token| token.lifetime);
        let wait = backoff(lease.failures, lifetime, failure.retry_after, (self.draw)());
        lease.phase = Phase::Active { due: now.saturating_add(millis(wait)) };
        let kept = if lease.token.is_some() { "the old access token stays, " } else { "" };
        let text = format!("{}; {kept}the agent tries again", failure.reason);
        self.record(lease, Level::Warning, EventKind::Retry, text.clone());
        lease.reason = Some(text);
    }

    /// The comment for the token's history at the mytoken server.
    fn comment(&self, lease: &Lease) -> String {
        match &lease.key {
            LeaseKey::Job(job) => format!("job {job} on {}", self.node),
            LeaseKey::Session(_) => format!("session on {}", self.node),
        }
    }
}
