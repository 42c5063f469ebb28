// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this host has sent to one mytoken server, and whether a further request fits into the server's limit. Pure: times are
//! milliseconds of elapsed time and come as parameters.
//!
//! Three tenths of the limit are kept for logins and for the tokens of running jobs and sessions, which may use all of it; the last
//! twentieth only for users who have few. A tenth is never denied to submissions. What submissions may use is shared by one rule: a user
//! gets a permit while his own requests of the period are fewer than twice what is left for submissions. So nobody can use up the part
//! alone, users who ask at the same time get equal shares, and whoever has the fewest gets the next permit: a loop comes last. The last
//! one that is left is for a user who has none.
//!
//! Whatever a user can cause as often as he likes counts for his share, and so does what nobody but he says: new tokens on request, and
//! revocations of sub-tokens that have given no access token on this host. A credential of a job that the server refuses counts, too. What
//! the host of a submission revokes after its nodes has a share of its own, of half the limit: mostly the nodes have done it, and it must
//! not cost the next submissions their credentials.

mod logins;

use std::collections::VecDeque;
use std::time::Duration;

use mytoken::http::RequestLimit;
use serde::{Deserialize, Serialize};

use super::limit::{Known, Limit, MOST, Told};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A login. It is counted after it was sent: a login never waits for the budget.
    Login,
    /// The access token of a running job or session, for a credential that has given one before.
    Token,
    /// The first access token of a credential. Until it arrives, only the credential's user says that it is one.
    FirstToken,
    /// The same, and the server refused the credential.
    RefusedToken,
    /// A new access token or credential that a user asked for.
    Asked,
    /// The revocation of a credential that has given an access token. It can wait.
    Revocation,
    /// The revocation of what only its user calls a sub-token.
    UnverifiedRevocation,
    /// The same after jobs that have run: their nodes have revoked it, unless they could not. It leaves half of the limit to everything
    /// else, and takes nothing from the user's submissions.
    LastRevocation,
    /// The credential of a submission; in a stored ledger also what this version does not know.
    #[serde(other)]
    Submission,
}

impl Purpose {
    /// Its word in `mytokenctl status --json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Token | Self::FirstToken | Self::RefusedToken | Self::Asked => "token",
            Self::Revocation | Self::UnverifiedRevocation | Self::LastRevocation => "revocation",
            Self::Submission => "submission",
        }
    }

    /// Whether a user can cause such requests, or say that there were some, as often as he likes. Of what has given an access token, and of
    /// logins, he can not.
    #[must_use]
    pub const fn can_be_said_by_users(self) -> bool {
        !matches!(self, Self::Login | Self::Token | Self::Revocation)
    }

    /// Whether the request counts for a user's share of what submissions may use.
    const fn is_at_will(self) -> bool {
        matches!(self, Self::Submission | Self::Asked | Self::UnverifiedRevocation)
    }
}

/// A request that was sent, or has a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// When, in milliseconds of elapsed time.
    pub at: u64,
    /// What for.
    pub purpose: Purpose,
    /// For whom.
    pub uid: Option<u32>,
}

/// The requests of this host to one server.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    sent: VecDeque<Sent>,
    known: Known,
    /// What is not given to anybody, because somebody else may have sent it: how many requests, and until when.
    withheld: Vec<(u32, u64)>,
}

impl Ledger {
    /// What the configuration says: `None` if it says nothing, `Some(None)` for a server without a limit.
    pub fn configure(&mut self, limit: Option<Option<Limit>>) {
        self.known.configured = limit;
    }

    /// From now on, a server that has not answered is taken to have the usual limit.
    pub fn assume(&mut self) {
        self.known.assumes = true;
    }

    /// Whether the limit is assumed.
    #[must_use]
    pub fn is_assumed(&self, now: u64) -> bool {
        self.known.is_assumed(now)
    }

    /// The server has answered, with or without a limit.
    pub fn answered(&mut self, now: u64) {
        self.known.answer(now);
    }

