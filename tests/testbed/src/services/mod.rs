// SPDX-License-Identifier: MIT OR Apache-2.0
//! The services of a site, one file each.

pub mod agent;
pub mod munge;
pub mod slurm;
pub mod sshd;
pub mod syslog;
pub mod testserver;

use crate::{Result, Site, config};

/// Starts everything and waits until sshd answers and all nodes are idle.
pub(crate) fn start(site: &Site) -> Result<()> {
    syslog::start(site)?;
    slurm::nodes(site)?;
    munge::start(site)?;
    if site.has_testserver() {
        testserver::start(site)?;
    }
    if site.has_product() {
        config::write(site)?;
        agent::start(site)?;
    }
    sshd::start(site)?;
    slurm::start(site)?;
    if site.has_testserver() {
        testserver::wait(site)?;
    }
    if site.has_product() {
        agent::wait(site)?;
    }
    sshd::wait(site)?;
    slurm::wait(site)
}
