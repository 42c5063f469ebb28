// SPDX-License-Identifier: MIT OR Apache-2.0
//! A whole site on one machine: a root file system per Debian release, entered through fresh namespaces with an
//! overlay on top. Inside run sshd with PAM, munge, slurmctld, several slurmd, the test server and the agents. Nothing
//! of the host is touched and everything dies with the process that holds the [`Site`].

pub mod addresses;
pub mod bench;
pub mod command;
mod config;
pub mod daemon;
pub mod demo;
mod error;
pub mod foreign;
mod host;
pub mod init;
pub mod jobs;
pub mod journal;
pub mod namespace;
mod options;
pub mod paths;
pub mod people;
pub mod plan;
mod product;
mod release;
pub mod root;
pub mod services;
mod site;
#[path = "../../skipped.rs"]
mod skipped;
mod story;
pub mod tokens;
pub mod typist;
pub mod users;
pub mod wait;

pub use error::{Error, Result};
pub use host::{can_hold_a_site, has_program};
pub use options::{Foreign, Options};
pub use release::Release;
pub use site::Site;
pub use skipped::SKIPPED_FILE;
pub use story::{skip, story, story_with_own_servers};
