// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line of `mytoken-submit`. The manual page is made of it.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use mytoken_wire::ProfileName;
use mytoken_wire::profile::RULE;

use super::JobTime;

/// The command line of mytoken-submit.
#[derive(Debug, Parser)]
#[command(name = "mytoken-submit", version, about = "Makes and seals a job's credential; called by the Slurm plugin")]
pub struct SubmitArguments {
    /// The profile of jobs.toml. Without it the defaults choose it
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// The site's default profile in plugstack.conf
    #[arg(long, value_name = "NAME", conflicts_with = "profile", value_parser = profile_name)]
    pub default: Option<ProfileName>,
    /// Nobody has asked for a credential: the defaults may say that there is none
    #[arg(long, conflicts_with = "profile")]
    pub by_default: bool,
    /// The partitions that the job may go to, if the user has named some
    #[arg(long, value_name = "NAMES")]
    pub partition: Option<String>,
    /// The account of the job, if the user has named one
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// The job must fail without a credential
    #[arg(long)]
    pub required: bool,
    /// The clusters that the job may go to, if the user has named some
    #[arg(long, value_name = "NAMES")]
    pub clusters: Option<String>,
    /// The job gets none of the environment of the submission
    #[arg(long)]
    pub export_file: bool,
    /// The command that submits
    #[arg(long, value_enum)]
    pub context: SubmitCommand,
    /// Directory of the configuration
    #[arg(long, value_name = "DIR", default_value = mytoken::config::DIRECTORY)]
    pub config: PathBuf,
    /// This is the process that makes the credential (`crate::submit::relay`)
    #[arg(long, hide = true)]
    pub worker: bool,
    /// Process id of the command that submits
    #[arg(long, hide = true)]
    pub command_pid: Option<u32>,
}

/// The name of a profile.
fn profile_name(text: &str) -> Result<ProfileName, String> {
    ProfileName::parse(text).ok_or_else(|| format!("a profile's name is {RULE}"))
}

/// The command that submits.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(missing_docs, reason = "the commands of Slurm; a text would become part of the help")]
pub enum SubmitCommand {
    Sbatch,
    Srun,
    Salloc,
    /// `mytokenctl attach`, which has its own command line.
    #[value(skip)]
    Attach,
}

impl SubmitCommand {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sbatch => "sbatch",
            Self::Srun => "srun",
            Self::Salloc => "salloc",
            Self::Attach => "attach",
        }
    }

    /// When its job is submitted.
    pub const fn job_time(self) -> JobTime {
        match self {
            Self::Sbatch | Self::Srun | Self::Salloc => JobTime::Now,
            Self::Attach => JobTime::WithinHour,
        }
    }
}
