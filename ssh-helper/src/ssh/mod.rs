// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs ssh, scp and sftp so that only the right host gets a token.

pub mod arguments;
mod foreground;
mod options;
mod outcome;
mod resolution;
mod version;
pub mod wrapper;
