// SPDX-License-Identifier: MIT OR Apache-2.0
//! Permits for the requests that other hosts send to the mytoken servers. They come out of the same budget as the broker's own requests.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mytoken_wire::agent::UsedUp;

use super::messages::{NOBODY, PermitRequest};
use crate::agent::budget::Budgets;
use crate::agent::budget::ledger::{Purpose, Sent};
use crate::agent::budget::limit::Limit;
use crate::agent::budget::report::{HostReport, ReportedRest, ReportedUse};
use crate::agent::budget::site::SitePermit;

/// A host gets at most this part of a server's limit, so that one that was taken over does not stop the others.
const PART_OF_A_HOST: (u64, u64) = (9, 10);

/// At most this part of a limit is for the logins of a host, which nobody but the host tells of. While another host wants to submit,
/// this is also the most that a host gets for what can wait.
const PART_THAT_CAN_WAIT: (u64, u64) = (1, 2);

/// Longest wait, in milliseconds, for a permit of a server whose limit is only assumed: it is being asked.
const ASSUMED_WAIT: u64 = 5_000;

/// What each host has had, by host and server.
#[derive(Default)]
pub struct HostPermits(Mutex<HashMap<(String, String), OfHost>>);

/// What a host has had of a server. Times are milliseconds of elapsed time.
#[derive(Default)]
struct OfHost {
    /// Its permits of the last period, and its logins.
    given: VecDeque<Sent>,
    /// When it last wanted a permit for what can wait.
    wanted: Option<u64>,
    /// Requests that nobody gets, because the server has told the host that they are not left: how many, and until when.
    withheld: Vec<(u32, u64)>,
    /// When the log was told that some of its requests are not counted.
    told: Option<u64>,
}

/// What follows from a report of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// The log is to tell that some of its requests are not counted.
    pub is_to_tell: bool,
    /// The server is to be asked whether so few requests are left.
    pub is_to_verify: bool,
}

impl HostPermits {
    /// What `host` gets for this request at `now`, and what follows from what it tells beside.
    #[must_use]
    pub fn answer(&self, budgets: &Budgets, host: &str, request: &PermitRequest, now: u64) -> (SitePermit, Heard) {
        let PermitRequest { server, purpose, uid, accepted, report } = request;
        let hear = || self.hear(budgets, (host, server), report, now);
        if *purpose != Purpose::Login {
            let heard = hear();
            return (self.give(budgets, host, (server, *purpose, *uid), now), heard);
        }
        // The host has counted it before it tells what is left.
        let (permit, is_to_tell) = self.note_login(budgets, host, (server, *uid, *accepted), now);
        let heard = hear();
        (permit, Heard { is_to_tell: is_to_tell || heard.is_to_tell, ..heard })
    }

    /// A permit for a request of `host` at `now`.
    #[must_use]
    pub fn give(
        &self,
        budgets: &Budgets,
        host: &str,
        (server, purpose, uid): (&str, Purpose, u32),
        now: u64,
    ) -> SitePermit {
        let Some(limit) = budgets.limit(server) else { return SitePermit::Unlimited {} };
        let longest = if budgets.is_assumed(server) { ASSUMED_WAIT } else { u64::MAX };
        let mut hosts = self.hosts();
        forget(&mut hosts, server, limit, now);
        // Others have what is kept for running jobs and logins in any case. The rest is shared when they want some of it.
        let is_shared = can_wait(purpose)
            && hosts.iter().any(|((other, of), had)| of == server && other != host && had.wanted.is_some());
        let of = hosts.entry((host.to_owned(), server.to_owned())).or_default();
        if can_wait(purpose) {
            of.wanted = Some(now);
        }
        let shared = || of.when_full(PART_THAT_CAN_WAIT, limit, can_wait).filter(|_| is_shared);
        if let Some(until) = of.when_all_used(limit).or_else(shared) {
            return SitePermit::wait(until.saturating_sub(now).min(longest), UsedUp::Host);
        }
        match budgets.permit(server, purpose, Some(uid)) {
            Ok(()) => {
                of.given.push_back(Sent { at: now, purpose, uid: Some(uid) });
                SitePermit::Granted {}
            }
            // Its own budget is that of the site.
            Err((wait, UsedUp::Host | UsedUp::All)) => SitePermit::wait(wait.min(longest), UsedUp::All),
            Err((wait, UsedUp::User)) => SitePermit::wait(wait.min(longest), UsedUp::User),
        }
    }

