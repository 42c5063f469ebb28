// SPDX-License-Identifier: MIT OR Apache-2.0
//! `spank_mytoken.so`: carries a job credential from the submission to every node of the job.
//!
//! At submission (`allocator`, `local`) it runs `mytoken-submit` and puts the sealed credential that this prints into the
//! job's environment. On a node (`remote`) it asks the agent for the file with the access token. At the end (`epilog`) it calls
//! the agent. It has no threads, and its only connection is to a local socket. It does not stop Slurm from running jobs: every hook
//! returns 0, even after a panic. A submission or task is refused only if its user required a credential.
//!
//! Unsafe code and all symbols for Slurm are in `ffi`.
#![deny(unsafe_code)]

mod agent_answer;
mod allocator;
mod credential_option;
mod demand;
mod dispatch;
mod epilog;
#[allow(unsafe_code)]
mod ffi;
mod hook;
mod job_env;
mod local;
#[cfg(test)]
#[path = "../../tests/manual_page.rs"]
mod manual_page;
mod missed;
mod remote;
mod settings;
mod slurmd;
mod spawn;
mod state;
mod submit;
