// SPDX-License-Identifier: MIT OR Apache-2.0
//! munge, which authenticates Slurm's commands and daemons. The package makes its key in the cached root.

use crate::site::daemon::Daemon;
use crate::{Result, Site};

pub(crate) fn start(site: &Site) -> Result<()> {
    site.sh("root", "chown munge:munge /run/munge")?.ok()?;
    let argv = ["setpriv", "--reuid=munge", "--regid=munge", "--init-groups", "munged", "--foreground"];
    site.start_daemon(Daemon::new("munged", argv))
}

pub(crate) fn wait(site: &Site) -> Result<()> {
    site.wait_for("munge", std::time::Duration::from_secs(10), "root", "munge -n | unmunge").map(drop)
}