    /// The note of `host` that a login of this user, or of [`NOBODY`], has sent a request at `now`; or that so many earlier ones of nobody were
    /// of this user (`accepted`). The login does not wait, so it is always granted. Nobody but the host says that there was one: beyond that part
    /// of a host, the others do not pay for it. Returns whether the log is to tell that.
    #[must_use]
    pub fn note_login(
        &self,
        budgets: &Budgets,
        host: &str,
        (server, uid, accepted): (&str, u32, u32),
        now: u64,
    ) -> (SitePermit, bool) {
        let Some(limit) = budgets.limit(server) else { return (SitePermit::Unlimited {}, false) };
        let mut hosts = self.hosts();
        forget(&mut hosts, server, limit, now);
        let of = hosts.entry((host.to_owned(), server.to_owned())).or_default();
        let uid = (uid != NOBODY).then_some(uid);
        let mut requests = accepted.min(limit.requests).max(1);
        if let Some(uid) = uid {
            let known = of.accept_logins(uid, accepted);
            let _ = budgets.accept_logins(server, uid, known);
            requests = requests.saturating_sub(known);
        }
        let beyond = of.count_sent(budgets, server, ReportedUse { purpose: Purpose::Login, uid, requests }, now);
        (SitePermit::Granted {}, beyond > 0 && of.is_to_tell(limit, now))
    }

