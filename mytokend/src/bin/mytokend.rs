// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokend agent`: keeps the access tokens of this node's jobs and login sessions fresh.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use mytokend::agent::arguments::{DaemonArguments, Role};
use mytokend::agent::startup;

fn main() -> ExitCode {
    let Role::Agent { config, socket, runtime_dir, node, stderr, check } = DaemonArguments::parse().role;
    let options = startup::AgentOptions { config, socket, runtime_dir, node, stderr };
    match if check { startup::check(&options) } else { startup::run(&options) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mytokend: {error}");
            ExitCode::FAILURE
        }
    }
}
