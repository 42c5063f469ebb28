// SPDX-License-Identifier: MIT OR Apache-2.0
//! The border to Slurm and libc: the only unsafe code of the crate.

pub mod command_options;
mod entry;
mod process;
mod release;
mod slurm;

pub use process::{env, environment, set_env, unset_env};
pub use slurm::{Item, JobEnv, Spank, SpankContext, error, info};
