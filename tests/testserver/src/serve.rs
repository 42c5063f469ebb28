// SPDX-License-Identifier: MIT OR Apache-2.0
//! `testserver serve`.

use std::process::ExitCode;

/// Arguments of `testserver serve`.
#[derive(Debug, clap::Args)]
pub struct Options {}

/// Runs the servers until killed.
///
/// # Errors
/// What kept them from starting.
pub fn run(_options: &Options) -> Result<ExitCode, String> {
    Err("not there yet".into())
}
