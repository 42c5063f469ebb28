// SPDX-License-Identifier: MIT OR Apache-2.0
//! `spank_mytoken.so`: carries a job credential from the submission to every node of the job.
//!
//! At submission (`allocator`, `local`) it runs `mytoken-submit` and puts the sealed credential that this prints into the
//! job's environment. On a node (`remote`) it asks the agent for the file with the access token. At the end (`epilog`) it tells
//! the agent. No thread, no network beyond one local socket, nothing that can keep Slurm from running a job: every hook answers
//! 0, also after a panic. Only users who said `required` can have their own submission or task refused.
//!
//! Unsafe code and everything that Slurm sees is in `ffi`.
#![deny(unsafe_code)]

mod allocator;
mod credential_option;
mod dispatch;
mod epilog;
#[allow(unsafe_code)]
mod ffi;
mod hook;
mod job_env;
mod local;
mod remote;
mod settings;
mod slurmd;
mod spawn;
mod state;
mod submit;
