// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules about job credentials: request, sealing, admission, renewal and end. All functions are pure: the clock and random numbers are
//! parameters.

pub mod agent_settings;
pub mod defaults;
pub mod files;
pub mod further_keys;
pub mod history;
pub mod host_list;
pub mod job_start;
pub mod keys;
pub mod known_nodes;
pub mod own_profiles;
pub mod profile;
pub mod renewal;
pub mod request;
mod seal_error;
pub mod sealed;
pub mod settings;
pub mod start_windows;
pub mod submission_end;
pub mod submission_time;
pub mod windows;

pub use history::EventHistory;
pub use job_start::StartRefusal;
pub use known_nodes::KnownNodes;
pub use renewal::{
    AttemptTimes, attempt_times, backoff, plan, remove_at, renew_at, repeatable, told_pause, whole_seconds,
};
pub use seal_error::SealError;
pub use start_windows::{JobWindow, StartWindow};
pub use submission_end::{EndDecision, FollowDecision, HeldSubmission, Progress, decide_end, follow};
pub use submission_time::{Conversion, SubmissionTime};
pub use windows::{Validity, Window, validity};
