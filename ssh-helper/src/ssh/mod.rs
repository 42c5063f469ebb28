// SPDX-License-Identifier: MIT OR Apache-2.0
//! ssh, scp and sftp, run so that they get one token for the right host.

pub mod arguments;
pub mod explain;
pub mod resolution;
pub mod run;
pub mod wrap;
