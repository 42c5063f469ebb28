// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was logged already: nodes repeat their requests, and a refusal is logged once. The words of a request stand in many lines, and a
//! node that was stolen can make up any number of requests. So the lines that one node causes are limited, and lines about the others stay.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::log::{Level, Log};

/// The same text is logged again after this time.
const PAUSE: Duration = Duration::from_secs(3600);

/// Most texts of one node within that time.
const MOST_OF_NODE: usize = 100;

/// Most texts within that time that are counted for no node.
const MOST: usize = 10_000;

/// Most texts of strangers within that time.
const MOST_OF_STRANGERS: usize = 1_000;

/// Between two looks for lines that were left out.
const LOOK: Duration = Duration::from_secs(60);

/// Texts that were logged, and when (elapsed time).
#[derive(Debug, Default)]
pub struct Told(Mutex<Texts>);

#[derive(Debug, Default)]
struct Texts {
    /// Those that are counted for no node.
    own: Lines,
    /// By the name in the certificate.
    nodes: HashMap<String, Lines>,
    /// When lines that were left out were looked for.
    looked: Duration,
}

impl Told {
    /// Whether a text is to be logged at `now`, elapsed time. It then counts as logged. For texts that a node cannot vary as it likes: those
    /// beyond a large number are left out.
    #[must_use]
    pub fn is_new(&self, text: &str, now: Duration) -> bool {
        self.texts().own.take(MOST, text, now)
    }

    /// The same of a text that `node` has caused, by the name in its certificate.
    #[must_use]
    pub fn is_new_of(&self, node: &str, text: &str, now: Duration) -> bool {
        let mut texts = self.texts();
        if let Some(lines) = texts.nodes.get_mut(node) {
            return lines.take(MOST_OF_NODE, text, now);
        }
        texts.nodes.entry(node.to_owned()).or_default().take(MOST_OF_NODE, text, now)
    }

    /// Logs how many lines were left out, an hour after the first one of them. To be called often: it looks once a minute.
    pub(super) fn tell_left_out(&self, log: &Log, now: Duration) {
        for (node, count) in self.take_left_out(now) {
            let text = match node {
                Some(node) => format!(
                    "node {node}: {count} lines were left out; the log takes {MOST_OF_NODE} different ones of a node in an hour"
                ),
                None => {
                    format!("{count} lines of the broker were left out; the log takes {MOST} different ones in an hour")
                }
            };
            log.line(Level::Warning, &text);
        }
    }

