// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mytokens for ssh and Slurm: what the PAM module, the Slurm plugin, the daemons and the ssh helper share.
//!
//! Everything here is a function of its inputs: clock, network, conversation and file system come in as parameters.
//! Without the feature `client` the crate holds only what a process of Slurm may load: the agent protocol, no HTTP, no TLS.
#![forbid(unsafe_code)]

pub mod agent;
#[cfg(feature = "client")]
pub mod cache;
#[cfg(feature = "client")]
pub mod capabilities;
pub mod clock;
#[cfg(feature = "client")]
pub mod config;
#[cfg(feature = "seal")]
pub mod credential;
#[cfg(feature = "client")]
pub mod document;
mod error;
#[cfg(feature = "client")]
pub mod http;
#[cfg(feature = "client")]
pub mod jobs;
#[cfg(feature = "client")]
pub mod login;
#[cfg(feature = "client")]
pub mod names;
#[cfg(feature = "client")]
pub mod oidc;
#[cfg(feature = "seal")]
pub mod random;
#[cfg(feature = "client")]
pub mod restrictions;
pub mod secret;
#[cfg(feature = "client")]
pub mod server;
#[cfg(all(test, feature = "seal"))]
#[path = "../../tests/skipped.rs"]
mod skipped;
#[cfg(feature = "client")]
pub mod token;

pub use clock::{Clock, Deadline, SystemClock};
pub use error::{Error, Kind};
pub use secret::Secret;
