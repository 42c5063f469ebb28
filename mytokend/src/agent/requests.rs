// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers the requests of the Slurm plugin, the PAM module and `mytokenctl`.

use std::time::{Duration, Instant};

use mytoken::private_files::Owner;
use mytoken_wire::Handle;
use mytoken_wire::agent::{Answer, EventKind, Request, SessionEnd, SessionStart};

use super::file_queue::FilePlace;
use super::lease::{CurrentToken, Lease, LeaseCredential, LeaseKey, Phase};
use super::lease_table::LeaseTable;
use super::on_request::Caller;
use super::{Agent, Intervals, millis};
use crate::jobs::{renew_at, windows};
use crate::log::Level;

/// Of the second that an epilog waits for its answer, so much is left for the disk that stores the lease when its files have taken all of
/// [`Intervals::file_patience`].
const LEFT_AT_END: Duration = Duration::from_millis(200);

/// How long an answer waits for the disk. `waited`: that to an end has waited so long already.
fn store_patience(intervals: &Intervals, waited: Option<Duration>) -> Duration {
    let both = intervals.file_patience.saturating_add(LEFT_AT_END);
    waited.map_or(intervals.answer_patience, |waited| intervals.answer_patience.min(both.saturating_sub(waited)))
}

impl Agent {
    /// Answers a request of the user `caller`. `trusted` is true for root.
    pub fn answer(&self, request: Request, caller: u32, trusted: bool) -> Answer {
        self.read_clock();
        let changes = !matches!(request, Request::Status(_) | Request::Permit(_) | Request::Register(_));
        let ends = matches!(request, Request::JobEnd(_) | Request::SessionEnd(_));
        let begin = Instant::now();
        let answer = self.answer_now(request, caller, trusted);
        if changes {
            let waited = ends.then(|| begin.elapsed());
            self.wait_until_stored(store_patience(&self.configured().intervals, waited));
        }
        answer
    }

    fn answer_now(&self, request: Request, caller: u32, trusted: bool) -> Answer {
        let by = Caller { uid: caller, trusted };
        match request {
            Request::Status(query) => self.status(&query, caller, trusted),
            Request::Renew(renew) => self.in_turn(by, || self.renew_on_request(&renew, by)),
            Request::Revoke(revoke) => self.in_turn(by, || self.revoke_on_request(&revoke, by)),
            Request::Replace(replace) => self.in_turn(by, || self.replace(&replace, by)),
            Request::Retire(retire) => self.in_turn(by, || self.retire(&retire, by)),
            Request::ReplacePending(pending) => self.in_turn(by, || self.replace_pending(&pending, caller)),
            Request::Submitted(submitted) => self.submitted(submitted, caller),
            Request::Permit(asked) if asked.login.is_none() => self.permit(&asked, caller),
            Request::Register(register) => self.register(&register, caller),
            _ if !trusted => {
                Answer::Error("only root may send this request; every user may run mytokenctl status".to_owned())
            }
            Request::JobStart(start) => Answer::Started(self.job_start(&start)),
            Request::JobEnd(end) => self.job_end(&end),
            Request::Permit(told) => self.count_login_requests(&told),
            Request::SessionStart(start) => self.session_start(start),
            Request::SessionEnd(end) => self.session_end(&end),
        }
    }

    fn session_start(&self, start: SessionStart) -> Answer {
        if Handle::parse(&start.session).is_none() {
            return Answer::Error("a session's id is 32 hexadecimal digits".to_owned());
        }
        let Some(begin) = self.processes.start_time(start.pid) else {
            return Answer::Error(format!("there is no process {}", start.pid));
        };
        let now = self.now();
        let key = LeaseKey::Session(start.session);
        let mut lease = Lease::new(key.clone(), Owner { uid: start.uid, gid: start.gid }, "session", now);
        lease.process = Some((start.pid, begin));
        lease.token = Some(CurrentToken { exp: start.exp, lifetime: start.lifetime });
        let due = renew_at(start.exp, start.lifetime, (self.draw)());
        let renewal = match start.renewal {
            Some(renewal) if !renewal.mytoken.is_empty() => {
                if !start.told {
                    self.count_login(&renewal.server, start.uid);
                }
                let claims = mytoken::token::unverified_claims(&renewal.mytoken);
                let until = claims.as_ref().and_then(|claims| claims.unverified().exp);
                let clauses = claims.as_ref().map_or(&[][..], |claims| &claims.unverified().restrictions);
                lease.windows = windows::of_clauses(clauses, &renewal.scope, &renewal.audience);
                lease.limited_uses = windows::uses_are_limited(clauses);
                lease.lane = self.configured().service.lane_of(&renewal);
                if until.is_some_and(|until| until.saturating_mul(1000) <= due) {
                    // It is from mytoken-ssh without --delegate. It has a second use only in case the login's first request fails, which
                    // counts too (MT-12).
                    Err("the login's mytoken ends before its access token is due for renewal")
                } else {
                    Ok((LeaseCredential::Mytoken(renewal), until))
                }
            }
            _ => Err("the login brought no mytoken to renew its access token with"),
        };
        let text = match renewal {
            Ok((credential, until)) => {
                lease.credential = Some(credential);
                // The login's access token is of it.
                lease.proven = true;
                lease.until = until;
                lease.phase = Phase::Active { due };
                "the access token of the login will be renewed"
            }
            Err(reason) => {
                lease.until = Some(start.exp);
                lease.phase = Phase::Refused;
                lease.reason = Some(reason.to_owned());
                reason
            }
        };
        self.record(&mut lease, Level::Info, EventKind::Started, text);
        let mut table = self.leases();
        table.insert(lease);
        self.lease_changed(&mut table, &key);
        Answer::Done {}
    }

    fn session_end(&self, end: &SessionEnd) -> Answer {
        let key = LeaseKey::Session(end.session.clone());
        let place = self.end_session(&mut self.leases(), &key, "the session ended");
        if let Some(place) = place {
            // If it takes longer, the threads for files tell it.
            self.wait_for_removal(&place);
        }
        Answer::Done {}
    }

    /// Removes the session's mytoken, and has its files removed. Returns where they are, if the session has run.
    pub(super) fn end_session(&self, table: &mut LeaseTable, key: &LeaseKey, why: &str) -> Option<FilePlace> {
        let is_session = matches!(key, LeaseKey::Session(_));
        let lease = table.get_mut(key).filter(|lease| is_session && lease.is_running())?;
        let (uid, place) = (lease.uid, lease.file_places().pop()?);
        (lease.token, lease.arrived, lease.credential) = (None, None, None);
        // Until a thread has done it, also after a restart of the agent.
        lease.removing = true;
        lease.phase = Phase::Finished { due: self.now().saturating_add(millis(self.configured().intervals.retention)) };
        self.record(lease, Level::Info, EventKind::Removed, why);
        table.files.end(uid, &place);
        self.files_queued.notify_all();
        self.lease_changed(table, key);
        for key in table.surplus() {
            self.delete(table, &key);
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_answered_within_the_second_of_the_epilog() {
        let intervals = Intervals::default();
        assert_eq!(store_patience(&intervals, None), intervals.answer_patience);
        for waited in [Duration::ZERO, intervals.file_patience / 2, intervals.file_patience] {
            let all = waited + store_patience(&intervals, Some(waited));
            assert!(all > waited && all <= Duration::from_millis(900), "{waited:?}: {all:?}");
        }
    }
}