    /// The numbers of lines that were left out, by node, and forgets the nodes of which there is nothing to remember.
    fn take_left_out(&self, now: Duration) -> Vec<(Option<String>, u64)> {
        let mut texts = self.texts();
        let Texts { own, nodes, looked } = &mut *texts;
        if now.saturating_sub(*looked) < LOOK {
            return Vec::new();
        }
        *looked = now;
        let mut found = Vec::new();
        found.extend(own.take_left_out(now).map(|count| (None, count)));
        nodes.retain(|node, lines| {
            found.extend(lines.take_left_out(now).map(|count| (Some(node.clone()), count)));
            !lines.is_empty(now)
        });
        found
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines that anybody can cause who reaches the port, also without a certificate. Beyond a number they are counted, not logged, and they take
/// no room from those about nodes.
#[derive(Debug, Default)]
pub(super) struct StrangerLines(Mutex<Lines>);

impl StrangerLines {
    /// Logs a text at `now`, elapsed time, if it was not logged in the last hour and there is room; and how many were left out in an hour
    /// before.
    pub(super) fn tell(&self, log: &Log, level: Level, line: &str, now: Duration) {
        let (is_new, left_out) = self.take(line, now);
        if let Some(count) = left_out {
            let text = format!("{count} lines about connections without a node's certificate were left out");
            log.line(Level::Warning, &text);
        }
        if is_new {
            log.line(level, line);
        }
    }

    /// Whether the text is to be logged, and how many were left out, if that is to be logged.
    fn take(&self, text: &str, now: Duration) -> (bool, Option<u64>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (lines.take(MOST_OF_STRANGERS, text, now), lines.take_left_out(now))
    }
}

/// Lines of the last hour, and how many were left out because there were too many. Of each only a hash is kept: texts of nodes may be long.
#[derive(Debug, Default)]
struct Lines {
    /// Random, so that nobody can make up a text that counts as another one.
    hasher: RandomState,
    told: HashSet<u64>,
    /// The same, the oldest first, and when they were logged: what is over is found without a look at the others.
    in_order: VecDeque<(Duration, u64)>,
    left_out: u64,
    /// Since when lines are left out, elapsed time.
    since: Duration,
}

impl Lines {
    /// Whether the text is to be logged at `now`. It then counts as logged; one that is new, and for which there is no room, as left out.
    fn take(&mut self, most: usize, text: &str, now: Duration) -> bool {
        self.forget(now);
        let hash = self.hasher.hash_one(text);
        if self.told.contains(&hash) {
            return false;
        }
        if self.told.len() >= most {
            if self.left_out == 0 {
                self.since = now;
            }
            self.left_out = self.left_out.saturating_add(1);
            return false;
        }
        self.told.insert(hash);
        self.in_order.push_back((now, hash));
        true
    }

    /// How many were left out, if the first one of them was an hour ago.
    fn take_left_out(&mut self, now: Duration) -> Option<u64> {
        let is_due = self.left_out > 0 && is_over(self.since, now);
        is_due.then(|| std::mem::take(&mut self.left_out))
    }

    fn is_empty(&mut self, now: Duration) -> bool {
        self.forget(now);
        self.told.is_empty() && self.left_out == 0
    }

    fn forget(&mut self, now: Duration) {
        while let Some((_, hash)) = self.in_order.front().filter(|(at, _)| is_over(*at, now)) {
            self.told.remove(hash);
            self.in_order.pop_front();
        }
    }
}

fn is_over(at: Duration, now: Duration) -> bool {
    now.saturating_sub(at) >= PAUSE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_cause_is_counted_when_there_is_too_much() {
        let lines = StrangerLines::default();
        let second = Duration::from_secs(1);
        for number in 0..MOST_OF_STRANGERS {
            assert_eq!(lines.take(&number.to_string(), second), (true, None));
        }
        assert_eq!(lines.take("7", second), (false, None), "it was logged");
        assert_eq!(lines.take("x", second * 2), (false, None));
        assert_eq!(lines.take("y", second * 3), (false, None));
        assert_eq!(lines.take("z", second * 2 + PAUSE), (true, Some(2)), "an hour later");
        assert_eq!(lines.take("z", second * 3 + PAUSE), (false, None));
    }

    #[test]
    fn a_text_is_new_once_an_hour() {
        let told = Told::default();
        let at = Duration::from_secs;
        assert!(told.is_new("a", at(0)) && told.is_new("b", at(0)));
        assert!(!told.is_new("a", at(3599)));
        assert!(told.is_new("a", at(3600)) && !told.is_new("a", at(3601)));
        assert!(told.is_new_of("n1", "a", at(0)) && told.is_new_of("n2", "a", at(0)));
        assert!(!told.is_new_of("n1", "a", at(3599)));
        assert!(told.is_new_of("n1", "a", at(3600)) && !told.is_new_of("n1", "a", at(3601)));
    }

    #[test]
    fn what_a_node_makes_up_is_counted_and_takes_no_room_from_others() {
        let told = Told::default();
        let (second, minute) = (Duration::from_secs(1), LOOK);
        let logged = (0..MOST * 2).filter(|job| told.is_new_of("n1", &job.to_string(), second)).count();
        assert_eq!(logged, MOST_OF_NODE);
        assert!(!told.is_new_of("n1", "7", second), "it was logged");
        assert!(told.is_new_of("n2", "7", second) && !told.is_new_of("n2", "7", second * 2), "once, as before");
        assert!(told.is_new("7", second) && !told.is_new("7", second * 2));
        assert!(told.take_left_out(minute * 59).is_empty());
        let left_out = u64::try_from(MOST * 2 - MOST_OF_NODE).unwrap();
        assert_eq!(told.take_left_out(minute + PAUSE), [(Some("n1".to_owned()), left_out)]);
        assert!(told.take_left_out(minute * 2 + PAUSE).is_empty());
        assert!(told.texts().nodes.is_empty(), "it is forgotten");
        assert!(told.is_new_of("n1", "7", minute * 2 + PAUSE));
    }

    #[test]
    fn other_lines_are_counted_when_there_are_too_many() {
        let told = Told::default();
        let second = Duration::from_secs(1);
        for number in 0..MOST {
            assert!(told.is_new(&number.to_string(), second));
        }
        assert!(!told.is_new("x", second) && !told.is_new("x", second * 2));
        assert!(told.is_new_of("n1", "x", second), "a node has room of its own");
        assert!(told.is_new("x", PAUSE + second) && !told.is_new("x", PAUSE + second), "the others are forgotten");
        assert_eq!(told.take_left_out(PAUSE + LOOK), [(None, 2)]);
    }
}
