// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program `testbed`. Stories use the library.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for tests may end when nobody reads what it prints"
)]

use std::process::ExitCode;

mod cli;
mod oldest_compiler;
mod other_systems;
mod results;

fn main() -> ExitCode {
    cli::run().unwrap_or_else(|error| {
        eprintln!("testbed: {error}");
        ExitCode::from(2)
    })
}
