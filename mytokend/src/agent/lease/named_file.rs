// SPDX-License-Identifier: MIT OR Apache-2.0
//! A further token file of a submission beside the main one: its access token, the files that hold it, and its next request. Its failures
//! are its own: they change neither the main file nor the other ones.
//!
//! Times of plans are Unix milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mytoken::Secret;
use mytoken_wire::FileName;
use mytoken_wire::agent::Condition;
use serde::{Deserialize, Serialize};

use super::{CurrentToken, OpenRequests};
use crate::agent::credential_service::RequestFailure;
use crate::jobs::{AttemptTimes, Window, attempt_times, plan, remove_at, windows};

/// A further file, as the credential service admits it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmittedFile {
    /// The NAME in `bt_u<uid>-NAME`.
    pub name: FileName,
    /// When the sub-token gives access tokens for it. Empty: always.
    pub windows: Vec<Window>,
    /// Why the sub-token gives none at all.
    pub refused: Option<String>,
}

/// A further file of a lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NamedFile {
    /// The NAME in `bt_u<uid>-NAME`.
    pub name: FileName,
    /// When the sub-token gives access tokens for it. Empty: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// The current access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<CurrentToken>,
    /// The access token itself. After a restart it is read from a file.
    #[serde(skip)]
    pub token_text: Option<Secret>,
    /// For each job with this file, the expiry of the access token in it, Unix seconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub written: BTreeMap<u32, u64>,
    /// Jobs whose file may hold an access token that it must not hold.
    #[serde(skip)]
    pub stale: BTreeSet<u32>,
    /// After a restart: jobs of whose file nobody knows what it holds.
    #[serde(skip)]
    pub doubted: BTreeSet<u32>,
    /// Jobs to whose file the current access token could not be written, which is tried again.
    #[serde(skip)]
    pub unwritten: BTreeSet<u32>,
    /// When the next access token is requested. `None`: there will be none; [`Self::reason`] says why.
    #[serde(default)]
    pub due: Option<u64>,
    /// Begin of the next window, Unix seconds, while the agent waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<u64>,
    /// Number of consecutive failures.
    #[serde(default)]
    pub failures: u32,
    /// Since when each request has failed, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<u64>,
    /// Why there is no token, or why it is not renewed. A sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The requests that are queued or have no answer yet.
    #[serde(skip)]
    pub requests: OpenRequests,
    /// When the next request was planned, before a new token was asked for.
    #[serde(skip)]
    pub asked: Option<u64>,
    /// When to try again to write or remove files.
    #[serde(skip)]
    pub write_due: Option<u64>,
}

impl NamedFile {
    /// A new file. Its first request is due at `now`.
    #[must_use]
    pub fn new(admitted: AdmittedFile, now: u64) -> Self {
        Self {
            name: admitted.name,
            windows: admitted.windows,
            token: None,
            token_text: None,
            written: BTreeMap::new(),
            stale: BTreeSet::new(),
            doubted: BTreeSet::new(),
            unwritten: BTreeSet::new(),
            due: admitted.refused.is_none().then_some(now),
            waits_until: None,
            failures: 0,
            failing_since: None,
            reason: admitted.refused,
            requests: OpenRequests::default(),
            asked: None,
            write_due: None,
        }
    }

    /// When to send the next request, if the lease has a credential and runs.
    #[must_use]
    pub fn next_request(&self) -> Option<u64> {
        self.requests.next(self.due?)
    }

