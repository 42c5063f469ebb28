// SPDX-License-Identifier: MIT OR Apache-2.0
//! The broker as a service of systemd, on a machine that is its only node as well.

use std::time::Duration;

use testbed::drive::machine::{Machine, machine_story};
use testbed::drive::people;
use testbed::{Result, Site, wait};

use crate::built_packages::{PURGE, bring_packages};

const UNIT: &str = "mytokend-broker";

fn install(site: &Site, machine: &Machine<'_>) -> Result<()> {
    bring_packages(site)?;
    machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok().map(drop)
}

/// Broker and agent have the hardening of their units: the broker asks slurmctld and MUNGE, the agent keeps its key in /var/lib.
fn set_up(site: &Site, machine: &Machine<'_>) -> Result<()> {
    site.configure_product()?;
    site.write("/etc/mytoken/jobs.d/broker.toml", "[broker]\nnames = [\"testbed\"]\n", "0644")?;
    for command in [
        "mytokenctl broker-ca",
        "ln -s /usr/share/mytoken/plugstack.conf /etc/slurm/plugstack.conf.d/mytoken.conf",
        &format!("systemctl start {UNIT}"),
        "systemctl restart mytokend slurmd",
    ] {
        machine.sh(command)?.ok()?;
    }
    machine.wait_for_slurm()
}

fn run_a_job(site: &Site, machine: &Machine<'_>) -> Result<()> {
    let job = machine
        .sh("runuser -u alice -- srun -Q --mytoken=required sh -c 'test -s \"$BEARER_TOKEN_FILE\" && echo with'")?;
    assert!(job.success() && job.stdout.ends_with("with\n"), "{job:?}\n{}", site.logs());
    Ok(())
}

#[test]
fn the_package_leaves_the_broker_to_the_administrator() -> Result<()> {
    machine_story(|site, machine| {
        install(site, machine)?;
        let state = |command: &str| Ok::<_, testbed::Error>(machine.sh(&format!("systemctl {command} {UNIT}"))?.stdout);
        assert_eq!((state("is-enabled")?.trim(), state("is-active")?.trim()), ("disabled", "inactive"));
        assert_eq!(machine.sh("systemctl is-enabled mytokend")?.stdout.trim(), "enabled");
        machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/mytokend_*.deb")?.ok()?;
        assert_eq!((state("is-enabled")?.trim(), state("is-active")?.trim()), ("disabled", "inactive"));
        Ok(())
    })
}

#[test]
fn a_job_gets_its_token_from_the_service() -> Result<()> {
    machine_story(|site, machine| {
        install(site, machine)?;
        set_up(site, machine)?;
        people::first_mytoken(site, "alice")?;
        run_a_job(site, machine)?;
        let modes =
            "stat -c '%n %a %U' /run/mytoken-broker /var/lib/mytoken /var/lib/mytoken/nodes /var/lib/mytoken/node.key";
        let expected = "/run/mytoken-broker 700 root\n/var/lib/mytoken 755 root\n/var/lib/mytoken/nodes 700 root\n/var/lib/mytoken/node.key 600 root\n";
        assert_eq!(machine.sh(modes)?.ok()?.stdout, expected);
        let process = format!(
            "cd /proc/$(systemctl show --value -p MainPID {UNIT}) && grep -E '^Cap(Eff|Bnd)|NoNewPrivs' status"
        );
        let process = machine.sh(&process)?.ok()?.stdout;
        assert!(
            process.contains("CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n"),
            "{process}"
        );
        // Not in the process: systemd of the machine cannot raise the limit above that of this host.
        let limit = machine.sh(&format!("systemctl show --value -p LimitNOFILE {UNIT}"))?.stdout;
        assert_eq!(limit.trim(), "65536");

        let status = machine.sh("mytokenctl broker status")?.ok()?.stdout;
        assert!(status.contains("nodes: 1 enrolled, 0 blocked, 1 connected\n"), "{status}");
        assert!(status.contains(" granted, 0 failed, 0 refused"), "{status}");
        let modes = machine.sh("stat -c '%a %U' /run/mytoken-broker/broker.sock")?.ok()?.stdout;
        assert_eq!(modes, "600 root\n");
        assert_eq!(machine.sh("runuser -u alice -- mytokenctl broker status")?.code, 3);

        machine.sh(&format!("systemctl reload {UNIT}"))?.ok()?;
        machine.sh("echo 'audience_typo = 1' >>/etc/mytoken/mytoken.toml")?.ok()?;
        assert!(!machine.sh(&format!("systemctl reload {UNIT}"))?.success());
        machine.sh("sed -i /audience_typo/d /etc/mytoken/mytoken.toml")?.ok()?;
        // An upgrade restarts it, and it knows its nodes.
        let started = || machine.sh(&format!("systemctl show --value -p ActiveEnterTimestampMonotonic {UNIT}"));
        let before = started()?.stdout;
        machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/mytokend_*.deb")?.ok()?;
        let upgraded = started()?.stdout;
        assert_ne!(upgraded, before, "an upgrade restarts the broker");
        wait::until("the broker", Duration::from_secs(30), || {
            Ok((machine.sh(&format!("systemctl is-active {UNIT}"))?.stdout.trim() == "active").then_some(()))
        })?;
        run_a_job(site, machine)?;
        let log = machine.sh(&format!("journalctl -u {UNIT} --no-pager -o cat"))?.stdout;
        assert!(log.contains("unknown key \"audience_typo\"") && log.contains("1 nodes are enrolled"), "{log}");
        // A removal that is given up: what comes after our part of the maintainer script fails.
        machine
            .sh("cp /var/lib/dpkg/info/mytokend.prerm /root && echo 'exit 1' >>/var/lib/dpkg/info/mytokend.prerm")?
            .ok()?;
        assert!(!machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --force-depends --remove mytokend")?.success());
        machine.sh("cp /root/mytokend.prerm /var/lib/dpkg/info/")?.ok()?;
        assert_ne!(started()?.stdout, upgraded, "the removal stops the broker before it is given up");
        assert_eq!(machine.sh(&format!("systemctl is-active {UNIT} mytokend"))?.stdout, "active\nactive\n");
        run_a_job(site, machine)?;
        machine.sh(PURGE)?.ok()?;
        let left = "pgrep -ax mytokend; ls -d /var/lib/mytoken; systemctl --failed --no-legend";
        assert_eq!(machine.sh(left)?.stdout, "");
        Ok(())
    })
}
