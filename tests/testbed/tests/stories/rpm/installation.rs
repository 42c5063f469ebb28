// SPDX-License-Identifier: MIT OR Apache-2.0
//! Installing, verifying and removing the packages.
//!
//! `--nodeps`, because the database of rpm does not know what dpkg installed; the list in `relations.txt` has the dependencies.

use serde_json::Value;
use testbed::{Error, Result};

use super::host::Host;

/// All packages but mytoken-selinux, which takes long and has its own tests.
const INSTALL: &str = "rpm --install --nodeps $(ls /packages/*.rpm | grep -v selinux)";

/// The names of these packages.
const NAMES: &str = "mytoken-doc mytoken-ssh mytoken-sshd-config mytokend pam_mytoken slurm-spank-mytoken";

/// All that is below /etc: files with their contents, and links.
const ETC: &str = "cd /etc && find . -type f -exec sha256sum {} + -o -type l -printf '%p -> %l\\n' | LC_ALL=C sort -k2";

/// Lines that only one of two texts has.
fn difference<'a>(before: &'a str, after: &'a str) -> Vec<&'a str> {
    let only = |some: &'a str, other: &'a str| some.lines().filter(move |line| !other.lines().any(|its| its == *line));
    only(before, after).chain(only(after, before)).collect()
}

#[test]
fn rpm_refuses_the_packages_where_their_requirements_are_missing() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    let said = host.failure("rpm --install /packages/*.rpm")?;
    for missing in
        ["libpam.so.0()(64bit) is needed by pam_mytoken", "openssh-server >= 8.2 is needed by mytoken-sshd-config"]
    {
        assert!(said.contains(missing), "{said}");
    }
    Ok(())
}

#[test]
fn installing_changes_two_files_below_etc_and_removing_restores_them() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    let before = host.output(ETC)?;
    host.output(INSTALL)?;
    let after = host.output(ETC)?;
    let changed = difference(&before, &after);
    // Debian's presets start services at boot; those of Red Hat and SUSE do not.
    let expected =
        ["  ./ssh/sshd_config.d/10-mytoken.conf", "./systemd/system/multi-user.target.wants/mytokend.service -> "];
    assert!(
        changed.len() == expected.len() && expected.iter().all(|file| changed.iter().any(|line| line.contains(file))),
        "{changed:#?}"
    );
    assert_eq!(host.output(&format!("rpm --verify --nodeps {NAMES}"))?, "");
    assert_eq!(host.output("stat -c '%a %U' /run/mytoken")?, "711 root\n");
    host.output(&format!("rpm --erase --nodeps {NAMES}"))?;
    assert_eq!(difference(&before, &host.output(ETC)?), Vec::<&str>::new());
    let left = "find / -xdev -name '*mytoken*' -not -path '/packages/*' -not -path '/proc/*'";
    assert_eq!(host.output(left)?, "", "files of the packages are left");
    Ok(())
}

#[test]
fn the_installed_programs_start() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    host.output(INSTALL)?;
    for program in ["mytoken-ssh", "mytokenctl", "mytokend"] {
        let version = host.output(&format!("{program} --version"))?;
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{program}: {version}");
    }
    // As libpam loads it, from the directory of Red Hat: Debian's libpam looks elsewhere.
    let load = "import ctypes; ctypes.CDLL(\"/usr/lib64/security/pam_mytoken.so\").pam_sm_authenticate";
    host.output(&format!("python3 -c '{load}'"))?;
    Ok(())
}

#[test]
fn sshd_takes_the_values_of_the_drop_in_before_those_of_the_distribution() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    host.output("mkdir -p /run/sshd && printf 'KbdInteractiveAuthentication no\\nPasswordAuthentication yes\\n' >/etc/ssh/sshd_config.d/50-redhat.conf")?;
    let effective = || host.output("sshd -T | grep -E '^(kbdinteractive|password)authentication '");
    assert_eq!(effective()?, "passwordauthentication yes\nkbdinteractiveauthentication no\n");
    host.output(INSTALL)?;
    assert_eq!(effective()?, "passwordauthentication no\nkbdinteractiveauthentication yes\n");
    Ok(())
}

