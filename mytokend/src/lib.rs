// SPDX-License-Identifier: MIT OR Apache-2.0
//! Job credentials on a cluster: the node agent (`mytokend`), the submission helper (`mytoken-submit`) and the control program (`mytokenctl`).
#![forbid(unsafe_code)]

pub mod agent;
pub mod broker;
pub mod control;
mod directories;
pub mod jobs;
pub mod log;
pub mod output;
pub mod privacy;
pub mod program;
#[cfg(test)]
#[path = "../../tests/programs.rs"]
mod programs;
pub mod submit;
pub mod terminal;
