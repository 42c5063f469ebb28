// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine that boots: systemd as the first process of namespaces inside a site. Two of them are in [`crate::drive::cluster`].
//!
//! The machine has the site's files and network, and its own processes, /run and /tmp. Rebooting it empties these two. Commands of
//! people (`ssh`, `scp`) run in the site and reach the machine's sshd over the network.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::drive::story;
use crate::site::command::CommandOutcome;
use crate::site::control_groups;
use crate::site::daemon::Daemon;
use crate::site::servers::CA;
use crate::{Error, Options, Result, Site, wait};

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

/// How long a command may take: apt and update-ca-certificates can need more than a minute on a busy machine.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);

/// Slurm as an administrator of one host configures it: controller and node are the machine. Not in here: the place of the cgroup
/// plugin, which depends on the release.
pub(super) const SLURM: &str = "ClusterName=cluster
SlurmctldHost=testbed
SlurmUser=slurm
AuthType=auth/munge
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=2
SlurmdParameters=config_overrides
NodeName=testbed CPUs=8 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES DefaultTime=10 MaxTime=UNLIMITED State=UP
";

/// Writes Slurm's configuration. Before the boot: slurmd of Debian 13 would wait for it, and the boot for slurmd.
pub(super) fn configure_slurm(site: &Site, slurm: &str) -> Result<()> {
    let cgroups = if site.options().release.slurm_knows_disabled_cgroups() { "disabled" } else { "cgroup/v1" };
    site.write("/etc/slurm/slurm.conf", slurm, "0644")?;
    site.write("/etc/slurm/cgroup.conf", &format!("CgroupPlugin={cgroups}\n"), "0644")
}

/// A story on a machine that has no packages of the product yet, in a site with the test server. If it fails, the machine's journal
/// is printed.
///
/// # Errors
/// As [`story::story`].
pub fn machine_story(tell: impl FnOnce(&Site, &Machine<'_>) -> Result<()>) -> Result<()> {
    machine_story_with(Options::new()?, tell)
}

/// The same with these options.
///
/// # Errors
/// As [`story::story`].
pub fn machine_story_with(options: Options, tell: impl FnOnce(&Site, &Machine<'_>) -> Result<()>) -> Result<()> {
    let options = Options { systemd: true, product: false, nodes: 1, ..options };
    if options.foreign.is_some() {
        return story::skip("it needs a site of its own");
    }
    story::story_without_services(options, |site| {
        site.start_servers()?;
        let machine = match Machine::boot(site) {
            Err(error @ Error::Impossible(_)) => return story::skip(&error.to_string()),
            machine => machine?,
        };
        with_journals(&[&machine], || tell(site, &machine))
    })
}

/// Tells a story. If it fails, the journals of these machines are printed.
pub(super) fn with_journals(machines: &[&Machine<'_>], tell: impl FnOnce() -> Result<()>) -> Result<()> {
    let told = catch_unwind(AssertUnwindSafe(tell));
    if !matches!(told, Ok(Ok(()))) {
        for machine in machines {
            let journal = machine.sh("journalctl --boot --no-pager -o short-precise | tail -n 120")?.stdout;
            eprintln!("--- the journal of {}\n{journal}", machine.name);
        }
    }
    told.unwrap_or_else(|panic| resume_unwind(panic))
}

/// A running machine.
#[derive(Debug)]
pub struct Machine<'a> {
    site: &'a Site,
    /// The name of the daemon that holds it.
    name: &'static str,
}

impl<'a> Machine<'a> {
    /// Boots a machine in a site without services, made with [`crate::Options::systemd`].
    ///
    /// # Errors
    /// [`Error::Impossible`] on a host that has no control groups to give; when systemd has not started all units within a minute.
    pub fn boot(site: &'a Site) -> Result<Self> {
        configure_slurm(site, SLURM)?;
        Self::boot_configured(site)
    }

    /// Boots it with the site's files as they are.
    pub(super) fn boot_configured(site: &'a Site) -> Result<Self> {
        Self::start(site, NAME, &[], "")
    }

    /// Starts the daemon `name`, whose only child becomes systemd, and waits for the boot. `namespaces` are options of unshare, beside
    /// those that every machine has; `prepare` are shell commands that run in them and may set `new_root`.
    pub(super) fn start(site: &'a Site, name: &'static str, namespaces: &[&str], prepare: &str) -> Result<Self> {
        let group = control_groups::enter(site.init_pid(), name);
        let tried = site.run("root", ["unshare", "--mount", "--propagation=private", "sh", "-c", &group])?;
        if !tried.success() {
            let reason = tried.stderr.lines().next().unwrap_or_default().to_owned();
            return Err(Error::Impossible(format!("systemd cannot be booted here: {reason}")));
        }
        let start = format!(
            "{group}
             {prepare}
             exec chroot \"${{new_root:-/}}\" unshare --mount --propagation=private --pid --cgroup --fork --kill-child sh -c \"$1\""
        );
        let outer = ["unshare", "--mount", "--propagation=private"];
        let argv = outer.iter().chain(namespaces).copied().chain(["sh", "-c", &start, "sh", BOOT]);
        site.start_daemon(Daemon::new(name, argv))?;
        let machine = Self { site, name };
        machine.wait_for_boot()?;
        Ok(machine)
    }

    /// `systemctl reboot`, until all units run again.
    ///
    /// # Errors
    /// As [`Self::boot`].
    pub fn reboot(&self) -> Result<()> {
        self.begin_reboot()?;
        self.wait_for_boot()
    }

    /// The same, until the machine has ended and its first process has begun again.
    ///
    /// # Errors
    /// When the machine does not end within a minute.
    pub fn begin_reboot(&self) -> Result<()> {
        // The command may be killed by what it does.
        self.sh("systemctl reboot")?;
        wait::until("the machine's shutdown", BOOT_LIMIT, || Ok((!self.site.is_running(self.name)?).then_some(())))?;
        self.site.restart(self.name)
    }

    /// Adds the test server's root certificate to those that the whole machine trusts, as sites with an authority of their own do.
    ///
    /// # Errors
    /// When update-ca-certificates fails.
    pub fn trust_the_servers(&self) -> Result<()> {
        let certificate = "/usr/local/share/ca-certificates/testbed.crt";
        self.sh(&format!("install -D -m 644 {CA} {certificate} && update-ca-certificates"))?.ok().map(drop)
    }

    /// Waits until Slurm, which Debian's units start, has its node idle.
    ///
    /// # Errors
    /// When the node is not idle within a minute.
    pub fn wait_for_slurm(&self) -> Result<()> {
        wait::until("Slurm's node", Duration::from_secs(60), || {
            Ok((self.sh("sinfo -h -N -o %T")?.stdout == "idle\n").then_some(()))
        })
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
        self.sh_with_answers(script, "")
    }

    /// The same with answers to the questions of its commands: `apt` asks whether to go on.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn sh_with_answers(&self, script: &str, answers: &str) -> Result<CommandOutcome> {
        let enter = format!(
            "first=$(pgrep -P $(cat /run/testbed/pid/{})) || exit 125; \
             exec nsenter --target $first --mount --pid --cgroup --net --uts -- bash -c \"$1\"",
            self.name
        );
        self.site.command("root", ["bash", "-c", &enter, "bash", script]).stdin(answers).timeout(COMMAND_LIMIT).run()
    }
}
