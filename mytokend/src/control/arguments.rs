// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line of `mytokenctl`. The manual page and the completions are made of it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use mytoken::config::DIRECTORY;
use mytoken_wire::JobName;
use mytoken_wire::agent::OldCredential;

use crate::broker::identity::NodeName;
use crate::broker::startup::RUNTIME_DIR;
use crate::jobs::settings::DEFAULT;

/// The command line of mytokenctl.
#[derive(Debug, Parser)]
#[command(name = "mytokenctl", version, about = "Shows and checks mytokens for ssh and Slurm on this host")]
pub struct ControlArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ControlCommand,
}

/// What starts a check on another host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Launcher {
    /// A job of Slurm. It reaches nodes that have a free processor.
    Srun,
    /// ssh as root, without a password.
    Ssh,
}

impl Launcher {
    /// The program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Srun => "srun",
            Self::Ssh => "ssh",
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum ControlCommand {
    /// Shows the credentials of your jobs and sessions on this node, and what happened to them
    Status {
        /// Only this job, as squeue shows it, also a task of an array or a component of a heterogeneous job
        #[arg(conflicts_with = "login")]
        job: Option<JobName>,
        /// Of all users (root)
        #[arg(long, conflicts_with_all = ["job", "login"])]
        all: bool,
        /// Shows instead the requests that logins on this host sent to the mytoken server, and the servers that are paused (root)
        #[arg(long)]
        login: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Directory of the configuration, for --login
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
        /// The agent's socket. Without it the one in the runtime directory of jobs.toml
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Gets a new access token now for your jobs and sessions on this node, and writes files that are missing
    Renew {
        /// Only for this job
        job: Option<JobName>,
        /// For those of all users (root)
        #[arg(long, conflicts_with = "job")]
        all: bool,
        /// The agent's socket. Without it the one in the runtime directory of jobs.toml
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Revokes the credential of a running job, for all jobs of its submission, and removes its access tokens on this node
    Revoke {
        /// The job, as squeue shows it
        job: JobName,
        /// Say nothing of other nodes: the same command runs there
        #[arg(long)]
        here: bool,
        /// The agent's socket. Without it the one in the runtime directory of jobs.toml
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Gives a job a new credential, made from your mytoken, and revokes the old one. A running job is reached by srun, one that waits
    /// through the brokers
    Replace {
        /// The job, as squeue shows it
        #[arg(required_unless_present = "all")]
        job: Option<JobName>,
        /// All your jobs
        #[arg(long, conflicts_with = "job")]
        all: bool,
        /// Profile of the new credential of a job that waits. Without it the one of a submission to its partition. A job that runs keeps
        /// its profile
        #[arg(long, value_name = "PROFILE", conflicts_with_all = ["ask", "take", "retire"])]
        profile: Option<String>,
        /// In a step on a node of the job: tell which profile it has there
        #[arg(long, hide = true, conflicts_with_all = ["take", "retire"])]
        ask: bool,
        /// In a step on a node of the job: bring the agent the credential of the environment
        #[arg(long, hide = true)]
        take: bool,
        /// In a step on a node of the job: settle the old credential
        #[arg(long, hide = true, value_name = "WHAT", conflicts_with = "take")]
        retire: Option<OldCredential>,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
        /// The agent's socket. Without it the one in the runtime directory of jobs.toml
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Makes the cluster's key pair
    Keygen {
        /// Directory for the two files
        #[arg(long, value_name = "DIR", default_value = "/etc/mytoken/keys")]
        dir: PathBuf,
    },
    /// Makes the authority that signs the certificates of brokers and nodes
    BrokerCa {
        /// Directory for the two files [default: that of `broker.ca_key_file` in `jobs.toml`]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
    /// Shows what the broker on this host does (root)
    Broker {
        /// What to show.
        #[command(subcommand)]
        command: BrokerCommand,
    },
    /// Shows and changes which nodes are enrolled at the broker on this host, and enrols this host (root)
    Node {
        /// What to do.
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Replaces the cluster's key: several private keys open credentials, each those that are sealed to it
    Key {
        /// What to do.
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Checks this host. Exit status: 0 all is well, 1 warnings, 2 something does not work, 3 the check could not be done
    Check {
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
        /// Checks what sshd does for logins of this account, and reads files with its rights (root)
        #[arg(long = "as", value_name = "USER")]
        user: Option<String>,
        /// Checks these hosts, too: each runs its own check, and differences from this host are findings. Names as in Slurm, for example
        /// n[1-99] (root)
        #[arg(long, value_name = "LIST", conflicts_with = "user")]
        nodes: Option<String>,
        /// What starts the check on the hosts of --nodes
        #[arg(long, value_name = "PROGRAM", default_value = "srun", requires = "nodes")]
        via: Launcher,
        /// Sends no request to providers and mytoken servers. The checks of --nodes do so, because those of a cluster would use up the
        /// servers' limits
        #[arg(long)]
        offline: bool,
        /// Only reads the files, with the rights of USER. The check itself does so, in a child process
        #[arg(long, requires = "user")]
        only_read: bool,
        /// With it: leaves the public key out, which is a finding already
        #[arg(long, hide = true, requires = "only_read")]
        without_key: bool,
        /// In a child process: runs a stack of PAM
        #[arg(long, hide = true, num_args = 3, value_names = ["DIR", "SERVICE", "ORIGIN"], requires = "user")]
        only_account: Option<Vec<String>>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The agent's socket. Without it the one in the runtime directory of jobs.toml
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Explains the decision about a login with the token on standard input. This costs a mytoken one use, and a transfer code is used up
    Explain {
        /// The account
        #[arg(long, value_name = "NAME", required_unless_present_any = ["submission", "last"])]
        user: Option<String>,
        /// Explains instead the decision about a token with the claims in this file (a JSON object). Nothing is sent, and no signature is
        /// checked
        #[arg(long, value_name = "FILE", requires = "user")]
        claims: Option<PathBuf>,
        /// Shows instead the last refused login of this account by the log of sshd, and what to do (root)
        #[arg(long, value_name = "NAME", conflicts_with_all = ["user", "claims", "submission"])]
        last: Option<String>,
        /// Explains instead what sbatch would request with the mytoken on standard input. Nothing is made, and the mytoken is not sent
        #[arg(long, value_name = "PROFILE", num_args = 0..=1, default_missing_value = DEFAULT, conflicts_with_all = ["user", "claims"])]
        submission: Option<String>,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
    /// Shows the profiles of jobs.toml. Nothing is made, and no mytoken is sent
    Profile {
        /// What to show.
        #[command(subcommand)]
        command: ProfileCommand,
    },
    /// Keeps an access token fresh in a file for a program outside Slurm, and names the file to it
    Run {
        /// The profile of jobs.toml
        #[arg(long, value_name = "PROFILE", default_value = DEFAULT)]
        profile: String,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
        /// The program and its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Makes a credential as sbatch does, and prints the environment that gives it to a job submitted by REST within an hour
    Attach {
        /// The profile of jobs.toml
        #[arg(default_value = DEFAULT)]
        profile: String,
        /// The job must fail without a credential
        #[arg(long)]
        required: bool,
        /// Print members of a job's description for slurmrestd, since v0.0.39
        #[arg(long)]
        json: bool,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
        /// This is the process that makes the credential (`crate::submit::relay`)
        #[arg(long, hide = true)]
        worker: bool,
    },
    /// Runs a program that reads no token file, with the access token of the job or session in its environment
    WithToken {
        /// The program and its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
}

/// What to do with the cluster's keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Makes the next key pair beside the one in use, and says what to copy where (root)
    New {
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
    /// Lists the keys of this host by their ids
    List {
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
    /// Removes a private key from this host, if submissions are not sealed to it any more (root)
    Retire {
        /// The id of the key
        id: String,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
}

/// What to show of profiles.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// Shows what a submission with this profile would request with your mytoken, and what it would not get
    Show {
        /// The profile of jobs.toml. Without it the one of a submission with --mytoken and without a name
        profile: Option<String>,
        /// For a submission to this partition
        #[arg(long, value_name = "NAMES", conflicts_with = "profile")]
        partition: Option<String>,
        /// For a submission with this account
        #[arg(long, value_name = "NAME", conflicts_with = "profile")]
        account: Option<String>,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
    /// Lists the profiles, and which of them a submission gets that names none
    List {
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
}

/// What to show of a broker.
#[derive(Debug, Subcommand)]
pub enum BrokerCommand {
    /// Shows nodes, submissions, requests, budgets and certificates of the broker on this host. Exit status: 3 if no broker answers
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The broker's runtime directory
        #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
        runtime_dir: PathBuf,
    },
}

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Lists the nodes that are enrolled at the broker on this host
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
    /// Removes nodes: their certificates are refused, and they can enrol again with any key
    Remove {
        /// The nodes, as Slurm calls them
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<NodeName>,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
    /// Keeps nodes out: their certificates are refused, and they cannot enrol until they are removed
    Block {
        /// The nodes, as Slurm calls them
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<NodeName>,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
    /// Prints a one-time code with which a node can enrol at the broker on this host, once and within an hour
    Code {
        /// The node, as Slurm calls it
        node: NodeName,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
    /// Enrols this host as a node at the first broker that accepts it: by MUNGE, or with a one-time code
    Enrol {
        /// With the one-time code on standard input
        #[arg(long)]
        code: bool,
        /// Name of this node in Slurm [default: the host's name without its domain]
        #[arg(long, value_name = "NAME")]
        node: Option<NodeName>,
        /// Directory of the configuration
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        config: PathBuf,
    },
}
