// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was logged already: nodes repeat their requests, and a refusal is logged once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The same text is logged again after this time.
const PAUSE: Duration = Duration::from_secs(3600);

/// Most texts that are remembered.
const MOST: usize = 10_000;

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

#[cfg(test)]
mod tests {
    use super::*;

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
