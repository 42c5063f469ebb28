// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine that boots: systemd as the first process of namespaces inside a site.
//!
//! The machine has the site's files and network, and its own processes, /run and /tmp. Rebooting it empties these two. Commands of
//! people (`ssh`, `scp`) run in the site and reach the machine's sshd over the network.

use std::time::Duration;

use crate::site::command::CommandOutcome;
use crate::site::daemon::Daemon;
use crate::{Error, Result, Site, wait};

/// Name of the daemon that holds the machine.
const NAME: &str = "machine";

/// Prepares the namespaces and starts systemd. It must not change settings of the host: /proc/sys is read-only, and it can neither
/// load modules nor set the clock.
const BOOT: &str = "set -e
    mount -t proc -o nosuid,noexec,nodev proc /proc
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
    mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /tmp
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exec env -i container=testbed PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-syslog \
        /lib/systemd/systemd --log-target=console --show-status=no";

/// How long a boot may take on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// A running machine.
#[derive(Debug)]
pub struct Machine<'a> {
    site: &'a Site,
}

impl<'a> Machine<'a> {
    /// Boots a machine in a site without services, made with [`crate::Options::systemd`].
    ///
    /// # Errors
    /// [`Error::Impossible`] on a host that has no control groups to give; when systemd has not started all units within a minute.
    pub fn boot(site: &'a Site) -> Result<Self> {
        let control_groups = "unshare --mount --cgroup mount -t cgroup2 cgroup2 /sys/fs/cgroup";
        let tried = site.sh("root", control_groups)?;
        if !tried.success() {
            let reason = tried.stderr.lines().next().unwrap_or_default().to_owned();
            return Err(Error::Impossible(format!("systemd cannot be booted here: {reason}")));
        }
        #[rustfmt::skip]
        let namespaces = ["unshare", "--mount", "--propagation=private", "--pid", "--cgroup", "--fork", "--kill-child"];
        site.start_daemon(Daemon::new(NAME, namespaces.into_iter().chain(["sh", "-c", BOOT])))?;
        let machine = Self { site };
        machine.wait_for_boot()?;
        Ok(machine)
    }

    /// `systemctl reboot`, until all units run again.
    ///
    /// # Errors
    /// As [`Self::boot`].
    pub fn reboot(&self) -> Result<()> {
        // The command may be killed by what it does.
        self.sh("systemctl reboot")?;
        wait::until("the machine's shutdown", BOOT_LIMIT, || Ok((!self.site.is_running(NAME)?).then_some(())))?;
        self.site.restart(NAME)?;
        self.wait_for_boot()
    }

    fn wait_for_boot(&self) -> Result<()> {
        wait::until("the machine's boot", BOOT_LIMIT, || {
            // Not --wait: until systemd's socket exists it fails at once.
            let state = self.sh("systemctl is-system-running")?.stdout;
            Ok(matches!(state.trim(), "running" | "degraded").then_some(()))
        })
    }

    /// Runs a shell script as root on the machine.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn sh(&self, script: &str) -> Result<CommandOutcome> {
        let enter = format!(
            "first=$(pgrep -P $(cat /run/testbed/pid/{NAME})) || exit 125; \
             exec nsenter --target $first --mount --pid --cgroup -- bash -c \"$1\""
        );
        self.site.command("root", ["bash", "-c", &enter, "bash", script]).run()
    }
}
