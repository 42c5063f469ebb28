// SPDX-License-Identifier: MIT OR Apache-2.0
//! munge, which authenticates Slurm's commands and daemons. Its key is made by the package in the cached root.

use crate::site::daemon::Daemon;
use crate::{Result, Site};

pub(crate) fn start(site: &Site) -> Result<()> {
    site.sh("root", "chown munge:munge /run/munge")?.ok()?;
    let drop_to = ["setpriv", "--reuid=munge", "--regid=munge", "--init-groups", "munged", "--foreground"];
    site.start_daemon(Daemon::new("munged", drop_to))
}

pub(crate) fn wait(site: &Site) -> Result<()> {
    site.wait_for("munge", std::time::Duration::from_secs(10), "root", "munge -n | unmunge").map(drop)
}
