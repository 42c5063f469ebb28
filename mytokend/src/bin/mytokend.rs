// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokend agent`: keeps the access tokens of this node's jobs and login sessions fresh.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mytokend::agent::startup;

#[derive(Parser)]
#[command(version, about = "Daemon of mytokens for ssh and Slurm")]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Keeps the access tokens of this node's jobs and login sessions fresh; runs in the foreground
    Agent {
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = mytoken::config::DIRECTORY)]
        config: PathBuf,
        /// Path of the socket [default: agent.sock in the runtime directory]
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        /// Overrides `agent.runtime_dir` of `jobs.toml`
        #[arg(long, value_name = "DIR")]
        runtime_dir: Option<PathBuf>,
        /// Name of this node in Slurm [default: the host's name without its domain]
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        /// Log to standard error instead of syslog
        #[arg(long)]
        stderr: bool,
        /// Reads configuration and keys, says what is wrong with them, and ends
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let Role::Agent { config, socket, runtime_dir, node, stderr, check } = Arguments::parse().role;
    let options = startup::AgentOptions { config, socket, runtime_dir, node, stderr };
    match if check { startup::check(&options) } else { startup::run(&options) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mytokend: {error}");
            ExitCode::FAILURE
        }
    }
}
