// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs of an earlier commit, which some hosts have when the site starts: a cluster in the middle of an upgrade.
//!
//! The hosts of a site share one root file system. Each agent and broker is started from a path of its own, which a story changes with
//! [`Site::use_program`]. The plugin and the commands are those of the nodes and of the submit host; [`install`] replaces them all at once.

use std::path::PathBuf;

use crate::site::paths;
use crate::site::plan::EARLIER_INSIDE;
use crate::site::services::agent::PROGRAM;
use crate::{Error, Result, Site};

/// Hosts that have the programs of the earlier commit when the site starts. The others have those of the present build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// The nodes and the submit host: agents, plugin, mytoken-submit and mytokenctl.
    Nodes,
    /// The brokers.
    Brokers,
}

/// The `mytokend` of the earlier commit, in [`EARLIER_INSIDE`].
pub const EARLIER_PROGRAM: &str = "/run/testbed/earlier/mytokend";

/// A directory inside the site with the plugin and the commands of the present build, under their names in [`EARLIER_INSIDE`].
pub const PRESENT: &str = "/run/testbed/present";

/// The directory of the earlier programs on the host; `None` if `make earlier` has not made them.
#[must_use]
pub fn programs() -> Option<PathBuf> {
    Some(paths::earlier_programs()).filter(|directory| directory.join("commit").is_file())
}

/// The error of a site that cannot have them.
pub(crate) fn missing() -> Error {
    Error::Refused(format!("there are no programs in {}; run `make earlier`", paths::earlier_programs().display()))
}

/// The `mytokend` with which these hosts start.
pub(crate) fn program_of(site: &Site, hosts: Earlier) -> &'static str {
    if site.options().earlier == Some(hosts) { EARLIER_PROGRAM } else { PROGRAM }
}

/// Places of the plugin and of the commands, for the shell.
const PLACES: &str = "plugin=$(echo /usr/lib/*/slurm-wlm/spank_mytoken.so); \
                      submit=/usr/libexec/mytoken/mytoken-submit; control=/usr/bin/mytokenctl;";

/// Keeps a copy of the present plugin and commands, and installs the earlier ones if nodes have them.
pub(crate) fn prepare(site: &Site) -> Result<()> {
    let Some(hosts) = site.options().earlier else { return Ok(()) };
    let keep = format!(
        "set -e; {PLACES} mkdir {PRESENT}; cp $plugin {PRESENT}/libspank_mytoken.so; cp $submit $control {PRESENT}"
    );
    site.sh("root", &keep)?.ok()?;
    if hosts == Earlier::Nodes { install(site, EARLIER_INSIDE) } else { Ok(()) }
}

/// Installs plugin and commands from [`EARLIER_INSIDE`] or [`PRESENT`]: each is renamed over the one before, as dpkg does.
///
/// # Errors
/// When a file cannot be written.
pub fn install(site: &Site, directory: &str) -> Result<()> {
    let script = format!(
        "set -e; {PLACES} cd {directory}
         put() {{ install -m $1 $2 $3.new; mv $3.new $3; }}
         put 644 libspank_mytoken.so $plugin; put 755 mytoken-submit $submit; put 755 mytokenctl $control"
    );
    site.sh("root", &script)?.ok().map(drop)
}
