// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line of `mytokend`. The manual page and the completions are made of it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::broker::startup::RUNTIME_DIR;

/// The command line of mytokend.
#[derive(Debug, Parser)]
#[command(name = "mytokend", version, about = "Daemon of mytokens for ssh and Slurm")]
pub struct DaemonArguments {
    /// What the daemon does.
    #[command(subcommand)]
    pub role: Role,
}

/// What the daemon does.
#[derive(Debug, Subcommand)]
pub enum Role {
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
        /// Overrides `broker.state_dir` of `jobs.toml`
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
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
    /// Holds the cluster's private key and gives nodes the access tokens of their jobs; runs in the foreground
    Broker {
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = mytoken::config::DIRECTORY)]
        config: PathBuf,
        /// Overrides `broker.listen` of `jobs.toml`
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// Overrides `broker.state_dir` of `jobs.toml`
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
        /// Directory for what a restart must not forget
        #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
        runtime_dir: PathBuf,
        /// Log to standard error instead of syslog
        #[arg(long)]
        stderr: bool,
        /// Reads configuration and keys, says what is wrong with them, and ends
        #[arg(long)]
        check: bool,
    },
}
