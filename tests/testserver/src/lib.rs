// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of the test server: an OpenID provider, a mytoken server that answers as the captured original does,
//! and the replay of captures.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for tests may end when nobody reads what it prints"
)]

pub mod browser;
pub mod client;
pub mod control;
pub mod first_token;
pub mod form;
pub mod http;
pub mod journal;
pub mod jwks;
pub mod listener;
pub mod mytoken;
mod private_file;
pub mod provider;
pub mod provider_faults;
pub mod replay;
pub mod resource;
pub mod serve;
pub mod tls;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Locks a mutex and ignores poisoning: after a panic the data of this test server is still usable.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