    /// What `host` tells at `now` beside its request for a permit. Nobody but the host says so. What it has sent counts as if it had had
    /// permits, as far as it and its users could have had some. What the server has left for it is believed only until the server is asked,
    /// and takes at most half of the limit from everybody, less what the host has had.
    #[must_use]
    pub fn hear(&self, budgets: &Budgets, (host, server): (&str, &str), report: &HostReport, now: u64) -> Heard {
        let Some(limit) = budgets.limit(server).filter(|_| !report.is_empty()) else { return Heard::default() };
        let mut hosts = self.hosts();
        forget(&mut hosts, server, limit, now);
        let of = hosts.entry((host.to_owned(), server.to_owned())).or_default();
        let mut heard = Heard::default();
        for used in report.sent.iter().take(HostReport::MOST_USES) {
            if of.count_sent(budgets, server, *used, now) > 0 {
                heard.is_to_tell |= of.is_to_tell(limit, now);
            }
        }
        // Of a smaller limit: the server counts another address there.
        if let Some(told) = report.told.filter(|told| told.of == 0 || told.of >= limit.requests) {
            let told = ReportedRest { ends: told.ends.min(limit.period), ..told };
            let missing = budgets.withhold(server, told, of.room(PART_THAT_CAN_WAIT, limit));
            if missing > 0 {
                of.withheld.push((missing, now.saturating_add(told.ends)));
                heard.is_to_verify = true;
            }
        }
        heard
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<(String, String), OfHost>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfHost {
    /// How many further requests of any kind it may have, if a host gets this part of the limit.
    fn room(&self, part: (u64, u64), limit: Limit) -> u32 {
        let withheld: u32 = self.withheld.iter().map(|(count, _)| *count).sum();
        let had = self.count(|_| true).saturating_add(withheld.into());
        u32::try_from(share(part, limit).saturating_sub(had)).unwrap_or(u32::MAX)
    }

    /// When it may have one more request of any kind, if it has had all that a host gets. `None`: now.
    fn when_all_used(&self, limit: Limit) -> Option<u64> {
        let first = self.given.front().map(|sent| sent.at.saturating_add(limit.period));
        let ends = self.withheld.iter().map(|(_, until)| *until);
        if self.room(PART_OF_A_HOST, limit) > 0 { None } else { first.into_iter().chain(ends).min() }
    }

    /// Counts requests that were sent without a permit, as far as there is room for them in the host's part, and in the user's share if they
    /// may be his word only: he can say the same at many hosts. Returns how many are beyond the host's part. What is beyond a user's share
    /// is not the host's fault.
    fn count_sent(&mut self, budgets: &Budgets, server: &str, used: ReportedUse, now: u64) -> u32 {
        let ReportedUse { purpose, uid, requests } = used;
        let Some(limit) = budgets.limit(server) else { return 0 };
        let logins =
            || share(PART_THAT_CAN_WAIT, limit).saturating_sub(self.count(|purpose| purpose == Purpose::Login));
        let room = match purpose {
            Purpose::Login => u32::try_from(logins()).unwrap_or(u32::MAX),
            _ => u32::MAX,
        };
        let room = requests.min(room).min(self.room(PART_OF_A_HOST, limit));
        let sent = Sent { at: now, purpose, uid };
        for counted in 0..room {
            if sent.is_unverified_login() {
                if !budgets.unverified_login(server) {
                    return requests.saturating_sub(counted);
                }
            } else if !purpose.can_be_said_by_users() {
                budgets.count(server, purpose, uid);
            } else if budgets.permit(server, purpose, uid).is_err() {
                break;
            }
            self.given.push_back(sent);
        }
        requests.saturating_sub(room)
    }

    /// So many requests for nobody are of this user. Returns how many of them there are.
    fn accept_logins(&mut self, uid: u32, count: u32) -> u32 {
        let mut found = 0;
        let most = usize::try_from(count).unwrap_or(usize::MAX);
        for sent in self.given.iter_mut().rev().filter(|sent| sent.is_unverified_login()).take(most) {
            sent.uid = Some(uid);
            found += 1;
        }
        found
    }

    /// Whether the log is to tell that some of its requests are not counted: once in a period.
    fn is_to_tell(&mut self, limit: Limit, now: u64) -> bool {
        let is_new = self.told.is_none_or(|at| at.saturating_add(limit.period) <= now);
        if is_new {
            self.told = Some(now);
        }
        is_new
    }

    fn count(&self, counts: impl Fn(Purpose) -> bool) -> u64 {
        u64::try_from(self.given.iter().filter(|sent| counts(sent.purpose)).count()).unwrap_or(u64::MAX)
    }

    /// When it may have one more of the requests that `counts` names, if it has had this part of the limit. `None`: now.
    fn when_full(&self, part: (u64, u64), limit: Limit, counts: impl Fn(Purpose) -> bool) -> Option<u64> {
        let first = self.given.iter().find(|sent| counts(sent.purpose))?;
        (self.count(counts) >= share(part, limit)).then(|| first.at.saturating_add(limit.period))
    }
}

/// This part of a limit, and at least one.
fn share((part, of): (u64, u64), limit: Limit) -> u64 {
    (u64::from(limit.requests) * part / of).max(1)
}

/// Whether such a request can wait until others have sent theirs. The others are those of running jobs and sessions, which must go on.
const fn can_wait(purpose: Purpose) -> bool {
    !matches!(purpose, Purpose::Login | Purpose::Token | Purpose::FirstToken | Purpose::Revocation)
}

/// Forgets what hosts have had of this server before the last period.
fn forget(hosts: &mut HashMap<(String, String), OfHost>, server: &str, limit: Limit, now: u64) {
    let is_over = |at: u64| at.saturating_add(limit.period) <= now;
    hosts.retain(|(_, of), OfHost { given, wanted, withheld, told }| {
        // Other servers have other periods.
        if of == server {
            while given.front().is_some_and(|sent| is_over(sent.at)) {
                given.pop_front();
            }
            *wanted = wanted.filter(|at| !is_over(*at));
            *told = told.filter(|at| !is_over(*at));
            withheld.retain(|(_, until)| now < *until);
        }
        !given.is_empty() || wanted.is_some() || !withheld.is_empty() || told.is_some()
    });
}

#[cfg(test)]
mod tests;
