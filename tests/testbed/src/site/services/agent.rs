// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agents: one on the login node, one on each node, as on separate machines.

use std::time::Duration;

use crate::site::daemon::Daemon;
use crate::site::earlier::{self, Earlier};
use crate::{Result, Site};

/// The program.
pub const PROGRAM: &str = "/usr/sbin/mytokend";
const SOCKET: &str = "/run/mytoken/agent.sock";

/// The name of a node's agent for [`Site::stop`] and [`Site::restart`]; the login node's is "agent".
#[must_use]
pub fn name(node: &str) -> String {
    format!("agent.{node}")
}

pub(crate) fn start(site: &Site) -> Result<()> {
    let program = earlier::program_of(site, Earlier::Nodes);
    site.start_daemon(Daemon::new("agent", [program, "agent"]))?;
    site.nodes().iter().try_for_each(|node| site.start_daemon(daemon(site, program, node)))
}

/// The agent of a node.
pub(crate) fn daemon(site: &Site, program: &str, node: &str) -> Daemon {
    // All nodes have the same host name here, so each agent gets its node's name as an argument; and the same /var.
    let state = format!("/var/lib/mytoken.{node}");
    let mut argv = vec![program, "agent", "--node", node];
    if !site.brokers().is_empty() {
        argv.extend(["--state-dir", &state]);
    }
    Daemon::new(&name(node), argv).on(node)
}

pub(crate) fn wait(site: &Site) -> Result<()> {
    let (limit, listens) = (Duration::from_secs(10), format!("test -S {SOCKET}"));
    site.wait_for_daemon("agent", None, limit, &listens)?;
    site.nodes().iter().try_for_each(|node| site.wait_for_daemon(&name(node), Some(node), limit, &listens))
}
