// SPDX-License-Identifier: MIT OR Apache-2.0
//! munge, which authenticates Slurm's commands and daemons. The package makes its key in the cached root.

use crate::site::addresses;
use crate::site::daemon::Daemon;
use crate::{Result, Site};

const ARGV: [&str; 6] = ["setpriv", "--reuid=munge", "--regid=munge", "--init-groups", "munged", "--foreground"];

/// Shell commands that give a node a directory of its own for munged's socket.
pub(crate) fn own_directory(node: &str) -> String {
    let own = format!("/run/munge.{node}");
    format!("mkdir -p {own}; chown munge:munge {own}; mount --bind {own} /run/munge;")
}

/// Starts munged. With brokers, each node has its own one, which tells the node's address.
pub(crate) fn start(site: &Site) -> Result<()> {
    site.sh("root", "chown munge:munge /run/munge")?.ok()?;
    site.start_daemon(Daemon::new("munged", ARGV))?;
    if site.brokers().is_empty() {
        return Ok(());
    }
    for (number, node) in (1..).zip(site.nodes()) {
        let files = [
            format!("--origin={}", addresses::node(number)),
            format!("--seed-file=/var/lib/munge/{node}.seed"),
            format!("--log-file=/var/log/munge/{node}.log"),
        ];
        let argv = ARGV.map(str::to_owned).into_iter().chain(files);
        site.start_daemon(Daemon::new(&format!("munged.{node}"), argv).on(&node))?;
    }
    Ok(())
}

pub(crate) fn wait(site: &Site) -> Result<()> {
    let (limit, works) = (std::time::Duration::from_secs(10), "munge -n | unmunge");
    site.wait_for("munge", limit, "root", works)?;
    if site.brokers().is_empty() {
        return Ok(());
    }
    site.nodes().iter().try_for_each(|node| site.wait_for_daemon(&format!("munged.{node}"), Some(node), limit, works))
}
