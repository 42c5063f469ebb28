// SPDX-License-Identifier: MIT OR Apache-2.0
//! The services of a site, one file each.

pub mod munge;
pub mod slurm;
pub mod sshd;
pub mod syslog;

use crate::{Result, Site};

/// Starts everything and waits until sshd answers and all nodes are idle.
pub(crate) fn start(site: &Site) -> Result<()> {
    syslog::start(site)?;
    slurm::nodes(site)?;
    munge::start(site)?;
    sshd::start(site)?;
    slurm::start(site)?;
    sshd::wait(site)?;
    slurm::wait(site)
}
