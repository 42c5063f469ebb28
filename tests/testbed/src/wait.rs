// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for a condition, always with a deadline.

use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Calls `probe` until it returns a value, for at most `limit`.
///
/// # Errors
/// [`Error::NotReady`] after `limit`, or the first error of `probe`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            return Err(Error::NotReady { what: what.to_owned(), waited: limit, detail: String::new() });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
