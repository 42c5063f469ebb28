// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which sub-tokens were revoked in the last hour, for the next run of the broker. Nodes tell an end until a broker says that it is settled,
//! and the next run asks slurmctld again: without these marks it would revoke once more what was revoked already.
//!
//! That is harmless: the server answers the second revocation as the first one (MT-39). But it costs a request, for each submission that
//! ended shortly before a restart.
//!
//! A mark is made before the server is asked, too. A broker that is killed before the answer does not know whether the sub-token is revoked:
//! the next run revokes it again, and says that in the log.

mod marks_file;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::submission_key::{SubmissionKey, TextHash};
use super::{Broker, REMEMBERED, millis};
use crate::log::Level;

pub use marks_file::MarksFile;

/// Most marks.
const MOST: usize = 10_000;

/// How far a revocation is, and since when (elapsed time).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    is_done: bool,
    at: Duration,
    /// It was made by an earlier run.
    is_earlier: bool,
    /// Number of requests in a row whose answers are not known.
    unanswered: u8,
}

/// The pause after the first request whose answer is not known. It begins with the request, or at its time limit if that was reached, and
/// doubles with each further request of this kind in a row. The server may have done what was
/// asked, so a broker that is killed again and again, or a server that hangs, must not add a request each time.
const PAUSE: Duration = Duration::from_secs(30);

/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What was asked for before a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing.
    Nothing,
    /// This run has asked the server.
    Asked,
    /// An earlier run has asked the server, and its answer is not known.
    AskedByEarlierRun,
}

/// The marks.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeMap<SubmissionKey, Mark>);

/// The marks in their file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredMarks {
    /// When they were stored, as elapsed time in milliseconds since the host's start.
    at: u64,
    revocations: Vec<StoredMark>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredMark {
    uid: u32,
    handle: String,
    /// SHA-256 of its sealed text. Empty: a release wrote it that did not note it.
    #[serde(default)]
    text: String,
    at: u64,
    done: bool,
    /// A release that did not note it has asked once.
    #[serde(default = "once")]
    unanswered: u8,
}

const fn once() -> u8 {
    1
}

impl Marks {
    /// The server is asked at `now` to revoke this sub-token.
    pub(super) fn ask(&mut self, key: &SubmissionKey, now: Duration) -> Before {
        if let Some(mark) = self.0.get_mut(key) {
            if !mark.is_done {
                (mark.unanswered, mark.at) = (mark.unanswered.saturating_add(1), now);
            }
            return if mark.is_earlier { Before::AskedByEarlierRun } else { Before::Asked };
        }
        if self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, mark)| mark.at).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(key.clone(), Mark { is_done: false, at: now, is_earlier: false, unanswered: 1 });
        Before::Nothing
    }

    /// The server was not asked after all.
    pub(super) fn withdraw(&mut self, key: &SubmissionKey, before: Before) {
        if before == Before::Nothing {
            self.0.remove(key);
        } else if let Some(mark) = self.0.get_mut(key) {
            mark.unanswered = mark.unanswered.saturating_sub(1);
        }
    }

    /// The server, or its host, has answered, and the sub-token is not revoked.
    pub(super) fn failed(&mut self, key: &SubmissionKey) {
        if let Some(mark) = self.0.get_mut(key) {
            mark.unanswered = 0;
        }
    }

    /// The time limit of the request was reached at `now` without an answer.
    pub(super) fn timed_out(&mut self, key: &SubmissionKey, now: Duration) {
        if let Some(mark) = self.0.get_mut(key) {
            mark.at = now;
        }
    }

    /// When the server may be asked again, elapsed time. `None`: at any time.
    pub(super) fn paused_until(&self, key: &SubmissionKey) -> Option<Duration> {
        let mark = self.0.get(key).filter(|mark| !mark.is_done)?;
        let doublings = u32::from(mark.unanswered.checked_sub(1)?).min(8);
        Some(mark.at.saturating_add(PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)))
    }

    /// The sub-token is revoked.
    pub(super) fn done(&mut self, key: &SubmissionKey, now: Duration) {
        if let Some(mark) = self.0.get_mut(key) {
            (mark.is_done, mark.at) = (true, now);
        }
    }

    /// Since when this sub-token is revoked, elapsed time. `None`: it is not, or that is not known.
    pub(super) fn done_at(&self, key: &SubmissionKey) -> Option<Duration> {
        self.0.get(key).filter(|mark| mark.is_done).map(|mark| mark.at)
    }

    /// Forgets what is older than an hour at `now`.
    pub(super) fn forget(&mut self, now: Duration) {
        self.0.retain(|_, mark| now.saturating_sub(mark.at) <= REMEMBERED);
    }

    /// All of them, for the file.
    pub(super) fn stored(&self, now: Duration) -> StoredMarks {
        let of = |(key, mark): (&SubmissionKey, &Mark)| StoredMark {
            uid: key.uid,
            handle: key.handle.clone(),
            text: key.text.to_string(),
            at: millis(mark.at),
            done: mark.is_done,
            unanswered: mark.unanswered,
        };
        StoredMarks { at: millis(now), revocations: self.0.iter().map(of).collect() }
    }

    /// Those of an earlier run.
    ///
    /// # Errors
    /// When they have another form.
    pub(super) fn restored(bytes: &[u8], now: Duration) -> Result<Self, serde_json::Error> {
        let StoredMarks { at, revocations } = serde_json::from_slice(bytes)?;
        let now = millis(now);
        // Of another start of the host: how old they were when they were stored.
        let present = |time: u64| if at > now { now.saturating_sub(at.saturating_sub(time)) } else { time };
        // A mark without a text says nothing about any: perhaps it was that of somebody else with the same handle.
        let of = |StoredMark { uid, handle, text, at, done, unanswered }| {
            let mark = Mark { is_done: done, at: Duration::from_millis(present(at)), is_earlier: true, unanswered };
            Some((SubmissionKey { uid, handle, text: TextHash::parse(&text)? }, mark))
        };
        Ok(Self(revocations.into_iter().take(MOST).filter_map(of).collect()))
    }
}