#[test]
fn a_changed_drop_in_is_kept() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    host.output(INSTALL)?;
    let drop_in = "/etc/ssh/sshd_config.d/10-mytoken.conf";
    host.output(&format!("echo 'UsePAM yes' >{drop_in}"))?;
    let changed = host.sh("rpm --verify --nodeps mytoken-sshd-config")?;
    assert!(String::from_utf8_lossy(&changed.stdout).contains(&format!("c {drop_in}")), "{changed:?}");
    host.output("rpm --upgrade --replacepkgs --nodeps /packages/mytoken-sshd-config-*.rpm")?;
    assert_eq!(host.output(&format!("cat {drop_in}"))?, "UsePAM yes\n");
    host.output("rpm --erase --nodeps mytoken-sshd-config")?;
    assert_eq!(host.output(&format!("cat {drop_in}.rpmsave && test ! -e {drop_in}"))?, "UsePAM yes\n");
    Ok(())
}

#[test]
fn the_module_cannot_be_removed_while_a_stack_names_it() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    host.output(INSTALL)?;
    host.output("cp /etc/pam.d/sshd /root/before && cp /usr/share/mytoken/pam-sshd.example /etc/pam.d/sshd")?;
    let said = host.failure("rpm --erase --nodeps pam_mytoken")?;
    assert!(said.contains("without it nobody could log in:\n/etc/pam.d/sshd\n"), "{said}");
    assert!(said.contains("fix: take the lines with pam_mytoken.so out"), "{said}");
    host.output("test -e /usr/lib64/security/pam_mytoken.so && rpm --query pam_mytoken")?;
    // In one command the drop-in goes first, as README.rpm says.
    host.failure("rpm --erase --nodeps pam_mytoken mytoken-sshd-config")?;
    host.output("rpm --query pam_mytoken && test ! -e /etc/ssh/sshd_config.d/10-mytoken.conf")?;
    // An upgrade is no removal.
    host.output("rpm --upgrade --replacepkgs --nodeps /packages/pam_mytoken-*.rpm")?;
    // A file of SUSE's directory counts, and copies that libpam never opens do not.
    let vendor = "mkdir -p /usr/lib/pam.d && mv /etc/pam.d/sshd /usr/lib/pam.d/sshd";
    host.output(&format!("{vendor} && cp /usr/lib/pam.d/sshd /etc/pam.d/sshd.rpmsave"))?;
    let said = host.failure("rpm --erase --nodeps pam_mytoken")?;
    assert!(said.contains("could log in:\n/usr/lib/pam.d/sshd\nfix: "), "{said}");
    // What a file includes counts, wherever it is and whatever it is called.
    host.output("cd /etc/pam.d && mv /usr/lib/pam.d/sshd /opt/site && echo 'auth include /opt/site' >x.bak && echo @include x.bak >x")?;
    let said = host.failure("rpm --erase --nodeps pam_mytoken")?;
    assert!(said.contains("could log in:\n/opt/site\nfix: "), "{said}");
    host.output("rm /opt/site /etc/pam.d/x /etc/pam.d/x.bak")?;
    host.output("cp /root/before /etc/pam.d/sshd && echo '# auth pam_mytoken.so' >>/etc/pam.d/sshd")?;
    host.output("rpm --erase --nodeps pam_mytoken && test ! -e /usr/lib64/security/pam_mytoken.so")?;
    Ok(())
}

#[test]
fn links_to_files_of_the_module_go_with_it_and_sshd_starts() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    host.output(INSTALL)?;
    host.output("mkdir -p /run/sshd && rpm --erase --nodeps mytoken-sshd-config")?;
    let directory = "/etc/ssh/sshd_config.d";
    host.output(&format!(
        "cd {directory} && ln -s /usr/share/mytoken/sshd.conf 10-mytoken.conf && \
         ln -s /usr/share/mytoken/sshd-penalties.conf 11-mytoken-penalties.conf && \
         ln -s ../../../usr/share/mytoken/sshd.conf 00-own-name-mytoken.conf"
    ))?;
    let links = format!("cd {directory} && find . -type l -name '*mytoken*' | sort");
    let all = "./00-own-name-mytoken.conf\n./10-mytoken.conf\n./11-mytoken-penalties.conf\n";
    // Neither an upgrade nor a removal that is refused takes them away.
    host.output("rpm --upgrade --replacepkgs --nodeps /packages/pam_mytoken-*.rpm")?;
    host.output("cp /etc/pam.d/sshd /root/before && cp /usr/share/mytoken/pam-sshd.example /etc/pam.d/sshd")?;
    host.failure("rpm --erase --nodeps pam_mytoken")?;
    assert_eq!(host.output(&links)?, all);
    host.output("cp /root/before /etc/pam.d/sshd && rpm --erase --nodeps pam_mytoken")?;
    assert_eq!(host.output(&links)?, "");
    host.output("sshd -t")?;
    // The test would say nothing if sshd started with such a link.
    host.output(&format!("ln -s /usr/share/mytoken/sshd-penalties.conf {directory}/11-mytoken-penalties.conf"))?;
    host.failure("sshd -t")?;
    Ok(())
}

