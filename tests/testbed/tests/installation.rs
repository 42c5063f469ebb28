// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of an installation on a machine that boots systemd: service, reload, upgrade, reboot, removal.

use std::time::Duration;

use testbed::drive::machine::Machine;
use testbed::drive::people::{self, Session};
use testbed::drive::story;
use testbed::{Error, Options, Result, Site, skip};

mod common;
use common::{PURGE, bring_packages};

/// A site with the test server, and a machine in it that has no packages of the product yet.
fn machine_story(tell: impl FnOnce(&Site, &Machine<'_>) -> Result<()>) -> Result<()> {
    let options = Options { systemd: true, product: false, nodes: 1, ..Options::new()? };
    if options.foreign.is_some() {
        return skip("it needs a site of its own");
    }
    story::story_without_services(options, |site| {
        site.start_servers()?;
        match Machine::boot(site) {
            Err(error @ Error::Impossible(_)) => skip(&error.to_string()),
            machine => tell(site, &machine?),
        }
    })
}

fn active(machine: &Machine<'_>) -> Result<()> {
    let state = machine.sh("systemctl is-active mytokend")?;
    let log = machine.sh("journalctl -u mytokend --no-pager -o cat -n 20")?.stdout;
    assert_eq!(state.stdout.trim(), "active", "{log}");
    Ok(())
}

/// Installs the packages and does what README says: configuration, service, PAM profile, sshd.
fn install(site: &Site, machine: &Machine<'_>) -> Result<()> {
    bring_packages(site)?;
    machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
    site.configure_product()?;
    machine.sh("systemctl start mytokend")?.ok()?;
    machine.sh("DEBIAN_FRONTEND=noninteractive pam-auth-update --enable mytoken mytoken-session")?.ok()?;
    machine.sh("systemctl reload ssh")?.ok()?;
    active(machine)
}

/// The access token of a session and the number of requests that the session's service answers with 200.
fn call(session: &mut Session) -> Result<String> {
    let call = people::call("-s -o /dev/null -w '%{http_code}'");
    Ok(session.run(&call, Duration::from_secs(20))?.stdout)
}

#[test]
fn sessions_live_through_restart_reload_and_upgrade_and_the_agent_through_a_reboot() -> Result<()> {
    machine_story(|site, machine| {
        install(site, machine)?;
        people::first_mytoken(site, "alice")?;
        let mut session = Session::open(site, "alice", "mytoken-ssh ssh --delegate testbed")?;
        assert_eq!(call(&mut session)?, "200");
        for (step, command) in [
            ("restart", "systemctl restart mytokend"),
            ("reload", "systemctl reload mytokend"),
            ("upgrade", "DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb"),
            ("crash", "kill -KILL $(systemctl show --property MainPID --value mytokend) && sleep 4"),
        ] {
            machine.sh(command)?.ok()?;
            active(machine)?;
            assert_eq!(call(&mut session)?, "200", "after {step}");
        }
        session.close()?;
        machine.reboot()?;
        active(machine)?;
        let login = site.sh("alice", "mytoken-ssh ssh testbed id -un")?.ok()?;
        assert_eq!(login.stdout.trim(), "alice");
        Ok(())
    })
}

#[test]
fn a_reload_with_a_broken_configuration_fails_and_changes_nothing() -> Result<()> {
    machine_story(|site, machine| {
        install(site, machine)?;
        machine.sh("echo 'audience_typo = 1' >>/etc/mytoken/mytoken.toml")?.ok()?;
        let reload = machine.sh("systemctl reload mytokend")?;
        assert!(!reload.success(), "{reload:?}");
        let log = machine.sh("journalctl -u mytokend --no-pager -o cat")?.stdout;
        assert!(log.contains("unknown key \"audience_typo\""), "{log}");
        active(machine)
    })
}

#[test]
fn without_configuration_the_service_is_inactive_and_nothing_has_failed() -> Result<()> {
    machine_story(|site, machine| {
        bring_packages(site)?;
        machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
        assert_eq!(machine.sh("systemctl is-active mytokend")?.stdout.trim(), "inactive");
        assert_eq!(machine.sh("systemctl --failed --no-legend")?.stdout, "");
        machine.sh(PURGE)?.ok()?;
        assert_eq!(
            machine.sh("systemctl --failed --no-legend; systemctl list-unit-files --no-legend 'mytoken*'")?.stdout,
            ""
        );
        Ok(())
    })
}

#[test]
fn the_unit_passes_systemds_own_checks() -> Result<()> {
    machine_story(|site, machine| {
        bring_packages(site)?;
        machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
        let verified = machine.sh("systemd-analyze verify --man=no mytokend.service")?;
        assert!(verified.success() && verified.stderr.is_empty(), "{verified:?}");
        let security = machine.sh("systemd-analyze security --no-pager mytokend.service | tail -n 1")?.ok()?.stdout;
        // "→ Overall exposure level for mytokend.service: 2.6 OK"; 10 is the worst.
        let level = security.split(' ').find_map(|word| word.parse::<f64>().ok());
        assert!(level.is_some_and(|level| level < 3.0), "{security}");
        Ok(())
    })
}
