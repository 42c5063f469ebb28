// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this host has sent to one mytoken server, and whether a further request fits into the server's limit. Pure: times are
//! milliseconds of elapsed time and come as parameters.
//!
//! Three tenths of the limit are kept for logins and for the tokens of running jobs and sessions, which may use all of it. A tenth is
//! never denied to submissions. What submissions may use is shared by one rule: a user gets a permit while his own submissions of the
//! period are fewer than twice what is left for submissions. So nobody can use up the part alone, users who ask at the same time get
//! equal shares, and whoever has the fewest gets the next permit: a loop comes last.

use std::collections::VecDeque;
use std::time::Duration;

use mytoken::http::RequestLimit;

use super::limit::{Known, Limit, MOST, Told};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// A login. It is counted after it was sent: a login never waits for the budget.
    Login,
    /// The access token of a running job or session.
    Token,
    /// A revocation. It can wait.
    Revocation,
    /// The credential of a submission.
    Submission,
}

impl Purpose {
    /// Its word in `mytokenctl status --json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Token => "token",
            Self::Revocation => "revocation",
            Self::Submission => "submission",
        }
    }
}

/// A request that was sent, or has a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    at: u64,
    purpose: Purpose,
    uid: Option<u32>,
}

/// The requests of this host to one server.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    sent: VecDeque<Sent>,
    known: Known,
}

impl Ledger {
    /// What the configuration says: `None` if it says nothing, `Some(None)` for a server without a limit.
    pub fn configure(&mut self, limit: Option<Option<Limit>>) {
        self.known.configured = limit;
    }

    /// An answer told the limit. Its own request was counted before.
    pub fn learn(&mut self, limit: RequestLimit, now: u64) {
        self.known.learn(limit, now);
    }

    /// The server refused a request because of its limit.
    pub fn refused(&mut self, retry_after: Option<Duration>, now: u64) {
        let count = self.used(self.known.period(), now);
        self.known.refused(retry_after, count, now);
    }

    /// Gives a permit for one request, and counts it.
    ///
    /// # Errors
    /// After how many milliseconds the same request would get a permit, if nobody sends anything meanwhile.
    pub fn ask(&mut self, purpose: Purpose, uid: Option<u32>, now: u64) -> Result<(), u64> {
        self.forget(now);
        if self.admits(purpose, uid, now) {
            self.count(purpose, uid, now);
            return Ok(());
        }
        Err(self.wait(purpose, uid, now))
    }

    /// Counts a request that was sent without a permit.
    pub fn count(&mut self, purpose: Purpose, uid: Option<u32>, now: u64) {
        self.forget(now);
        if self.sent.len() >= MOST as usize {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent { at: now, purpose, uid });
        self.known.spend(now);
    }

    /// The limit. `None`: the server has none, or none is known.
    #[must_use]
    pub fn limit(&self, now: u64) -> Option<Limit> {
        self.known.limit(now)
    }

    /// How many requests were sent in the last period.
    #[must_use]
    pub fn recent(&self, now: u64) -> u32 {
        self.used(self.known.period(), now)
    }

    /// Requests that are left.
    #[must_use]
    pub fn left(&self, now: u64) -> u32 {
        let Some(limit) = self.known.limit(now) else { return u32::MAX };
        let counted = || limit.requests.saturating_sub(self.since(self.known.counts_from(limit, now), now));
        match (self.known.told(now), self.known.configured) {
            // What the server says counts the other hosts at this address, too.
            (Some(Told { left, .. }), None) => left,
            (Some(Told { left, .. }), Some(_)) => left.min(counted()),
            (None, _) => counted(),
        }
    }

    /// How many submissions of this user would get a permit now.
    #[must_use]
    pub fn left_for(&self, uid: u32, now: u64) -> u32 {
        let Some(limit) = self.known.limit(now) else { return u32::MAX };
        let share = self.share(limit, Some(uid), now);
        (0..=limit.requests).find(|more| !share.after(*more).admits()).unwrap_or(limit.requests)
    }

