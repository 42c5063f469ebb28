// SPDX-License-Identifier: MIT OR Apache-2.0
//! The start of a site: starts its services in order.

use crate::site::services::{agent, broker, munge, slurm, sshd, syslog, testserver};
use crate::site::{earlier, foreign, product_config};
use crate::{Error, Options, Result, Site};

impl Site {
    /// Makes a site and waits until its sshd answers and its nodes are idle.
    ///
    /// # Errors
    /// [`Error::Impossible`] on a machine that cannot hold a site; otherwise the failure, with the logs.
    pub fn start(options: Options) -> Result<Self> {
        let site = Self::without_services(options)?;
        match start(&site) {
            Ok(()) => Ok(site),
            Err(error) => Err(Error::Refused(format!("{error}\n{}", site.logs()))),
        }
    }
}

impl Site {
    /// Starts the test server in a site that was made without services, and installs its root certificate.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn start_servers(&self) -> Result<()> {
        testserver::start(self)?;
        foreign::install_certificates(self)?;
        testserver::wait(self)
    }

    /// Writes the product's configuration, with the commands of the product that the site has by now.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn configure_product(&self) -> Result<()> {
        product_config::write(self)
    }
}

/// Starts everything and waits until sshd answers and all nodes are idle.
fn start(site: &Site) -> Result<()> {
    syslog::start(site)?;
    slurm::create_nodes(site)?;
    munge::start(site)?;
    if site.has_testserver() {
        testserver::start(site)?;
    }
    foreign::install_certificates(site)?;
    if site.has_product() {
        earlier::prepare(site)?;
        product_config::write(site)?;
        if !site.brokers().is_empty() {
            munge::wait(site)?;
            broker::start(site)?;
            broker::wait(site)?;
        }
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
