// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line of `mytokenctl`. The manual page and the completions are made of it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use mytoken::config::DIRECTORY;
use mytoken_wire::paths::AGENT_SOCKET;

use crate::jobs::settings::DEFAULT;

/// The command line of mytokenctl.
#[derive(Debug, Parser)]
#[command(name = "mytokenctl", version, about = "Shows and checks mytokens for ssh and Slurm on this host")]
pub struct ControlArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ControlCommand,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum ControlCommand {
    /// Shows the credentials of your jobs and sessions on this node, and what happened to them
    Status {
        /// Only this job
        #[arg(conflicts_with = "login")]
        job: Option<u32>,
        /// Shows instead the requests that logins on this host sent to the mytoken server, and the servers that are paused (root)
        #[arg(long)]
        login: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Directory of the configuration, for --login
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
        /// The agent's socket
        #[arg(long, value_name = "PATH", default_value = AGENT_SOCKET)]
        socket: PathBuf,
    },
    /// Makes the cluster's key pair
    Keygen {
        /// Directory for the two files
        #[arg(long, value_name = "DIR", default_value = "/etc/mytoken/keys")]
        dir: PathBuf,
    },
    /// Checks this host. Exit status: 0 all is well, 1 warnings, 2 something does not work
    Check {
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
        /// Checks what sshd does for logins of this account, and reads files with its rights (root)
        #[arg(long = "as", value_name = "USER")]
        user: Option<String>,
        /// Only reads the files, with the rights of USER. The check itself does so, in a child process
        #[arg(long, requires = "user")]
        only_read: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The agent's socket
        #[arg(long, value_name = "PATH", default_value = AGENT_SOCKET)]
        socket: PathBuf,
    },
    /// Explains the decision about a login with the token on standard input. This costs a mytoken one use, and a transfer code is used up
    Explain {
        /// The account
        #[arg(long, value_name = "NAME", required_unless_present = "submission")]
        user: Option<String>,
        /// Explains instead what sbatch would request with the mytoken on standard input. Nothing is made, and the mytoken is not sent
        #[arg(long, value_name = "PROFILE", num_args = 0..=1, default_missing_value = DEFAULT, conflicts_with = "user")]
        submission: Option<String>,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
}