    /// When the first of its tokens is removed, because it expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        let exp = self.written.values().copied().chain(self.token.map(|token| token.exp)).min();
        exp.map(remove_at)
    }

    /// Whether it is not decided yet if a starting job gets the file.
    #[must_use]
    pub fn is_undecided(&self, job: u32) -> bool {
        let nothing_yet = self.failures == 0 && self.waits_until.is_none() && self.reason.is_none();
        self.due.is_some() && nothing_yet && !self.written.contains_key(&job)
    }

    /// Whether its access tokens are renewed as planned: then [`Self::reason`] says nothing about requests for them.
    #[must_use]
    pub fn is_as_planned(&self) -> bool {
        self.due.is_some() && self.failing_since.is_none() && self.waits_until.is_none()
    }

    fn left(&self, now: u64) -> Option<u64> {
        self.token.map(|token| token.exp.saturating_mul(1000).saturating_sub(now))
    }

    /// The times of the next request.
    #[must_use]
    pub fn times(&self, now: u64, longest: Duration) -> AttemptTimes {
        attempt_times(self.left(now), self.failures, longest)
    }

    /// Takes a token that a request has brought after `took`. It has `left` of its `lifetime` (seconds). `is_current`: no other request has
    /// brought one since this one was sent. Returns whether it is another token than that which was there; `None`: one that lives longer
    /// is there already. A file with an earlier token of the same end is written again.
    pub fn install(
        &mut self,
        token: Secret,
        (left, lifetime): (Duration, u64),
        (took, is_current): (Duration, bool),
        now: u64,
        draw: f64,
    ) -> Option<bool> {
        let plan = plan(now, left, lifetime, draw);
        let planned = self.due.is_some_and(|due| due > now);
        let held = self.token_text.as_ref();
        let same = self.token.is_some_and(|own| own.came_again(held, (&token, plan.exp), took));
        if (planned || !is_current) && (same || self.token.is_some_and(|token| token.exp >= plan.exp)) {
            return None;
        }
        if !same {
            self.written.values_mut().filter(|exp| **exp == plan.exp).for_each(|exp| *exp = exp.saturating_sub(1));
            self.token = Some(CurrentToken { exp: plan.exp, lifetime });
            self.token_text = Some(token);
        }
        self.requests.answered();
        (self.failures, self.failing_since) = (0, None);
        (self.reason, self.waits_until) = (None, None);
        self.due = Some(plan.renewal);
        Some(!same)
    }

    /// A request failed, and the same one may succeed later.
    pub fn try_again(&mut self, failure: &RequestFailure, now: u64, draw: f64) {
        self.failures = self.failures.saturating_add(1);
        self.failing_since = self.failing_since.or(Some(now / 1000));
        self.requests.further_due = None;
        let lifetime = self.token.map_or(0, |token| token.lifetime);
        let wait = failure.pause(self.failures, lifetime, self.left(now), draw);
        self.due = Some(now.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
        let kept = if self.token.is_some() { "the old access token stays, " } else { "" };
        self.reason = Some(format!("{}; {kept}the agent tries again", failure.reason));
    }

    /// A request failed while another one has no answer. A further one follows.
    pub fn plan_further(&mut self, failure: &RequestFailure, now: u64, draw: f64) {
        let failures = self.failures.saturating_add(self.requests.failed().into());
        let lifetime = self.token.map_or(0, |token| token.lifetime);
        let wait = failure.pause(failures, lifetime, self.left(now), draw);
        self.requests.plan_further(now.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
    }

    /// The sub-token gives tokens for it again from `begin` on (Unix seconds). The next request is at `due`.
    pub fn wait(&mut self, begin: u64, due: u64, reason: String) {
        self.requests.further_due = None;
        (self.failures, self.failing_since) = (0, None);
        (self.waits_until, self.due, self.reason) = (Some(begin), Some(due), Some(reason));
    }

    /// There will be no further token. The current one stays until it expires.
    pub fn refuse(&mut self, reason: String) {
        self.requests.further_due = None;
        (self.failures, self.failing_since, self.waits_until) = (0, None, None);
        (self.due, self.reason) = (None, Some(reason));
    }

    /// Forgets the tokens that are to be removed at `now`, Unix milliseconds. Returns whether a file held one.
    pub fn expire(&mut self, now: u64) -> bool {
        if self.token.is_some_and(|token| remove_at(token.exp) <= now) {
            (self.token, self.token_text) = (None, None);
        }
        let before = self.written.len();
        self.written.retain(|_, exp| remove_at(*exp) > now);
        self.written.len() < before
    }

    /// Forgets the token: its files are removed.
    pub fn clear(&mut self) {
        (self.token, self.token_text, self.write_due, self.waits_until) = (None, None, None, None);
        self.written.clear();
        self.unwritten.clear();
    }

    /// The job has ended, or another lease has it now. Returns the expiry of the access token in its file.
    pub fn leave(&mut self, job: u32) -> Option<u64> {
        self.stale.remove(&job);
        self.doubted.remove(&job);
        self.unwritten.remove(&job);
        self.written.remove(&job)
    }

    /// Moves its plans by `jump` milliseconds, because the time of day was set; see [`super::Lease::follow_jump`].
    pub fn follow_jump(&mut self, jump: i64, soon: u64) {
        let later = |at: u64| at.saturating_add_signed(jump);
        let seconds = |exp: u64| exp.saturating_mul(1000).saturating_add_signed(jump) / 1000;
        if let Some(token) = &mut self.token {
            token.exp = seconds(token.exp);
        }
        self.written.values_mut().for_each(|exp| *exp = seconds(*exp));
        self.requests.further_due = self.requests.further_due.map(later);
        self.write_due = self.write_due.map(later);
        self.asked = None;
        let latest = |begin: u64| windows::earliest_request(begin).saturating_add(windows::SPREAD);
        self.due = self.due.map(|due| later(due).min(self.waits_until.map_or(soon, latest)));
    }

    /// What is the matter with the access token of `job`, which runs. `on_disk`: its file holds a valid token.
    #[must_use]
    pub fn condition(&self, job: u32, on_disk: bool) -> Condition {
        if self.due.is_none() {
            Condition::Refused
        } else if self.written.contains_key(&job) && !on_disk {
            Condition::FileMissing
        } else if self.waits_until.is_some() {
            Condition::Waiting
        } else if self.failing_since.is_some() {
            Condition::Outage
        } else if on_disk {
            Condition::Valid
        } else {
            Condition::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn file() -> NamedFile {
        let name = FileName::parse("compute").unwrap();
        NamedFile::new(AdmittedFile { name, windows: Vec::new(), refused: None }, NOW)
    }

    fn install(file: &mut NamedFile, text: &str, left: u64, now: u64) -> Option<bool> {
        file.install(Secret::new(text), (Duration::from_secs(left), 60), (Duration::ZERO, true), now, 0.0)
    }

    fn with_token() -> NamedFile {
        let mut file = file();
        assert_eq!(install(&mut file, "a", 60, NOW), Some(true));
        file.written.insert(7, 1_060);
        file
    }

    #[test]
    fn a_file_is_renewed_in_time_and_its_tokens_expire() {
        let mut file = with_token();
        assert_eq!((file.next_request(), file.next_expiry()), (Some(1_045_000), Some(1_059_750)));
        assert!(!file.is_undecided(7) && file.is_undecided(8));
        assert_eq!(install(&mut file, "b", 60, 1_045_000), Some(true));
        assert_eq!(file.next_expiry(), Some(1_059_750), "the job's file still holds the first token");
        assert_eq!(install(&mut file, "c", 50, 1_046_000), None, "a shorter one");
        assert!(file.expire(1_059_750) && file.token.is_some() && file.written.is_empty());
        assert!(!file.expire(1_104_750) && file.token.is_none());
        // A second token of the same end is written, too.
        let mut file = with_token();
        file.due = Some(NOW);
        assert_eq!(install(&mut file, "b", 60, NOW), Some(true));
        assert_ne!(file.written.get(&7), Some(&file.token.unwrap().exp));
    }

    #[test]
    fn a_token_that_comes_again_is_not_written_again() {
        let mut file = with_token();
        assert_eq!(install(&mut file, "a", 50, 1_011_000), None, "of two requests");
        file.due = Some(1_045_000);
        assert_eq!(install(&mut file, "a", 15, 1_045_900), Some(false));
        let held = (file.written[&7], file.token.map(|token| token.exp));
        assert_eq!((held, file.due), ((1_060, Some(1_060)), Some(1_056_250)));
        file.due = Some(1_056_250);
        assert_eq!(install(&mut file, "a", 60, 1_056_250), Some(true), "its life was prolonged");
        assert_eq!(file.token.map(|token| token.exp), Some(1_116));
    }

    #[test]
    fn an_earlier_token_that_comes_late_replaces_none() {
        let mut file = with_token();
        // Its renewal is under way.
        file.due = Some(NOW);
        let late = (Duration::from_secs(9), false);
        assert_eq!(file.install(Secret::new("b"), (Duration::from_secs(20), 60), late, NOW, 0.0), None);
        assert_eq!(file.token.map(|token| token.exp), Some(1_060));
    }

    #[test]
    fn a_request_without_answer_is_followed_by_a_second_one() {
        let mut file = with_token();
        file.requests.queue();
        assert_eq!(file.next_request(), None);
        file.requests.further_due = Some(5);
        assert_eq!(file.next_request(), Some(5));
    }

    #[test]
    fn each_state_has_its_condition() {
        let refused = |mut file: NamedFile| {
            file.refuse("no".to_owned());
            file
        };
        let failing = |mut file: NamedFile| {
            file.try_again(&RequestFailure::temporary("down"), NOW, 1.0);
            file
        };
        let waiting = |mut file: NamedFile| {
            file.wait(9_000, 9_001_000, "later".to_owned());
            file
        };
        for (file, on_disk, expected) in [
            (file(), false, Condition::Pending),
            (with_token(), true, Condition::Valid),
            (with_token(), false, Condition::FileMissing),
            (failing(with_token()), true, Condition::Outage),
            (failing(file()), false, Condition::Outage),
            (waiting(file()), false, Condition::Waiting),
            (refused(file()), false, Condition::Refused),
            (refused(with_token()), true, Condition::Refused),
        ] {
            assert_eq!(file.condition(7, on_disk), expected, "{file:?}");
        }
        let failed = failing(with_token());
        assert!(failed.reason.as_deref().is_some_and(|reason| reason.contains("the old access token stays")));
        assert_eq!((failed.failing_since, refused(failed).next_request()), (Some(1_000), None));
        let mut asked_to_wait = file();
        let retry_after = Some(Duration::from_secs(30));
        let busy = RequestFailure { retry_after, ..RequestFailure::temporary("busy") };
        asked_to_wait.try_again(&busy, NOW, 0.0);
        assert_eq!(asked_to_wait.due, Some(NOW + 30_100));
    }

    #[test]
    fn a_jump_of_the_clock_moves_the_plans() {
        let mut file = with_token();
        file.follow_jump(-100_000, u64::MAX);
        assert_eq!((file.due, file.token.unwrap().exp, file.written[&7]), (Some(945_000), 960, 960));
        file.follow_jump(100_000, 1_000_500);
        assert_eq!(file.due, Some(1_000_500), "renewed soon");
    }
}
