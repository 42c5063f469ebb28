// SPDX-License-Identifier: MIT OR Apache-2.0
//! Control groups of a site's machines. systemd makes groups below the one in which it starts, and control groups belong to the host:
//! without a group of its own a machine would share them with every other one, and leave them behind.

use std::process::{Command, Stdio};

/// Mounts the host's groups of version 2. `group` becomes the directory of the group in which the shell runs.
const MOUNT: &str = "set -e
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)";

/// Removes the groups of sites whose first process is gone. Those of a killed test stay until the next one.
const REMOVE: &str = "for machine in \"$group\"/testbed-*; do
    init=${machine##*/testbed-}
    if test -d \"$machine\" && ! test -e /proc/\"${init%%-*}\"; then
        find \"$machine\" -depth -type d -exec rmdir {} +
    fi
done";

/// Shell commands that move the shell into a group of its own. `init` is the id on the host of the site's first process. They run in a
/// mount namespace of their own.
pub(crate) fn enter(init: u32, machine: &str) -> String {
    format!(
        "{MOUNT}
         group=$group/testbed-{init}-{machine}
         mkdir -p \"$group\"
         echo $$ >\"$group/cgroup.procs\"
         umount /sys/fs/cgroup"
    )
}

/// Removes the groups of all sites that have ended. It is no failure if there are none or they cannot be removed: then the next site
/// tries again.
pub(crate) fn remove_abandoned() {
    let script = format!("{MOUNT}\n{REMOVE}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-c", &script]);
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Removes the groups of a site's machines when it is dropped, which must happen after the end of its processes.
#[derive(Debug)]
pub(crate) struct Groups;

impl Drop for Groups {
    fn drop(&mut self) {
        remove_abandoned();
    }
}
