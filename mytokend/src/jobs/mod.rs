// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules about job credentials: request, sealing, admission, renewal and end. All functions are pure: the clock and random numbers are
//! parameters.

pub mod history;
pub mod host_list;
pub mod job_end;
pub mod job_start;
pub mod keys;
pub mod renewal;
pub mod request;
mod seal_error;
pub mod sealed;
pub mod settings;

pub use history::EventHistory;
pub use job_end::{EndDecision, decide_end, is_gone};
pub use job_start::StartRefusal;
pub use renewal::{backoff, renew_at};
pub use seal_error::SealError;
