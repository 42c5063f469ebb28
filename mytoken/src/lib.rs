// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mytokens for ssh and Slurm: what the PAM module, the Slurm plugin, the daemons and the ssh helper share.
//!
//! Everything here is a function of its inputs: clock, network, conversation and file system come in as parameters.
//! Without the feature `client` the crate holds only what a process of Slurm may load: the agent protocol, no HTTP, no TLS.
#![forbid(unsafe_code)]

pub mod agent;
pub mod clock;
#[cfg(feature = "client")]
pub mod config;
#[cfg(feature = "seal")]
pub mod credential;
mod error;
#[cfg(feature = "client")]
pub mod jobs;
#[cfg(feature = "client")]
pub mod login;
#[cfg(feature = "client")]
pub mod oidc;
pub mod secret;

pub use clock::{Clock, Deadline, SystemClock};
pub use error::Error;
pub use secret::Secret;