/// What the log says of a sub-token that is revoked.
pub(super) fn told(before: Before) -> &'static str {
    match before {
        Before::Nothing | Before::Asked => "its sub-token was revoked",
        Before::AskedByEarlierRun => {
            "its sub-token was revoked; the broker had asked for that before its restart, too, and does not know the answer"
        }
    }
}

impl Broker {
    /// Takes over what the last run has revoked, and keeps it for the next one. To be called before the broker reads what it keeps for jobs.
    pub fn keep_revocations(&self, file: MarksFile) {
        let read = file.read().map_err(|error| error.to_string());
        let restored = read.and_then(|bytes| {
            let marks = bytes.map(|bytes| Marks::restored(&bytes, self.clock.elapsed()));
            marks.transpose().map_err(|error| error.to_string())
        });
        match restored {
            Ok(marks) => self.state().revoked = marks.unwrap_or_default(),
            Err(error) => {
                let text = format!(
                    "what the last run has revoked cannot be read: {error}; some sub-tokens may be revoked a second time"
                );
                self.log.line(Level::Warning, &text);
            }
        }
        self.kept_revocations.set_place(Box::new(file));
    }

    /// Whether a sub-token is revoked, as this run or the one before has noted.
    pub(super) fn has_revoked(&self, key: &SubmissionKey) -> bool {
        self.state().revoked.done_at(key).is_some()
    }

    /// Writes the marks after each change, until [`Self::stop_writing`].
    pub(super) fn write_revocations(&self) {
        self.kept_revocations.write(|| Some(self.state().revoked.stored(self.clock.elapsed())));
    }

    /// [`Self::write_revocations`] writes the last change and returns.
    pub(super) fn stop_writing(&self) {
        self.kept_revocations.stop();
    }

