// SPDX-License-Identifier: MIT OR Apache-2.0
//! The services of a site, one file each.

pub mod agent;
pub mod munge;
pub mod slurm;
pub mod sshd;
pub mod syslog;
pub mod testserver;

use std::time::Duration;

use crate::{Error, Result, Site, config, foreign, wait};

/// Starts everything and waits until sshd answers and all nodes are idle.
pub(crate) fn start(site: &Site) -> Result<()> {
    syslog::start(site)?;
    slurm::nodes(site)?;
    munge::start(site)?;
    if site.has_testserver() {
        testserver::start(site)?;
    }
    foreign::trust(site)?;
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
    slurm::wait(site)?;
    match &site.options().foreign {
        Some(foreign) => foreign::give_mytoken(site, "alice", foreign).map(drop),
        None => Ok(()),
    }
}

/// Waits until `probe`, a shell script of root's, succeeds where the daemon lives; a daemon that ended will not.
pub(crate) fn ready(site: &Site, daemon: &str, node: Option<&str>, limit: Duration, probe: &str) -> Result<()> {
    wait::until(daemon, limit, || {
        let asked = site.script("root", probe);
        let asked = if let Some(node) = node { asked.on(node) } else { asked };
        if asked.run()?.success() {
            return Ok(Some(()));
        }
        if site.is_running(daemon)? {
            return Ok(None);
        }
        Err(Error::Refused(format!("{daemon} ended before it was ready; its last words are in /var/log/{daemon}.log")))
    })
}
