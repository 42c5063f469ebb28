// SPDX-License-Identifier: MIT OR Apache-2.0
//! Login sessions: their begin and their end, and the mytokens of logins that never opened one.

use mytoken::Secret;
use mytoken::private_files::Owner;
use mytoken_login::handover::Abandoned;
use mytoken_wire::Handle;
use mytoken_wire::agent::{Answer, EventKind, SessionEnd, SessionEnded, SessionStart, SessionStarted};

use super::file_queue::FilePlace;
use super::lease::{CurrentToken, Lease, LeaseCredential, LeaseKey, Phase};
use super::lease_name::name;
use super::lease_table::LeaseTable;
use super::login_processes::Login;
use super::{Agent, millis};
use crate::jobs::{remove_at, renew_at, windows};
use crate::log::Level;

/// A session was to last while processes of its login run.
const NO_MARK: &str = "linger has no effect: its process has neither an audit session (pam_loginuid) nor a scope of logind \
                       (pam_systemd); their lines stand before that of pam_mytoken in the session stack";

impl Agent {
    pub(super) fn session_start(&self, start: SessionStart) -> Answer {
        if Handle::parse(&start.session).is_none() {
            return Answer::Error("a session's id is 32 hexadecimal digits".to_owned());
        }
        let Some(begin) = self.processes.start_time(start.pid) else {
            return Answer::Error(format!("there is no process {}", start.pid));
        };
        let started = SessionStarted::of(&start);
        let now = self.now();
        let key = LeaseKey::Session(start.session);
        let mut lease = Lease::new(key.clone(), Owner { uid: start.uid, gid: start.gid }, "session", now);
        lease.process = Some((start.pid, begin));
        (lease.place, lease.retain) = (start.place, start.retain);
        lease.login = if start.linger { self.processes.login_of(start.pid) } else { None };
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
                lease.revoke_at_end = start.revoke_at_end;
                let ends_before = until.is_some_and(|until| until.saturating_mul(1000) <= due);
                if !ends_before || start.revoke_at_end {
                    lease.credential = Some(LeaseCredential::Mytoken(renewal));
                }
                if ends_before {
                    // It is from mytoken-ssh without --delegate. It has a second use only in case the login's first request fails, which
                    // counts too (MT-12).
                    Err("the login's mytoken ends before its access token is due for renewal")
                } else {
                    Ok(until)
                }
            }
            _ => Err("the login brought no mytoken to renew its access token with"),
        };
        let text = match renewal {
            Ok(until) => {
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
        if start.linger && lease.login.is_none() {
            self.log.line_of(lease.uid, Level::Warning, &format!("{}: {NO_MARK}", name(&lease)));
        }
        let mut table = self.leases();
        table.insert(lease);
        self.lease_changed(&mut table, &key);
        Answer::SessionStarted(started)
    }

    pub(super) fn session_end(&self, end: &SessionEnd) -> Answer {
        let key = LeaseKey::Session(end.session.clone());
        let lingers = self.linger(std::slice::from_ref(&key)).contains(&true);
        let place = self.end_or_linger(&key, "the session ended", lingers);
        if let Some(place) = place {
            // If it takes longer, the threads for files tell it.
            self.wait_for_removal(&place);
        }
        let lasts = self.leases().get(&key).is_some_and(Lease::is_running);
        Answer::SessionEnded(SessionEnded { lasts: Some(lasts) })
    }

    /// Removes the session's mytoken or has it revoked, and has its files removed. Returns where they are, if the session has run.
    pub(super) fn end_session(&self, table: &mut LeaseTable, key: &LeaseKey, why: &str) -> Option<FilePlace> {
        let is_session = matches!(key, LeaseKey::Session(_));
        if self.retain_session(table, key) {
            return None;
        }
        let is_revoked = table.get(key).is_some_and(|lease| is_to_be_revoked(table, lease));
        let lease = table.get_mut(key).filter(|lease| is_session && lease.is_running())?;
        let (uid, place) = (lease.uid, lease.file_places().pop()?);
        (lease.token, lease.arrived) = (None, None);
        // Until a thread has done it, also after a restart of the agent.
        lease.removing = true;
        self.record(lease, Level::Info, EventKind::Removed, why);
        let (now, intervals) = (self.now(), &self.configured().intervals);
        if is_revoked {
            // The credential stays until the server has answered. The files are removed first.
            let due = now.saturating_add(millis(intervals.settle_delay));
            lease.phase = Phase::Ended { due, tries: 0, revoke: Some(now) };
        } else {
            lease.credential = None;
            lease.phase = Phase::Finished { due: now.saturating_add(millis(intervals.retention)) };
        }
        table.files.end(uid, &place);
        self.files_queued.notify_all();
        self.lease_changed(table, key);
        for key in table.surplus() {
            self.delete(table, &key);
        }
        Some(place)
    }

    /// Leaves the files of a session that ends as they are until its access token expires, if the site wants that. Returns whether it does.
    fn retain_session(&self, table: &mut LeaseTable, key: &LeaseKey) -> bool {
        let now = self.now();
        let is_retained = |lease: &&mut Lease| {
            let has_token = lease.token.is_some_and(|token| remove_at(token.exp) > now);
            lease.retain && lease.process.is_some() && lease.is_running() && has_token
        };
        let Some(lease) = table.get_mut(key).filter(is_retained) else { return false };
        // Without a process nothing but the end of its token ends it.
        (lease.process, lease.credential, lease.arrived) = (None, None, None);
        let text = "the session ended; its files stay until the access token expires";
        (lease.phase, lease.reason) = (Phase::Refused, Some(text.to_owned()));
        self.record(lease, Level::Info, EventKind::Left, text);
        self.lease_changed(table, key);
        true
    }

    /// Ends the sessions whose process has ended.
    pub(super) fn sweep_sessions(&self) {
        let sessions: Vec<(LeaseKey, (u32, u64), bool)> = {
            let table = self.leases();
            let running = table.leases().filter(|lease| lease.is_running());
            running.filter_map(|lease| Some((lease.key.clone(), lease.process?, lease.lingers))).collect()
        };
        let ended = sessions
            .into_iter()
            .filter(|(_, (pid, start), lingers)| *lingers || self.processes.has_ended(*pid, *start));
        let ended: Vec<(LeaseKey, &str)> = ended
            .map(|(key, _, lingers)| {
                let last = "the last process of the session's login ended";
                (key, if lingers { last } else { "the session's process ended" })
            })
            .collect();
        let keys: Vec<LeaseKey> = ended.iter().map(|(key, _)| key.clone()).collect();
        for ((key, why), lingers) in ended.into_iter().zip(self.linger(&keys)) {
            self.end_or_linger(&key, why, lingers);
        }
    }

    /// For each of these sessions, which have ended, whether it lasts because a process of its login runs. Not with the table locked: it
    /// reads `/proc`, once for all of them.
    fn linger(&self, keys: &[LeaseKey]) -> Vec<bool> {
        let logins: Vec<Option<Login>> = {
            let table = self.leases();
            let login = |lease: &Lease| {
                Some(Login { mark: lease.login.clone()?, uid: lease.uid, first: lease.process.map(|(pid, _)| pid)? })
            };
            keys.iter().map(|key| table.get(key).filter(|lease| lease.is_running()).and_then(login)).collect()
        };
        let asked: Vec<Login> = logins.iter().flatten().cloned().collect();
        let found = if asked.is_empty() { Vec::new() } else { self.processes.have_processes(&asked) };
        let mut found = found.into_iter();
        logins.iter().map(|login| login.is_some() && found.next().unwrap_or(false)).collect()
    }

    /// Ends a session, or notes that it lasts on. Returns where its files are, if it has ended.
    fn end_or_linger(&self, key: &LeaseKey, why: &str, lingers: bool) -> Option<FilePlace> {
        let mut table = self.leases();
        if !lingers {
            return self.end_session(&mut table, key, why);
        }
        if let Some(lease) = table.get_mut(key).filter(|lease| lease.is_running() && !lease.lingers) {
            lease.lingers = true;
            let text = "the session ended; it lasts while programs that it has left run";
            self.record(lease, Level::Info, EventKind::Left, text);
            self.lease_changed(&mut table, key);
        }
        None
    }

    /// Takes over the mytokens of logins whose session did not get them or was not known here. The record of one stays until a later sweep
    /// finds that the lease which revokes it is stored, so that an end of the agent in between loses nothing.
    pub(super) fn take_abandoned(&self) {
        let (found, problems) = self.runtime_dir.abandoned(self.now() / 1000);
        for problem in problems {
            self.log
                .line(Level::Warning, &format!("the mytoken of a login without a session is not revoked: {problem}"));
        }
        for abandoned in found {
            let key = LeaseKey::Session(abandoned.id.clone());
            let (is_taken, session) = {
                let table = self.leases();
                (table.get(&key).is_some(), session_that_revokes(&table, &abandoned.renewal.mytoken, &key))
            };
            if let Some(session) = session.filter(|_| !is_taken) {
                // The module stored the record because the answer of the agent came too late.
                if self.changes.has_stored(&session) {
                    self.runtime_dir.settle_abandoned(&abandoned);
                }
            } else if !is_taken {
                self.revoke_abandoned(&abandoned, &key);
            } else if self.changes.has_stored(&key) {
                self.runtime_dir.settle_abandoned(&abandoned);
            }
        }
    }

    fn revoke_abandoned(&self, abandoned: &Abandoned, key: &LeaseKey) {
        let now = self.now();
        let owner = Owner { uid: abandoned.uid, gid: abandoned.gid };
        let mut lease = Lease::new(key.clone(), owner, "session", now);
        lease.until = abandoned.until();
        lease.lane = self.configured().service.lane_of(&abandoned.renewal);
        lease.credential = Some(LeaseCredential::Mytoken(abandoned.renewal.clone()));
        // Anybody at a prompt can cause a link, so its revocation comes from a part of its own.
        (lease.proven, lease.revoke_at_end) = (abandoned.is_proven(), true);
        lease.phase = Phase::Ended { due: now, tries: 0, revoke: Some(now) };
        let text = if !abandoned.verified {
            "a login with a link was given up; what was made for it is revoked"
        } else if abandoned.had_session {
            "the session has ended, of which the agent was not told; its mytoken is revoked"
        } else {
            "the login opened no session; the mytoken that was made for it is revoked"
        };
        self.record(&mut lease, Level::Info, EventKind::Missed, text);
        let mut table = self.leases();
        table.insert(lease);
        self.lease_changed(&mut table, key);
    }
}

