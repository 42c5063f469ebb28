// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was logged already: nodes repeat their requests, and a refusal is logged once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::log::{Level, Log};

/// The same text is logged again after this time.
const PAUSE: Duration = Duration::from_secs(3600);

/// Most texts that are remembered.
const MOST: usize = 10_000;

/// Most texts of strangers within that time.
const MOST_OF_STRANGERS: usize = 1_000;

/// Texts that were logged, and when (elapsed time).
#[derive(Debug, Default)]
pub struct Told(Mutex<HashMap<String, Duration>>);

impl Told {
    /// Whether a text is to be logged at `now`, elapsed time. It then counts as logged. When too many texts are remembered, every new one is
    /// to be logged.
    #[must_use]
    pub fn is_new(&self, text: &str, now: Duration) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(text).is_some_and(|at| now.saturating_sub(*at) < PAUSE) {
            return false;
        }
        if told.len() >= MOST {
            told.retain(|_, at| now.saturating_sub(*at) < PAUSE);
        }
        if told.len() < MOST {
            told.insert(text.to_owned(), now);
        }
        true
    }
}

/// Lines that anybody can cause who reaches the port, also without a certificate. Beyond a number they are counted, not logged, and they take
/// no room from those about nodes.
#[derive(Debug, Default)]
pub(super) struct StrangerLines(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    told: HashMap<String, Duration>,
    left_out: u64,
    /// Since when lines are left out, elapsed time.
    since: Duration,
}

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
        let Lines { told, left_out, since } = &mut *lines;
        let is_over = |at: Duration| now.saturating_sub(at) >= PAUSE;
        if told.len() >= MOST_OF_STRANGERS {
            told.retain(|_, at| !is_over(*at));
        }
        let mut is_new = told.get(text).is_none_or(|at| is_over(*at));
        if is_new && told.len() < MOST_OF_STRANGERS {
            told.insert(text.to_owned(), now);
        } else if is_new {
            if *left_out == 0 {
                *since = now;
            }
            *left_out = left_out.saturating_add(1);
            is_new = false;
        }
        let is_due = *left_out > 0 && is_over(*since);
        (is_new, is_due.then(|| std::mem::take(left_out)))
    }
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
    }

    #[test]
    fn nothing_is_left_out_because_there_is_too_much() {
        let told = Told::default();
        for number in 0..MOST {
            assert!(told.is_new(&number.to_string(), Duration::ZERO));
        }
        assert!(told.is_new("x", Duration::ZERO) && told.is_new("x", Duration::ZERO));
        assert!(told.is_new("x", PAUSE) && !told.is_new("x", PAUSE), "the others are forgotten");
    }
}