#[test]
fn files_of_the_administrator_outlive_the_module() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    host.output(INSTALL)?;
    let own = "echo '# mine' >/etc/ssh/sshd_config.d/11-mytoken-penalties.conf && echo '# mine' >/root/own.conf && \
               rm /etc/ssh/sshd_config.d/10-mytoken.conf && ln -s /root/own.conf /etc/ssh/sshd_config.d/10-mytoken.conf";
    host.output(&format!("{own} && rpm --erase --nodeps pam_mytoken"))?;
    let kept = "cd /etc/ssh/sshd_config.d && cat 10-mytoken.conf 11-mytoken-penalties.conf && test -L 10-mytoken.conf";
    assert_eq!(host.output(kept)?, "# mine\n# mine\n");
    Ok(())
}

#[test]
fn an_upgrade_leaves_the_service_as_the_administrator_set_it() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    host.output(INSTALL)?;
    host.output("systemctl disable mytokend.service")?;
    host.output("rpm --upgrade --replacepkgs --nodeps /packages/mytokend-*.rpm")?;
    assert_eq!(host.output("systemctl is-enabled mytokend.service || :")?, "disabled\n");
    Ok(())
}

/// What a system of Red Hat includes in the stack of sshd, and a configuration that is complete.
const RED_HAT: &str = r#"
cat >/etc/pam.d/password-auth <<'END'
auth required pam_env.so
auth sufficient pam_unix.so
auth required pam_deny.so
account required pam_unix.so
password required pam_unix.so
session required pam_limits.so
-session optional pam_systemd.so
session required pam_unix.so
END
echo 'session optional pam_umask.so' >/etc/pam.d/postlogin
cat >/etc/mytoken/mytoken.toml <<'END'
[[issuer]]
name = "op"
url = "https://op.example"
audiences = ["https://login.example"]
END
cat >/etc/mytoken/login.toml <<'END'
[[rule]]
name = "people"
issuer = "op"
template = "{sub}"
END
mkdir -p /run/sshd && cp /usr/share/mytoken/pam-sshd.example /etc/pam.d/sshd
"#;

#[test]
fn check_accepts_the_example_stack_and_the_drop_in() -> Result<()> {
    let Some(host) = Host::with_packages()? else { return Ok(()) };
    host.output(INSTALL)?;
    host.output(RED_HAT)?;
    // The check has more to say about this host: it has no agent and no token server.
    let levels = || -> Result<Vec<String>> {
        let report = host.output("mytokenctl check --json || :")?;
        let report: Value =
            serde_json::from_str(&report).map_err(|error| Error::Refused(format!("{error}: {report}")))?;
        let findings = report.get("findings").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |finding: &Value, key: &str| finding.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
        let of_interest = findings.iter().filter(|finding| ["sshd", "PAM"].contains(&text(finding, "part").as_str()));
        Ok(of_interest.map(|finding| format!("{} {}", text(finding, "part"), text(finding, "level"))).collect())
    };
    assert_eq!(levels()?, ["sshd ok", "PAM ok"]);
    host.output("sed -i 's/default=die/default=ignore/' /etc/pam.d/sshd && rm /etc/ssh/sshd_config.d/10-mytoken.conf")?;
    let broken = levels()?;
    assert!(broken.contains(&"sshd error".to_owned()) && broken.contains(&"PAM warning".to_owned()), "{broken:?}");
    Ok(())
}
