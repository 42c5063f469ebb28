// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plugin in a host that imitates Slurm's programs, with a fake `mytoken-submit` and a fake agent.
#![allow(missing_docs)]

#[cfg(test)]
mod agent;
#[cfg(test)]
mod exports;
#[cfg(test)]
mod files;
#[cfg(test)]
mod host;
#[cfg(test)]
mod loading;
#[cfg(test)]
mod panics;
#[cfg(test)]
#[path = "../../../tests/programs.rs"]
mod programs;
#[cfg(test)]
#[path = "../../../tests/skipped.rs"]
mod skipped;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod submissions;
#[cfg(test)]
mod submissions_defaults;
#[cfg(test)]
mod submissions_told;
#[cfg(test)]
mod submit_failures;
#[cfg(test)]
mod unanswered;
