// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokend agent` keeps the access tokens of this node's jobs and login sessions fresh; `mytokend broker` gives nodes those of their jobs.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use mytokend::agent::arguments::{DaemonArguments, Role};
use mytokend::{agent, broker};

fn main() -> ExitCode {
    let done = match DaemonArguments::parse().role {
        Role::Agent { config, socket, runtime_dir, state_dir, node, stderr, check } => {
            let options = agent::startup::AgentOptions { config, socket, runtime_dir, state_dir, node, stderr };
            let done = if check { agent::startup::check(&options) } else { agent::startup::run(&options) };
            done.map_err(|error| error.to_string())
        }
        Role::Broker { config, listen, state_dir, runtime_dir, stderr, check } => {
            let options = broker::startup::BrokerOptions { config, listen, state_dir, runtime_dir, stderr };
            let done = if check { broker::startup::check(&options) } else { broker::startup::run(&options) };
            done.map_err(|error| error.to_string())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without standard error there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "mytokend: {error}");
            ExitCode::FAILURE
        }
    }
}
