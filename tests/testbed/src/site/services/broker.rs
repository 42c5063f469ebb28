// SPDX-License-Identifier: MIT OR Apache-2.0
//! The brokers, each on a host of its own. They share the configuration and no state.

use std::time::Duration;

use crate::site::daemon::Daemon;
use crate::site::earlier::{self, Earlier};
use crate::{Result, Site};

/// The name of a broker for [`Site::stop`] and [`Site::restart`].
#[must_use]
pub fn name(broker: &str) -> String {
    format!("broker.{broker}")
}

pub(crate) fn start(site: &Site) -> Result<()> {
    let program = earlier::program_of(site, Earlier::Brokers);
    for broker in site.brokers() {
        let (state, runtime) = (format!("/var/lib/mytoken.{broker}"), format!("/run/mytoken-broker.{broker}"));
        let argv = [program, "broker", "--state-dir", &state, "--runtime-dir", &runtime];
        site.start_daemon(Daemon::new(&name(&broker), argv).on(&broker))?;
    }
    Ok(())
}

/// Waits until all brokers accept connections.
///
/// # Errors
/// When one does not in time.
pub fn wait(site: &Site) -> Result<()> {
    site.brokers().iter().try_for_each(|broker| {
        let listens = format!("timeout 1 bash -c '</dev/tcp/{broker}/7512'");
        site.wait_for_daemon(&name(broker), None, Duration::from_secs(10), &listens)
    })
}
