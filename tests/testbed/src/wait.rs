// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for a condition, always with a deadline.

use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// The pauses between two probes.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Calls `probe` until it returns a value, for at most `limit`.
///
/// # Errors
/// [`Error::NotReady`] after `limit`, or the first error of `probe`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        let waited = begin.elapsed();
        if waited >= limit {
            return Err(Error::NotReady { what: what.to_owned(), waited: limit, detail: String::new() });
        }
        // A probe starts five processes: stories that wait must not take the processors from those that work.
        thread::sleep((waited / 8).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
    }
}