/// Whether the mytoken of a session that ends is to be revoked. Another session may have the same one and revoke it at its own end. One that
/// does not do that does not count: its user has entered a copy, and it may be a thief's.
fn is_to_be_revoked(table: &LeaseTable, lease: &Lease) -> bool {
    let Some(LeaseCredential::Mytoken(own)) = lease.credential.as_ref().filter(|_| lease.revoke_at_end) else {
        return false;
    };
    session_that_revokes(table, &own.mytoken, &lease.key).is_none()
}

/// A running session, other than `except`, that revokes this mytoken at its end.
fn session_that_revokes(table: &LeaseTable, mytoken: &Secret, except: &LeaseKey) -> Option<LeaseKey> {
    let revokes = |other: &&Lease| match &other.credential {
        Some(LeaseCredential::Mytoken(theirs)) => {
            other.key != *except && other.is_running() && other.revoke_at_end && theirs.mytoken == *mytoken
        }
        _ => false,
    };
    table.leases().find(revokes).map(|other| other.key.clone())
}

#[cfg(test)]
mod tests {
    use mytoken_wire::agent::RenewalCredential;

    use super::*;

    const OWNER: Owner = Owner { uid: 1, gid: 1 };

    /// A running session with the mytoken `m.y.t`.
    fn session(id: char, revoke_at_end: bool) -> Lease {
        let key = LeaseKey::Session(std::iter::repeat_n(id, 32).collect());
        let mut lease = Lease::new(key, OWNER, "session", 0);
        (lease.phase, lease.revoke_at_end) = (Phase::Refused, revoke_at_end);
        lease.credential = Some(LeaseCredential::Mytoken(RenewalCredential {
            server: "testbed".into(),
            mytoken: Secret::new("m.y.t"),
            scope: String::new(),
            audience: String::new(),
        }));
        lease
    }

    #[test]
    fn only_another_session_that_revokes_the_mytoken_defers_its_revocation() {
        for (other_revokes, is_revoked) in [(true, false), (false, true)] {
            let mut table = LeaseTable::default();
            table.insert(session('a', true));
            table.insert(session('b', other_revokes));
            assert_eq!(is_to_be_revoked(&table, &session('a', true)), is_revoked, "{other_revokes}");
        }
    }

    #[test]
    fn a_running_session_revokes_the_mytoken_of_a_record_only_at_its_own_end() {
        let record = LeaseKey::Session("c".repeat(32));
        for (revokes, is_running, found) in [(true, true, true), (false, true, false), (true, false, false)] {
            let mut table = LeaseTable::default();
            let mut running = session('a', revokes);
            if !is_running {
                running.phase = Phase::Finished { due: 0 };
            }
            table.insert(running);
            let of = |text: &str| session_that_revokes(&table, &Secret::new(text), &record).is_some();
            assert_eq!((of("m.y.t"), of("another")), (found, false));
        }
    }
}
