// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check` about the host around the product: what a security module forbids, and what a boot does not start.

use testbed::drive::machine::machine_story;
use testbed::{Options, Result, Site, story};

use crate::checked::{findings, healthy, problems, sees_alone};
use crate::installation::install;

/// A kernel that enforces a policy, and the programs that tell about it. No kernel of the tests has `SELinux`.
const ENFORCING: &str = "mount -t tmpfs none /sys/fs; mkdir /sys/fs/selinux; printf 1 >/sys/fs/selinux/enforce; \
                         printf '#!/bin/sh\\ncat /root/modules\\n' >/usr/sbin/semodule; \
                         printf '#!/bin/sh\\ngrep \"^$1 \" /root/booleans\\n' >/usr/sbin/getsebool; \
                         printf '#!/bin/sh\\ntest $1 = -P && sed -i \"s/^$2 .*/$2 --> $3/\" /root/booleans\\n' >/usr/sbin/setsebool; \
                         chmod 755 /usr/sbin/semodule /usr/sbin/getsebool /usr/sbin/setsebool; echo munge >/root/modules; \
                         printf 'mytoken_sshd_connect_http --> on\\nmytoken_sshd_connect_proxy --> off\\n' >/root/booleans";

/// The state of the module as shipped.
const MODULE: &str = "printf 'munge\\nmytoken\\n' >/root/modules";

/// Logins without a token need recent ones with a token, whose directory has the label of other services in /var/lib.
/// No file of the tests has a label: these programs keep that of the directory.
const UNLABELLED: &str = "mv /usr/bin/stat /usr/bin/stat.real; echo system_u:object_r:var_lib_t:s0 >/root/label; \
    printf '#!/bin/sh\\ntest \"$*\" = \"-L -c %%C /var/lib/mytoken/logins\" && exec cat /root/label\\n' \
    >/usr/bin/stat; \
    echo 'exec /usr/bin/stat.real \"$@\"' >>/usr/bin/stat; \
    printf '#!/bin/sh\\ntest \"$*\" = \"-R /var/lib/mytoken\" && sed -i s/var_lib_t/mytoken_runtime_t/ /root/label\\n' \
    >/usr/sbin/restorecon; chmod 755 /usr/bin/stat /usr/sbin/restorecon; mkdir -p /etc/mytoken/login.d; \
    printf '[account]\\nkey_logins = \"recent-login:24h\"\\n' >/etc/mytoken/login.d/account.toml; \
    install -d -m 0755 /var/lib/mytoken; install -d -m 0700 /var/lib/mytoken/logins";

fn assert_healthy(site: &Site, after: &str) -> Result<()> {
    // A proxy that is only configured gives no answer.
    let (found, status) = findings(site, "--offline")?;
    assert!(found.is_empty() && status == 0, "after {after}: {found:#?}");
    Ok(())
}

#[test]
fn what_a_security_module_forbids_is_found_alone() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        assert_healthy(site, "the start")?;
        sees_alone(site, "--offline", ENFORCING, "selinux-module", 1)?;
        site.sh("root", MODULE)?.ok()?;
        assert_healthy(site, "the module's installation")?;
        for (break_it, boolean) in [
            (
                "sed -i 's,^ca_file.*,&\\nproxy = \"http://192.0.2.99:3128\",' /etc/mytoken/mytoken.toml",
                "mytoken_sshd_connect_proxy",
            ),
            (
                "sed -i '/^proxy/d' /etc/mytoken/mytoken.toml; setsebool -P mytoken_sshd_connect_http off",
                "mytoken_sshd_connect_http",
            ),
        ] {
            let found = sees_alone(site, "--offline", break_it, "selinux-boolean", 1)?;
            assert!(found.iter().all(|found| found.text.contains(boolean)), "{found:?}");
            for found in &found {
                site.sh("root", &found.fix)?.ok()?;
            }
            assert_healthy(site, break_it)?;
        }
        let found = sees_alone(site, "--offline", UNLABELLED, "selinux-label", 2)?;
        assert!(
            found.iter().all(|found| found.text.contains("/var/lib/mytoken/logins: its type is var_lib_t")),
            "{found:?}"
        );
        for found in &found {
            site.sh("root", &found.fix)?.ok()?;
        }
        assert_healthy(site, "the label of the last logins")?;
        // Without a policy that is enforced, neither matters.
        let wrong = "sed -i s/mytoken_runtime_t/var_lib_t/ /root/label; setsebool -P mytoken_sshd_connect_http off";
        site.sh("root", &format!("{wrong}; umount /sys/fs"))?.ok()?;
        assert_healthy(site, "the end of SELinux")?;
        let profile = "mount -t tmpfs none /sys/kernel; mkdir -p /sys/kernel/security/apparmor; \
                       echo '/usr/sbin/sshd (enforce)' >/sys/kernel/security/apparmor/profiles";
        sees_alone(site, "--offline", profile, "apparmor-profile", 1)?;
        site.sh("root", "umount /sys/kernel")?.ok()?;
        assert_healthy(site, "the end of AppArmor")
    })
}

/// A broker's unit without a broker: what runs in it does not matter here.
const BROKER: &str = "mkdir -p /etc/systemd/system/mytokend-broker.service.d && \
                      printf '[Unit]\\nConditionPathExists=\\n[Service]\\nType=exec\\nExecStart=\\nExecStart=/bin/sleep 999\\nWatchdogSec=0\\n' \
                      >/etc/systemd/system/mytokend-broker.service.d/sleep.conf && systemctl daemon-reload && \
                      systemctl start mytokend-broker";

#[test]
fn services_that_the_next_boot_would_not_start_are_found() -> Result<()> {
    machine_story(|site, machine| {
        install(site, machine)?;
        let fixes = |id: &str| -> Result<Vec<String>> {
            let (found, _) = problems(&machine.sh("mytokenctl check --json --offline")?)?;
            Ok(found.into_iter().filter(|found| found.id == id).map(|found| found.fix).collect())
        };
        let agent = || fixes("agent-not-enabled");
        assert_eq!(fixes("agent-not-enabled")?, [""; 0], "Debian enables it");
        for (change, fix) in [
            ("systemctl disable mytokend", "systemctl enable mytokend"),
            ("systemctl disable mytokend && systemctl enable --runtime mytokend", "systemctl enable mytokend"),
        ] {
            machine.sh(change)?.ok()?;
            let properties =
                machine.sh("systemctl show -p ActiveState,UnitFileState,WantedBy,RequiredBy,TriggeredBy mytokend")?;
            assert_eq!(agent()?, [fix], "{change}: {properties:?}");
            machine.sh(fix)?.ok()?;
            assert_eq!(agent()?, [""; 0], "{change}");
        }
        // The administrator has another unit start it.
        let wanted = "systemctl disable mytokend && systemctl disable --runtime mytokend && \
                      mkdir -p /etc/systemd/system/slurmd.service.d && \
                      printf '[Unit]\\nWants=mytokend.service\\n' >/etc/systemd/system/slurmd.service.d/agent.conf && \
                      systemctl daemon-reload";
        machine.sh(wanted)?.ok()?;
        assert_eq!(agent()?, [""; 0]);
        assert_eq!(fixes("broker-not-enabled")?, [""; 0], "none runs here");
        machine.sh(BROKER)?.ok()?;
        assert_eq!(fixes("broker-not-enabled")?, ["systemctl enable mytokend-broker"]);
        // The finding says what a boot does.
        machine.reboot()?;
        assert_eq!(machine.sh("systemctl is-active mytokend mytokend-broker")?.stdout, "active\ninactive\n");
        Ok(())
    })
}
