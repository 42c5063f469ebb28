// SPDX-License-Identifier: MIT OR Apache-2.0
//! `testserver browser`.

use std::process::ExitCode;

/// Arguments of `testserver browser`.
#[derive(Debug, clap::Args)]
pub struct Options {}

/// Plays a browser.
///
/// # Errors
/// What kept it from the end of the way.
pub fn run(_options: &Options) -> Result<ExitCode, String> {
    Err("not there yet".into())
}
