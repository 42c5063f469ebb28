// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prepared answers instead of the network, in builds of fuzz targets only.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::HttpAnswer;
use super::HttpError;

thread_local! {
    static ANSWERS: RefCell<VecDeque<HttpAnswer>> = const { RefCell::new(VecDeque::new()) };
}

/// Gives these answers, in order, to the next requests of this thread. Later requests get no answer.
pub fn answer_with(answers: impl IntoIterator<Item = HttpAnswer>) {
    ANSWERS.with(|queue| *queue.borrow_mut() = answers.into_iter().collect());
}

pub(super) fn next(host: &str, limit: usize) -> Result<HttpAnswer, HttpError> {
    match ANSWERS.with(|queue| queue.borrow_mut().pop_front()) {
        Some(answer) if answer.body.len() > limit => Err(HttpError::TooLarge { host: host.to_owned(), limit }),
        Some(answer) => Ok(answer),
        None => Err(HttpError::TooLate { host: host.to_owned() }),
    }
}