    /// Logs once an hour why the marks cannot be kept, if that is so.
    pub(super) fn tell_unkept_revocations(&self) {
        let Some(trouble) = self.kept_revocations.trouble() else { return };
        let text = format!("what is revoked cannot be kept for the next run: {trouble}");
        if self.told.is_new(&text, self.clock.elapsed()) {
            self.log.line(Level::Error, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn key(handle: &str) -> SubmissionKey {
        SubmissionKey::new(7, handle, handle)
    }

    fn after_a_restart(marks: &Marks, stored: u64, now: u64) -> Marks {
        Marks::restored(&serde_json::to_vec(&marks.stored(at(stored))).unwrap(), at(now)).unwrap()
    }

    #[test]
    fn the_next_run_knows_what_is_revoked_and_what_was_asked_for() {
        let mut marks = Marks::default();
        for handle in ["done", "asked"] {
            assert_eq!(marks.ask(&key(handle), at(100)), Before::Nothing);
        }
        marks.done(&key("done"), at(101));
        assert_eq!((marks.ask(&key("asked"), at(102)), told(Before::Asked)), (Before::Asked, told(Before::Nothing)));
        let mut next = after_a_restart(&marks, 103, 110);
        assert_eq!((next.done_at(&key("done")), next.done_at(&key("asked"))), (Some(at(101)), None));
        assert_eq!(next.ask(&key("asked"), at(111)), Before::AskedByEarlierRun);
        assert!(told(Before::AskedByEarlierRun).contains("before its restart"));
        assert_eq!(next.ask(&key("new"), at(111)), Before::Nothing);
        next.withdraw(&key("new"), Before::Nothing);
        assert_eq!(next.ask(&key("new"), at(112)), Before::Nothing);
    }

    #[test]
    fn a_mark_counts_for_its_text_only_and_one_without_a_text_for_none() {
        let mut marks = Marks::default();
        marks.ask(&key("a"), at(100));
        marks.done(&key("a"), at(101));
        let next = after_a_restart(&marks, 103, 110);
        let other = SubmissionKey::new(7, "a", "of somebody else");
        assert_eq!((next.done_at(&key("a")), next.done_at(&other)), (Some(at(101)), None));
        let earlier = br#"{"at": 5, "revocations": [{"uid": 7, "handle": "a", "at": 4, "done": true}]}"#;
        assert!(Marks::restored(earlier, at(6)).unwrap().0.is_empty(), "it is revoked once more");
    }

    #[test]
    fn each_request_without_a_known_answer_doubles_the_pause_before_the_next_one() {
        let (mut marks, own) = (Marks::default(), key("a"));
        let pause = |marks: &Marks, now| marks.paused_until(&own).map(|until| (until - at(now)).as_secs());
        marks.ask(&own, at(100));
        // The broker is killed, twice.
        let mut marks = after_a_restart(&marks, 101, 101);
        assert_eq!(pause(&marks, 100), Some(30));
        marks.ask(&own, at(130));
        let mut marks = after_a_restart(&marks, 131, 131);
        assert_eq!(pause(&marks, 130), Some(60));
        // The server hangs.
        marks.ask(&own, at(190));
        marks.timed_out(&own, at(220));
        assert_eq!(pause(&marks, 220), Some(120));
        let before = marks.ask(&own, at(340));
        marks.withdraw(&own, before);
        assert_eq!(pause(&marks, 340), Some(120), "nothing was sent");
        for _ in 0..9 {
            marks.ask(&own, at(500));
        }
        assert_eq!(pause(&marks, 500), Some(300));
        marks.failed(&own);
        assert_eq!(pause(&marks, 500), None, "it has answered");
        marks.done(&own, at(501));
        assert_eq!(pause(&marks, 501), None);
    }

    #[test]
    fn marks_are_few_and_end_after_an_hour_also_beyond_a_reboot() {
        let mut marks = Marks::default();
        for number in 0..MOST + 5 {
            let (own, now) = (key(&number.to_string()), Duration::from_millis(number as u64));
            marks.ask(&own, now);
            marks.done(&own, now);
        }
        assert_eq!((marks.0.len(), marks.done_at(&key("4")), marks.done_at(&key("5")).is_some()), (MOST, None, true));
        let mut rebooted = after_a_restart(&marks, 1_000, 20);
        rebooted.forget(REMEMBERED);
        assert_eq!(rebooted.0.len(), MOST, "elapsed time began anew");
        rebooted.forget(at(1) + REMEMBERED);
        assert!(rebooted.0.is_empty());
    }
}