    /// The server has granted a request.
    pub fn granted(&mut self, now: u64) {
        self.known.granted(now);
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

    /// After how many milliseconds such a request would get a permit. `None`: now.
    #[must_use]
    pub fn wait_for(&self, purpose: Purpose, uid: Option<u32>, now: u64) -> Option<u64> {
        (!self.admits(purpose, uid, now)).then(|| self.wait(purpose, uid, now))
    }

    /// For how many milliseconds such a request would get no permit by what the server itself has told of its present period.
    #[must_use]
    pub fn told_wait(&self, purpose: Purpose, uid: Option<u32>, now: u64) -> Option<u64> {
        self.known.told(now).and_then(|_| self.wait_for(purpose, uid, now))
    }

    /// Gives `count` fewer permits until `until`, unless the server tells what is left.
    pub fn withhold(&mut self, count: u32, until: u64, now: u64) {
        self.withheld.retain(|(_, until)| now < *until);
        self.withheld.push((count, until));
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
        let withheld = || self.withheld.iter().filter(|(_, until)| now < *until).map(|(count, _)| *count).sum();
        match (self.known.told(now), self.known.configured) {
            // What the server says counts the other hosts at this address, too.
            (Some(Told { left, .. }), None) => left,
            (Some(Told { left, .. }), Some(_)) => left.min(counted()),
            (None, _) => counted().saturating_sub(withheld()),
        }
    }

    /// How many submissions of this user would get a permit now.
    #[must_use]
    pub fn left_for(&self, uid: u32, now: u64) -> u32 {
        let Some(limit) = self.known.limit(now) else { return u32::MAX };
        let share = self.share(Purpose::Submission, limit, Some(uid), now);
        (0..=limit.requests).find(|more| !share.after(*more).admits()).unwrap_or(limit.requests)
    }

    /// The requests of the last period by the word of their purpose and user, the largest number first.
    #[must_use]
    pub fn uses(&self, only: Option<u32>, now: u64) -> Vec<(&'static str, Option<u32>, u32)> {
        let begin = now.saturating_sub(self.known.period());
        let mut counts = std::collections::BTreeMap::new();
        for sent in self.sent.iter().filter(|sent| sent.at >= begin && (only.is_none() || sent.uid == only)) {
            let place = KINDS.iter().position(|kind| *kind == sent.purpose.as_str());
            *counts.entry((place, sent.purpose.as_str(), sent.uid)).or_insert(0_u32) += 1;
        }
        let mut uses: Vec<_> = counts.into_iter().collect();
        uses.sort_by_key(|((place, ..), count)| (*place, std::cmp::Reverse(*count)));
        uses.into_iter().map(|((_, kind, uid), count)| (kind, uid, count)).collect()
    }

    fn admits(&self, purpose: Purpose, uid: Option<u32>, now: u64) -> bool {
        let Some(limit) = self.known.limit(now) else {
            let is_refused = self.known.told(now).is_some_and(|told| told.left == 0);
            return self.known.configured == Some(None) || !is_refused;
        };
        let (left, all) = (self.left(now), limit.requests);
        match purpose {
            // A guess must not stop a running job.
            Purpose::Login | Purpose::Token | Purpose::FirstToken if limit.guessed => {
                self.known.told(now).is_none_or(|told| told.left > 0)
            }
            Purpose::Login => left > 0,
            Purpose::Token => left > all / 20 || self.share(purpose, limit, uid, now).admits(),
            Purpose::FirstToken => {
                self.admits(Purpose::Token, uid, now) && self.share(Purpose::RefusedToken, limit, uid, now).admits()
            }
            _ => self.share(purpose, limit, uid, now).admits(),
        }
    }

    fn share(&self, purpose: Purpose, limit: Limit, uid: Option<u32>, now: u64) -> Share {
        use Purpose::{FirstToken, LastRevocation, RefusedToken, Revocation, Submission, Token, UnverifiedRevocation};
        let begin = self.known.counts_from(limit, now);
        let count = |counts: &dyn Fn(&Sent) -> bool| {
            number(self.sent.iter().filter(|sent| (begin..=now).contains(&sent.at) && counts(sent)).count())
        };
        let own = |counts: fn(Purpose) -> bool| count(&|sent| sent.uid == uid && counts(sent.purpose));
        let part = |tenths: u32| limit.requests.saturating_mul(tenths) / 10;
        let assured = |part: u32| part.saturating_sub(count(&|sent| sent.purpose == purpose));
        // They can wait, but not for ever.
        let not_for_ever = || {
            let sent = count(&|sent| matches!(sent.purpose, UnverifiedRevocation | LastRevocation));
            (limit.requests / 20).saturating_sub(sent)
        };
        let left = self.left(now);
        let (kept, assured, own) = match purpose {
            Token => (0, 0, own(|purpose| matches!(purpose, Token | FirstToken | RefusedToken))),
            // One job of each user may begin.
            RefusedToken => (part(3), 1, own(|purpose| purpose == RefusedToken)),
            Revocation => (part(1), 0, own(|purpose| purpose == Revocation)),
            UnverifiedRevocation => (part(3), not_for_ever(), own(Purpose::is_at_will)),
            LastRevocation => {
                // The last twentieth is for the jobs of users who have few.
                let assured = if left > limit.requests / 20 { not_for_ever() } else { 0 };
                (part(5), assured, own(|purpose| purpose == LastRevocation))
            }
            Submission => (part(3), assured(part(1)), own(Purpose::is_at_will)),
            _ => (part(3), 0, own(Purpose::is_at_will)),
        };
        Share { left, kept, assured, own }
    }

    /// When the answer changes from no to yes, if nothing else is sent: when an earlier request has left the period, or when the server's
    /// period ends.
    fn wait(&self, purpose: Purpose, uid: Option<u32>, now: u64) -> u64 {
        let period = self.known.period();
        let mut times: Vec<u64> =
            self.sent.iter().map(|sent| sent.at.saturating_add(period).saturating_add(1)).collect();
        times.extend(self.known.told(now).map(|told| told.until));
        times.extend(self.withheld.iter().map(|(_, until)| *until));
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

    /// The requests of the last period.
    pub fn sent(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter()
    }

    /// What is known of the limit.
    #[must_use]
    pub const fn known(&self) -> &Known {
        &self.known
    }

    /// Takes over what an earlier run has sent and learned.
    pub fn restore(&mut self, sent: impl Iterator<Item = Sent>, known: Known) {
        self.sent = sent.take(MOST as usize).collect();
        let (configured, assumes) = (self.known.configured, self.known.assumes);
        self.known = known;
        (self.known.configured, self.known.assumes) = (configured, assumes);
    }

    /// The server refused the credential of the last request for a first access token of this user.
    pub fn refused_token(&mut self, uid: Option<u32>) {
        let is_it = |sent: &&mut Sent| (sent.purpose, sent.uid) == (Purpose::FirstToken, uid);
        if let Some(sent) = self.sent.iter_mut().rev().find(is_it) {
            sent.purpose = Purpose::RefusedToken;
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

/// A user's share of what requests of a purpose may use.
#[derive(Debug, Clone, Copy)]
struct Share {
    /// What is left of the limit.
    left: u32,
    /// What is kept of it for other purposes.
    kept: u32,
    /// What is there for this purpose all the same.
    assured: u32,
    /// The user's own requests in the period.
    own: u32,
}

impl Share {
    fn admits(self) -> bool {
        let free = self.left.saturating_sub(self.kept).max(self.assured.min(self.left));
        // At a small limit a few users could use up everything before another one asks. What is assured is nobody else's.
        let is_last = free == 1 && self.own > 0 && self.assured == 0;
        self.own < free.saturating_mul(2) && !is_last
    }

    /// After so many more of these requests of the user.
    fn after(self, more: u32) -> Self {
        Self {
            left: self.left.saturating_sub(more),
            assured: self.assured.saturating_sub(more),
            own: self.own.saturating_add(more),
            ..self
        }
    }
}

/// The words of the purposes, in the order of the status.
const KINDS: [&str; 4] = ["login", "token", "revocation", "submission"];

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