    /// The requests of the last period by purpose and user, the largest number first.
    #[must_use]
    pub fn uses(&self, only: Option<u32>, now: u64) -> Vec<(Purpose, Option<u32>, u32)> {
        let begin = now.saturating_sub(self.known.period());
        let mut counts = std::collections::BTreeMap::new();
        for sent in self.sent.iter().filter(|sent| sent.at >= begin && (only.is_none() || sent.uid == only)) {
            *counts.entry((sent.purpose, sent.uid)).or_insert(0_u32) += 1;
        }
        let mut uses: Vec<_> = counts.into_iter().map(|((purpose, uid), count)| (purpose, uid, count)).collect();
        uses.sort_by_key(|(purpose, _, count)| (*purpose, std::cmp::Reverse(*count)));
        uses
    }

    fn admits(&self, purpose: Purpose, uid: Option<u32>, now: u64) -> bool {
        let Some(limit) = self.known.limit(now) else { return true };
        let (left, all) = (self.left(now), limit.requests);
        match purpose {
            // A guess must not stop a running job.
            Purpose::Login | Purpose::Token if limit.guessed => self.known.told(now).is_none_or(|told| told.left > 0),
            Purpose::Login | Purpose::Token => left > 0,
            Purpose::Revocation => left > all / 10,
            Purpose::Submission => self.share(limit, uid, now).admits(),
        }
    }

    fn share(&self, limit: Limit, uid: Option<u32>, now: u64) -> Share {
        let begin = self.known.counts_from(limit, now);
        let submissions =
            || self.sent.iter().filter(|sent| (begin..=now).contains(&sent.at) && sent.purpose == Purpose::Submission);
        Share {
            all: limit.requests,
            left: self.left(now),
            submissions: number(submissions().count()),
            own: number(submissions().filter(|sent| sent.uid == uid).count()),
        }
    }

    /// When the answer changes from no to yes, if nothing else is sent: when an earlier request has left the period, or when the server's
    /// period ends.
    fn wait(&self, purpose: Purpose, uid: Option<u32>, now: u64) -> u64 {
        let period = self.known.period();
        let mut times: Vec<u64> =
            self.sent.iter().map(|sent| sent.at.saturating_add(period).saturating_add(1)).collect();
        times.extend(self.known.told(now).map(|told| told.until));
        times.retain(|time| *time > now);
        times.sort_unstable();
        let first = times.partition_point(|time| !self.admits(purpose, uid, *time));
        times.get(first).map_or(period, |time| time.saturating_sub(now))
    }

    /// A request that had a permit was not sent.
    pub fn refund(&mut self, purpose: Purpose, uid: Option<u32>, now: u64) {
        if let Some(found) = self.sent.iter().rposition(|sent| (sent.purpose, sent.uid) == (purpose, uid)) {
            self.sent.remove(found);
            self.known.refund(now);
        }
    }

    /// Whether nothing new would be heard from the server.
    #[must_use]
    pub fn is_informed(&self, now: u64) -> bool {
        self.known.configured.is_some() || self.known.told(now).is_some()
    }

    fn forget(&mut self, now: u64) {
        let begin = now.saturating_sub(self.known.period());
        while self.sent.front().is_some_and(|sent| sent.at < begin) {
            self.sent.pop_front();
        }
    }

    fn used(&self, period: u64, now: u64) -> u32 {
        self.since(now.saturating_sub(period), now)
    }

    fn since(&self, begin: u64, now: u64) -> u32 {
        number(self.sent.iter().filter(|sent| (begin..=now).contains(&sent.at)).count())
    }
}

/// A user's share of what submissions may use.
#[derive(Debug, Clone, Copy)]
struct Share {
    /// The limit.
    all: u32,
    /// What is left of it.
    left: u32,
    /// Submissions of all users in the period.
    submissions: u32,
    /// His own.
    own: u32,
}

impl Share {
    fn admits(self) -> bool {
        let assured = (self.all / 10).saturating_sub(self.submissions).min(self.left);
        let free = self.left.saturating_sub(self.all.saturating_mul(3) / 10).max(assured);
        self.own < free.saturating_mul(2)
    }

    /// After so many more submissions of the user.
    fn after(self, more: u32) -> Self {
        Self {
            left: self.left.saturating_sub(more),
            submissions: self.submissions.saturating_add(more),
            own: self.own.saturating_add(more),
            ..self
        }
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
