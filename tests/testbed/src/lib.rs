// SPDX-License-Identifier: MIT OR Apache-2.0
//! A whole site on one machine: a root file system per Debian release, entered through new namespaces with an
//! overlay on top. sshd with PAM, munge, slurmctld, several slurmd, the test server and the agents run in it. The host
//! is not changed, and everything in the site ends with the process that holds the [`Site`].
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for tests may end when nobody reads what it prints"
)]

pub mod bench;
pub mod demo;
pub mod drive;
mod error;
pub mod picture;
#[path = "../../programs.rs"]
pub mod programs;
pub mod site;
#[path = "../../skipped.rs"]
mod skipped;
pub mod soak;
pub mod wait;

pub use drive::story::{skip, story, story_needing, story_with_own_servers};
pub use error::{Error, Result};
pub use site::controls::{Controls, Need};
pub use site::emulation::can_emulate;
pub use site::host::{can_hold_a_site, has_program};
pub use site::options::{Foreign, Options};
pub use site::release::Release;
pub use site::running::Site;
pub use skipped::SKIPPED_FILE;
