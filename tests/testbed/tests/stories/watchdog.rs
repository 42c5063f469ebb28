// SPDX-License-Identifier: MIT OR Apache-2.0
//! systemd restarts an agent that hangs.

use std::time::Duration;

use testbed::drive::machine::Machine;
use testbed::drive::story::story_without_services;
use testbed::{Error, Options, Result, Site, skip, wait};

use crate::built_packages::bring_packages;

fn main_pid(machine: &Machine<'_>) -> Result<String> {
    Ok(machine.sh("systemctl show --property MainPID --value mytokend")?.ok()?.stdout.trim().to_owned())
}

fn stop_and_wait(site: &Site, machine: &Machine<'_>) -> Result<()> {
    bring_packages(site)?;
    machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
    site.configure_product()?;
    // The unit's own limit is two minutes.
    let drop_in = "mkdir -p /etc/systemd/system/mytokend.service.d
        printf '[Service]\\nWatchdogSec=3s\\n' >/etc/systemd/system/mytokend.service.d/short.conf
        systemctl daemon-reload && systemctl start mytokend";
    machine.sh(drop_in)?.ok()?;
    let first = main_pid(machine)?;
    // Longer than the limit: an agent that works is left alone.
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(main_pid(machine)?, first);
    machine.sh(&format!("kill -STOP {first}"))?.ok()?;
    wait::until("a new agent", Duration::from_secs(60), || {
        let pid = main_pid(machine)?;
        Ok((pid != first && pid != "0").then_some(()))
    })?;
    assert_eq!(machine.sh("systemctl show --property NRestarts --value mytokend")?.stdout.trim(), "1");
    // It has a pid before it has said that it is ready.
    wait::until("a new agent that is ready", Duration::from_secs(30), || {
        Ok((machine.sh("systemctl is-active mytokend")?.stdout.trim() == "active").then_some(()))
    })
}

#[test]
fn systemd_restarts_an_agent_that_hangs() -> Result<()> {
    let options = Options { systemd: true, product: false, nodes: 1, ..Options::new()? };
    if options.foreign.is_some() {
        return skip("it needs a site of its own");
    }
    story_without_services(options, |site| {
        site.start_servers()?;
        match Machine::boot(site) {
            Err(error @ Error::Impossible(_)) => skip(&error.to_string()),
            machine => stop_and_wait(site, &machine?),
        }
    })
}
