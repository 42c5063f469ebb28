// SPDX-License-Identifier: MIT OR Apache-2.0
//! Job credentials: what is asked for at submission, who gets it, when it is renewed, when it ends. Pure: clock and randomness
//! come in as parameters.

pub mod ending;
pub mod history;
pub mod keys;
pub mod renewal;
pub mod request;
mod seal_error;
pub mod sealed;
pub mod settings;
pub mod start;

pub use ending::{Fate, fate, is_gone};
pub use history::History;
pub use renewal::{backoff, renew_at};
pub use seal_error::SealError;
pub use start::{Refusal, check};
