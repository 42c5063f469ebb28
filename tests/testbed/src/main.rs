// SPDX-License-Identifier: MIT OR Apache-2.0
//! `testbed`: makes a site for a person. Stories use the library.

use std::process::ExitCode;

mod cli;
mod oldest_compiler;
mod results;

fn main() -> ExitCode {
    cli::run().unwrap_or_else(|error| {
        eprintln!("testbed: {error}");
        ExitCode::from(2)
    })
}
