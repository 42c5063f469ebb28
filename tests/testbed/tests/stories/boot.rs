// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent has trouble at a boot: it hangs while it starts, or nobody answers its questions for names. The machine goes on without it.

use std::time::Duration;

use testbed::drive::machine::{Machine, machine_story};
use testbed::{Error, Result, Site, wait};

use crate::built_packages::login_by_key;
use crate::installation::install;

/// `TimeoutStartSec` of the unit.
const START: Duration = Duration::from_secs(30);

/// What systemd and a busy machine may add. Less than `TimeoutStopSec` of the unit.
const DELAY: Duration = Duration::from_secs(15);

const BOOT: Duration = Duration::from_secs(150);

/// A start of the agent that hangs, and does not end when systemd asks it to.
const HANGING: &str =
    "[Service]\nExecStartPre=/bin/sh -c \"trap '' TERM; test ! -e /etc/mytoken-hangs || sleep 600\"\n";

/// A name server that takes questions and never answers: its program does not read the socket. A look-up hangs for longer
/// than [`DELAY`].
const SILENT: [(&str, &str); 3] = [
    (
        "/etc/systemd/system/silent-dns.socket",
        "[Socket]\nListenDatagram=127.0.0.1:53\n[Install]\nWantedBy=sockets.target\n",
    ),
    ("/etc/systemd/system/silent-dns.service", "[Service]\nExecStart=/bin/sleep infinity\n"),
    ("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:20 attempts:1\n"),
];

/// Names that are not in /etc/hosts, for both servers.
const UNKNOWN_NAMES: &str = "sed -i 's,//\\(mytoken\\|op\\)[.]testbed,//\\1.silent.example.org,' /etc/mytoken/mytoken.toml && \
                             test $(grep -c silent.example.org /etc/mytoken/mytoken.toml) = 2";

/// When this happened to a unit, since the host's boot; zero if it did not happen since the machine's.
fn time_of(machine: &Machine<'_>, event: &str, unit: &str) -> Result<Duration> {
    let shown = machine.sh(&format!("systemctl show --property={event}TimestampMonotonic --value {unit}"))?.stdout;
    let micros =
        shown.trim().parse().map_err(|error| Error::Refused(format!("{event} of {unit}: {error}: {shown}")))?;
    Ok(Duration::from_micros(micros))
}

fn state(machine: &Machine<'_>, unit: &str) -> Result<String> {
    Ok(machine.sh(&format!("systemctl is-active {unit}"))?.stdout.trim().to_owned())
}

/// When all was there that the agent's start waits for.
fn begin(machine: &Machine<'_>) -> Result<Duration> {
    let [munge, network] = ["munge.service", "network-online.target"].map(|unit| time_of(machine, "ActiveEnter", unit));
    let begin = munge?.max(network?);
    assert!(!begin.is_zero());
    Ok(begin)
}

fn waits_for_no_name(site: &Site, machine: &Machine<'_>) -> Result<()> {
    site.sh("root", "cp /etc/resolv.conf /root/; cp -a /etc/mytoken/mytoken.toml /root/")?.ok()?;
    for (path, text) in SILENT {
        site.write(path, text, "0644")?;
    }
    machine.sh(&format!("systemctl enable silent-dns.socket && {UNKNOWN_NAMES}"))?.ok()?;
    machine.begin_reboot()?;
    wait::until("agent, sshd and slurmd", BOOT, || {
        let running = state(machine, "mytokend")? == "active" && state(machine, "ssh")? == "active";
        Ok((running && !time_of(machine, "InactiveExit", "slurmd")?.is_zero()).then_some(()))
    })?;
    let looked_up = machine.sh("timeout 5 getent ahosts mytoken.silent.example.org")?;
    assert_eq!(looked_up.code, 124, "the look-up does not hang: {looked_up:?}");
    let due = begin(machine)? + DELAY;
    for (event, unit) in [("ActiveEnter", "mytokend"), ("ActiveEnter", "ssh"), ("InactiveExit", "slurmd")] {
        let happened = time_of(machine, event, unit)?;
        assert!(happened < due, "{event} of {unit} at {happened:?}, due at {due:?}");
    }
    login_by_key(site)?;
    machine.sh("systemctl disable silent-dns.socket && rm /etc/systemd/system/silent-dns.*")?.ok()?;
    site.sh("root", "cat /root/resolv.conf >/etc/resolv.conf; cp -a /root/mytoken.toml /etc/mytoken/")?.ok()?;
    // It looks up names while it starts, and forgets a request to end that comes meanwhile: the next reboot would wait for it.
    wait::until("slurmctld", BOOT, || Ok(machine.sh("timeout 5 sinfo -h")?.success().then_some(())))
}

fn waits_for_no_agent(site: &Site, machine: &Machine<'_>) -> Result<()> {
    site.write("/etc/systemd/system/mytokend.service.d/hangs.conf", HANGING, "0644")?;
    site.write("/etc/mytoken-hangs", "", "0644")?;
    machine.begin_reboot()?;
    // Before slurmd starts, slurmctld shows the state of the node that it stored.
    wait::until("Slurm's node", BOOT, || {
        let running = state(machine, "slurmd")? == "active";
        Ok((running && machine.sh("sinfo -h -N -o %T")?.stdout == "idle\n").then_some(()))
    })?;
    assert_ne!(state(machine, "mytokend")?, "active");
    let end_of_start = begin(machine)? + START;
    let sshd = time_of(machine, "ActiveEnter", "ssh")?;
    assert!(
        !sshd.is_zero() && sshd < end_of_start,
        "sshd waited until {sshd:?}; the agent's start took until {end_of_start:?}"
    );
    // The first job shall find an agent, if there can be one.
    let slurmd = time_of(machine, "InactiveExit", "slurmd")?;
    assert!(
        slurmd >= end_of_start && slurmd < end_of_start + DELAY,
        "slurmd waited until {slurmd:?}; the agent's start took until {end_of_start:?}"
    );
    let job = site.sh("bob", "ssh -o BatchMode=yes -i .ssh/site_key testbed srun -Q echo ran")?.ok()?;
    assert_eq!(job.stdout, "ran\n");
    // systemd tries again until the agent starts.
    site.sh("root", "rm /etc/mytoken-hangs")?.ok()?;
    wait::until("the agent", START * 2, || Ok((state(machine, "mytokend")? == "active").then_some(())))
}

#[test]
fn sshd_and_slurmd_come_up_although_the_agent_hangs_or_names_are_not_looked_up() -> Result<()> {
    machine_story(|site, machine| {
        install(site, machine)?;
        waits_for_no_name(site, machine)?;
        waits_for_no_agent(site, machine)
    })
}
