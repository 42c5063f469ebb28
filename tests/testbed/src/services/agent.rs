// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agents: one on the login node, one on each node, as on separate machines.

use std::time::Duration;

use crate::daemon::Daemon;
use crate::{Result, Site};

const PROGRAM: &str = "/usr/sbin/mytokend";
const SOCKET: &str = "/run/mytoken/agent.sock";

/// The name to stop and restart a node's agent by; the login node's is "agent".
#[must_use]
pub fn name(node: &str) -> String {
    format!("agent.{node}")
}

pub(crate) fn start(site: &Site) -> Result<()> {
    site.start_daemon(Daemon::new("agent", [PROGRAM, "agent"]))?;
    for node in site.nodes() {
        site.start_daemon(Daemon::new(&name(&node), [PROGRAM, "agent"]).on(&node))?;
    }
    Ok(())
}

pub(crate) fn wait(site: &Site) -> Result<()> {
    let listens = format!("test -S {SOCKET}");
    site.wait_for("the login node's agent", Duration::from_secs(10), "root", &listens)?;
    for node in site.nodes() {
        let what = format!("the agent of {node}");
        crate::wait::until(&what, Duration::from_secs(10), || {
            Ok(site.on_node(&node, &listens)?.success().then_some(()))
        })?;
    }
    Ok(())
}
