// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers in the place of the network, for fuzz targets: in no ordinary build.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::Answer;
use super::HttpError;

thread_local! {
    static ANSWERS: RefCell<VecDeque<Answer>> = const { RefCell::new(VecDeque::new()) };
}

/// From now on requests of this thread get these answers in order, and after them none.
pub fn answer_with(answers: impl IntoIterator<Item = Answer>) {
    ANSWERS.with(|queue| *queue.borrow_mut() = answers.into_iter().collect());
}

pub(super) fn next(host: &str, limit: usize) -> Result<Answer, HttpError> {
    match ANSWERS.with(|queue| queue.borrow_mut().pop_front()) {
        Some(answer) if answer.body.len() > limit => Err(HttpError::TooLarge { host: host.to_owned(), limit }),
        Some(answer) => Ok(answer),
        None => Err(HttpError::TooLate { host: host.to_owned() }),
    }
}
