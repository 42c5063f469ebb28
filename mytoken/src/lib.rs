// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mytokens for ssh and Slurm: the client of a mytoken server, and what the programs of the suite share, from HTTP to the configuration.
//!
//! Clock, deadlines, HTTP settings and directories are parameters; there is no global state.
#![forbid(unsafe_code)]

pub mod cache;
pub mod capabilities;
pub mod config;
pub mod document;
mod error;
pub mod http;
mod input_error;
pub mod long_wait;
pub mod private_files;
mod process;
pub mod qr_code;
pub mod random;
pub mod restrictions;
pub mod server;
#[cfg(test)]
#[path = "../../tests/skipped.rs"]
mod skipped;
pub mod time_format;
pub mod token;
pub mod token_store;
pub mod urls;
pub mod words;

pub use error::{Error, Kind};
pub use input_error::InputError;
pub use mytoken_wire::{Clock, Deadline, ScheduleClock, Secret, SystemClock};
pub use process::Process;
