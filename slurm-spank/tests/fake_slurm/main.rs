// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plugin in a program that looks like Slurm, with a false `mytoken-submit` and a false agent.
#![allow(missing_docs)]

#[cfg(test)]
mod agent;
#[cfg(test)]
mod exports;
#[cfg(test)]
mod host;
#[cfg(test)]
mod loading;
#[cfg(test)]
mod panics;
#[cfg(test)]
#[path = "../../../tests/skipped.rs"]
mod skipped;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod submissions;
