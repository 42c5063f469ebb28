// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line of `mytoken-submit`. The manual page is made of it.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// The command line of mytoken-submit.
#[derive(Debug, Parser)]
#[command(name = "mytoken-submit", version, about = "Makes and seals a job's credential; called by the Slurm plugin")]
pub struct SubmitArguments {
    /// The profile of jobs.toml
    #[arg(long, value_name = "NAME")]
    pub profile: String,
    /// The job must fail without a credential
    #[arg(long)]
    pub required: bool,
    /// The clusters that the job may go to, if the user has named some
    #[arg(long, value_name = "NAMES")]
    pub clusters: Option<String>,
    /// The command that submits
    #[arg(long, value_enum)]
    pub context: SubmitCommand,
    /// Directory of the configuration
    #[arg(long, value_name = "DIR", default_value = mytoken::config::DIRECTORY)]
    pub config: PathBuf,
    /// This is the process that makes the credential (`crate::submit::relay`)
    #[arg(long, hide = true)]
    pub worker: bool,
}

/// The command that submits.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(missing_docs, reason = "the commands of Slurm; a text would become part of the help")]
pub enum SubmitCommand {
    Sbatch,
    Srun,
    Salloc,
}

impl SubmitCommand {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sbatch => "sbatch",
            Self::Srun => "srun",
            Self::Salloc => "salloc",
        }
    }
}
