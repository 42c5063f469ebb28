// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Debian packages: what they change on a host, and what they leave behind.

use std::fs;
use std::process::Command;

use testbed::drive::{askpass, tokens};
use testbed::site::paths;
use testbed::site::root::{Recipe, Root};
use testbed::{Error, Options, Result, Site, skip, story};

use crate::built_packages::{PURGE, bring_packages, built, difference, etc, login_by_key};

/// A login by the prompt of PAM.
const BY_PROMPT: &str =
    "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 testbed id -un";

fn one_node() -> Result<Options> {
    Ok(Options { nodes: 1, ..Options::new()? })
}

/// A story in a site in which dpkg installed the packages of /root/packages, whatever the other stories run.
fn with_packages(body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story(Options { product: false, ..one_node()? }, |site| {
        bring_packages(site)?;
        site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
        body(site)
    })
}

#[test]
fn installing_changes_two_links_and_purging_leaves_none() -> Result<()> {
    story(Options { product: false, ..one_node()? }, |site| {
        bring_packages(site)?;
        let before = etc(site)?;
        let installed = site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
        let after = etc(site)?;
        let changed = difference(&before, &after);
        // sshd's drop-in, and the service for the next boot.
        let expected = [
            "./ssh/sshd_config.d/10-mytoken.conf -> ",
            "./systemd/system/multi-user.target.wants/mytokend.service -> ",
        ];
        assert!(
            changed.len() == expected.len()
                && expected.iter().all(|link| changed.iter().any(|line| line.starts_with(link))),
            "{changed:#?}\n{installed:?}"
        );
        // sshd reads its configuration for each connection anew only at a reload; it must accept it by then.
        site.sh("root", "sshd -t")?.ok()?;
        login_by_key(site)?;
        assert_eq!(site.sh("root", "dpkg --verify")?.ok()?.stdout, "");
        site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --remove $(cd /root/packages && ls | cut -d_ -f1)")?
            .ok()?;
        site.sh("root", "sshd -t")?.ok()?;
        login_by_key(site)?;
        site.sh("root", PURGE)?.ok()?;
        assert_eq!(difference(&before, &etc(site)?), Vec::<&str>::new());
        let left = site
            .sh(
                "root",
                "find / -xdev -name '*mytoken*' -not -path '/root/*' -not -path '/home/*' -not -path '/proc/*'",
            )?
            .ok()?;
        assert_eq!(left.stdout, "", "files of the packages are left");
        Ok(())
    })
}

/// The last logins decide about logins with keys, as long as the module is there.
#[test]
fn each_package_purges_its_own_state_alone() -> Result<()> {
    const STATE: &str =
        "cd /var/lib/mytoken && umask 077 && mkdir -p logins nodes && touch logins/2001 nodes/n1.json node.key";
    with_packages(|site| {
        let left = || Ok::<_, Error>(site.sh("root", "find /var/lib/mytoken | sort")?.stdout);
        let logins = "/var/lib/mytoken\n/var/lib/mytoken/logins\n/var/lib/mytoken/logins/2001\n";
        site.sh("root", &format!("mkdir -p /var/lib/mytoken && {STATE}"))?.ok()?;
        site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --purge slurm-spank-mytoken mytokend")?.ok()?;
        assert_eq!(left()?, logins);
        site.sh("root", "dpkg --purge mytoken-sshd-config libpam-mytoken")?.ok()?;
        assert_eq!(left()?, "");

        site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
        site.sh("root", "mkdir -p /var/lib/mytoken/logins && dpkg --purge mytoken-sshd-config libpam-mytoken")?.ok()?;
        assert_eq!(left()?, "/var/lib/mytoken\n", "mytokend is there, and may have it open");

        site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
        site.sh("root", &format!("mkdir -p /var/lib/mytoken && {STATE}"))?.ok()?;
        site.sh("root", "dpkg --purge mytoken-sshd-config libpam-mytoken")?.ok()?;
        let state =
            "/var/lib/mytoken\n/var/lib/mytoken/node.key\n/var/lib/mytoken/nodes\n/var/lib/mytoken/nodes/n1.json\n";
        assert_eq!(left()?, state);
        site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --purge slurm-spank-mytoken mytokend")?.ok()?;
        assert_eq!(left()?, "");

        // Behind a link there may be files of others.
        site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
        let linked = "mkdir /srv/shared && touch /srv/shared/of-others && ln -s /srv/shared /var/lib/mytoken";
        site.sh("root", &format!("{linked} && {STATE}"))?.ok()?;
        site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --purge slurm-spank-mytoken mytokend")?.ok()?;
        site.sh("root", "test -L /var/lib/mytoken && cd /var/lib/mytoken && ls of-others node.key logins/2001")?
            .ok()?;
        site.sh("root", "rm /var/lib/mytoken")?.ok()?;

        // A file system for the state, and another one in it.
        site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
        let mounted = "mkdir -p /var/lib/mytoken && mount -t tmpfs tmpfs /var/lib/mytoken && mkdir /var/lib/mytoken/theirs && \
                       mount -t tmpfs tmpfs /var/lib/mytoken/theirs && touch /var/lib/mytoken/theirs/of-others";
        site.sh("root", &format!("{mounted} && {STATE}"))?.ok()?;
        let purge = "DEBIAN_FRONTEND=noninteractive dpkg --purge slurm-spank-mytoken mytokend mytoken-sshd-config libpam-mytoken";
        site.sh("root", purge)?.ok()?;
        site.sh("root", "cd /var/lib/mytoken && test \"$(echo *)\" = theirs && test -e theirs/of-others")?.ok()?;
        site.sh("root", "! dpkg-query --show mytokend libpam-mytoken")?.ok()?;
        Ok(())
    })
}

#[test]
fn the_pam_profile_serves_sshd_and_no_other_service() -> Result<()> {
    story(Options { example_stack: false, ..one_node()? }, |site| {
        let enable = "DEBIAN_FRONTEND=noninteractive pam-auth-update --enable mytoken mytoken-session";
        site.sh("root", enable)?.ok()?;
        let token = tokens::access_token(site, "alice")?;
        let login = askpass::run_with_answers(site, "alice", &[&token], BY_PROMPT)?.ok()?;
        assert!(login.stdout.contains("alice"), "{login:?}");
        let refused = askpass::run_with_answers(site, "alice", &["aaaaaaaa.bbbbbbbb.cccccccc"], BY_PROMPT)?;
        assert!(!refused.success(), "{refused:?}");
        login_by_key(site)?;
        // Another service asks for the password at once, and never for a token.
        site.sh(
            "root",
            "printf 'auth include common-auth\\naccount include common-account\\n' >/etc/pam.d/other-service",
        )?
        .ok()?;
        let other = site.script("root", "pamtester other-service alice authenticate").stdin("wrong\n").run()?;
        let asked = format!("{}{}", other.stdout, other.stderr);
        assert!(!other.success() && asked.starts_with("Password: ") && !asked.contains("oken"), "{other:?}");
        Ok(())
    })
}

#[test]
fn removing_the_module_takes_its_lines_out_of_the_stacks() -> Result<()> {
    with_packages(|site| {
        let stacks = || Ok::<_, Error>(site.sh("root", "cd /etc/pam.d && cat common-*")?.ok()?.stdout);
        let before = stacks()?;
        site.sh("root", "DEBIAN_FRONTEND=noninteractive pam-auth-update --enable mytoken mytoken-session")?.ok()?;
        assert_eq!(stacks()?.matches("pam_mytoken.so").count(), 3, "auth, account and session");
        site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --remove libpam-mytoken mytoken-sshd-config")?.ok()?;
        assert_eq!(stacks()?, before);
        login_by_key(site)
    })
}

/// Removes the module alone: mytoken-sshd-config, which depends on it, is gone.
const REMOVE: &str = "DEBIAN_FRONTEND=noninteractive dpkg --remove libpam-mytoken";

/// The removal is refused with these files and this advice. It has changed nothing, and people log in.
fn removal_is_refused(site: &Site, stacks: &str, fix: &str) -> Result<()> {
    let before = etc(site)?;
    let refused = site.sh("root", REMOVE)?;
    let message = format!("without it nobody could log in:\n{stacks}\nfix: {fix}");
    assert!(!refused.success() && refused.stderr.contains(&message), "{refused:?}");
    let state =
        site.sh("root", "dpkg-query -W -f '${db:Status-Status}' libpam-mytoken; dpkg --verify libpam-mytoken")?;
    assert_eq!(state.ok()?.stdout, "installed", "the package and all its files are there");
    assert_eq!(difference(&before, &etc(site)?), Vec::<&str>::new());
    login_by_key(site)
}

#[test]
fn the_module_cannot_be_removed_while_a_stack_names_it() -> Result<()> {
    with_packages(|site| {
        site.sh("root", "dpkg --purge mytoken-sshd-config && cp /etc/pam.d/sshd /root/pam-sshd.before")?.ok()?;
        let before = etc(site)?;
        site.sh("root", "DEBIAN_FRONTEND=noninteractive pam-auth-update --enable mytoken mytoken-session")?.ok()?;
        site.sh("root", "cp /usr/share/mytoken/pam-sshd.example /etc/pam.d/sshd")?.ok()?;
        let fix = "put back the file that you saved (cp /root/pam-sshd.before /etc/pam.d/sshd)";
        removal_is_refused(site, "/etc/pam.d/sshd", fix)?;
        // The "-" only keeps libpam from logging that the module is missing.
        let other = "-account required \\\n/lib/security/pam_mytoken.so\n";
        site.write("/etc/pam.d/other-service", other, "0644")?;
        site.sh("root", "cp /root/pam-sshd.before /etc/pam.d/sshd")?.ok()?;
        removal_is_refused(site, "/etc/pam.d/other-service", fix)?;
        // What a file includes counts, wherever it is and whatever it is called.
        site.sh("root", "mkdir /opt/pam && cd /etc/pam.d && mv other-service /opt/pam/site && cp sshd sshd.bak")?
            .ok()?;
        site.write("/opt/pam/more", "@include /opt/pam/site\n", "0644")?;
        site.write("/etc/pam.d/other-service", "account Substack sshd.bak\n", "0644")?;
        site.sh("root", "echo 'account include \\\n /opt/pam/more' >>/etc/pam.d/sshd.bak")?.ok()?;
        removal_is_refused(site, "/opt/pam/site", fix)?;
        site.sh("root", "rm -r /opt/pam /etc/pam.d/sshd.bak")?.ok()?;
        // An upgrade is no removal.
        site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/libpam-mytoken_*.deb")?.ok()?;
        // Comments and leftovers of editors are read by nobody.
        site.sh("root", "cd /etc/pam.d && rm other-service && cp /usr/share/mytoken/pam-sshd.example sshd.bak")?
            .ok()?;
        site.sh("root", "echo '# auth required pam_mytoken.so' >/etc/pam.d/other-service")?.ok()?;
        site.sh("root", REMOVE)?.ok()?;
        site.sh("root", "rm /etc/pam.d/other-service /etc/pam.d/sshd.bak")?.ok()?;
        assert_eq!(difference(&before, &etc(site)?), Vec::<&str>::new());
        login_by_key(site)
    })
}

/// dpkg removes what depends on the module first. What removal.md says about that state.
#[test]
fn a_refused_removal_that_took_the_drop_in_away_leaves_logins_by_key() -> Result<()> {
    with_packages(|site| {
        let way_2 =
            "cp /etc/pam.d/sshd /root/pam-sshd.before && cp /usr/share/mytoken/pam-sshd.example /etc/pam.d/sshd";
        site.sh("root", way_2)?.ok()?;
        let reload = "kill -HUP $(cat /run/sshd.pid); sleep 1";
        let methods = || -> Result<String> {
            site.sh("root", reload)?.ok()?;
            let options = "-o StrictHostKeyChecking=no -o PreferredAuthentications=none";
            Ok(site.sh("alice", &format!("ssh {options} testbed true"))?.stderr)
        };
        let before = methods()?;
        assert!(before.contains("(publickey,keyboard-interactive)"), "{before}");
        let both = "DEBIAN_FRONTEND=noninteractive dpkg --remove libpam-mytoken mytoken-sshd-config";
        let refused = site.sh("root", both)?;
        assert!(!refused.success() && refused.stderr.contains("without it nobody could log in"), "{refused:?}");
        assert!(!site.exists("/etc/ssh/sshd_config.d/10-mytoken.conf")?);
        let half = methods()?;
        assert!(half.contains("(publickey,password)"), "{half}");
        login_by_key(site)?;
        site.sh("root", &format!("cp /root/pam-sshd.before /etc/pam.d/sshd && {REMOVE}"))?.ok()?;
        login_by_key(site)
    })
}

#[test]
fn the_module_cannot_be_removed_while_pam_auth_update_leaves_edited_stacks_alone() -> Result<()> {
    with_packages(|site| {
        site.sh("root", "dpkg --purge mytoken-sshd-config")?.ok()?;
        let before = etc(site)?;
        site.sh("root", "DEBIAN_FRONTEND=noninteractive pam-auth-update --enable mytoken mytoken-session")?.ok()?;
        let edit =
            "sed -i '/^# and here are more per-package/a account optional pam_permit.so' /etc/pam.d/common-account";
        site.sh("root", edit)?.ok()?;
        let stacks = "/etc/pam.d/common-account\n/etc/pam.d/common-auth\n/etc/pam.d/common-session";
        let overwrite = "pam-auth-update --force --disable mytoken mytoken-session";
        let fix = format!(
            "undo your changes in the blocks of pam-auth-update, or let it overwrite them: {overwrite}; then remove"
        );
        removal_is_refused(site, stacks, &fix)?;
        site.sh("root", &format!("DEBIAN_FRONTEND=noninteractive {overwrite}"))?.ok()?;
        login_by_key(site)?;
        site.sh("root", REMOVE)?.ok()?;
        // What pam-auth-update has overwritten is in these; it names the module, and nobody reads it.
        site.sh("root", "rm /etc/pam.d/common-*.pam-old")?.ok()?;
        assert_eq!(difference(&before, &etc(site)?), Vec::<&str>::new());
        login_by_key(site)
    })
}

#[test]
fn the_link_of_the_drop_in_is_the_administrators_once_he_changed_it() -> Result<()> {
    with_packages(|site| {
        let link = "/etc/ssh/sshd_config.d/10-mytoken.conf";
        site.sh("root", &format!("rm {link} && echo 'UsePAM yes' >{link}"))?.ok()?;
        site.sh("root", "dpkg --install /root/packages/mytoken-sshd-config_*.deb && dpkg --purge mytoken-sshd-config")?
            .ok()?;
        assert_eq!(site.read(link)?, "UsePAM yes\n");
        site.sh("root", &format!("rm {link} && dpkg --install /root/packages/mytoken-sshd-config_*.deb"))?.ok()?;
        assert!(site.exists(link)?, "a new installation makes the link");
        site.sh("root", &format!("rm {link} && dpkg --install /root/packages/mytoken-sshd-config_*.deb"))?.ok()?;
        assert!(!site.exists(link)?, "an upgrade does not make a link again that the administrator removed");
        Ok(())
    })
}

/// sshd does not start when a link that it includes leads to nothing. For the RPMs, `rpm/installation.rs` has the same.
#[test]
fn links_to_files_of_the_drop_ins_package_go_with_it_and_others_stay() -> Result<()> {
    with_packages(|site| {
        let link = "/etc/ssh/sshd_config.d/11-mytoken-penalties.conf";
        site.sh("root", &format!("ln -s /usr/share/mytoken/sshd-penalties.conf {link}"))?.ok()?;
        site.sh("root", "dpkg --install /root/packages/mytoken-sshd-config_*.deb")?.ok()?;
        site.sh("root", &format!("test -L {link}"))?.ok()?;
        // Whatever it is called, and however it leads there.
        let relative = "cd /etc/ssh/sshd_config.d && ln -s ../../../usr/share/mytoken/sshd.conf 00-own-name.conf";
        site.sh("root", relative)?.ok()?;
        site.sh("root", "dpkg --remove mytoken-sshd-config")?.ok()?;
        site.sh("root", &format!("! test -L {link} && ! test -L /etc/ssh/sshd_config.d/00-own-name.conf && sshd -t"))?
            .ok()?;
        login_by_key(site)?;
        let own = format!("echo '# mine' >/root/own.conf && ln -s /root/own.conf {link}");
        site.sh("root", &format!("{own} && dpkg --install /root/packages/mytoken-sshd-config_*.deb"))?.ok()?;
        site.sh("root", "dpkg --remove mytoken-sshd-config")?.ok()?;
        site.sh("root", &format!("test -L {link}"))?.ok()?;
        assert_eq!(site.read(link)?, "# mine\n");
        site.sh("root", "rm -r /etc/ssh/sshd_config.d && dpkg --install /root/packages/mytoken-sshd-config_*.deb")?
            .ok()?;
        site.sh("root", "test -L /etc/ssh/sshd_config.d/10-mytoken.conf")?.ok()?;
        Ok(())
    })
}

/// Makes the module's package of another architecture out of this one's. Only its names matter here.
const AS_ARM64: &str = "cd /root && dpkg-deb --raw-extract packages/libpam-mytoken_*.deb foreign && cd foreign && \
    sed -i 's/^Architecture: .*/Architecture: arm64/' DEBIAN/control && \
    for path in $(find . -depth -name \"$(dpkg --print-architecture | sed s/amd64/x86_64/)-linux-gnu\"); do \
        mv $path ${path%/*}/aarch64-linux-gnu; done && \
    dpkg-deb --build . /root/foreign.deb && dpkg --add-architecture arm64 && dpkg --force-depends --install /root/foreign.deb";

/// libpam loads the module of its own architecture, and without it a stack that names it refuses all logins.
#[test]
fn the_module_of_another_architecture_keeps_neither_the_lines_of_this_one_nor_takes_its_state() -> Result<()> {
    with_packages(|site| {
        site.sh("root", "dpkg --purge mytoken-sshd-config")?.ok()?;
        site.sh("root", AS_ARM64)?.ok()?;
        site.sh("root", "test $(dpkg-query --show libpam-mytoken | wc -l) = 2")?.ok()?;
        site.sh("root", "DEBIAN_FRONTEND=noninteractive pam-auth-update --enable mytoken mytoken-session")?.ok()?;
        site.sh("root", "grep -q pam_mytoken /etc/pam.d/common-account")?.ok()?;
        site.sh("root", "DEBIAN_FRONTEND=noninteractive dpkg --remove libpam-mytoken:$(dpkg --print-architecture)")?
            .ok()?;
        site.sh("root", "! grep -q pam_mytoken /etc/pam.d/common-*")?.ok()?;
        login_by_key(site)?;

        site.sh("root", "dpkg --install /root/packages/libpam-mytoken_*.deb")?.ok()?;
        site.sh("root", "mkdir -p /var/lib/mytoken/logins /var/cache/mytoken && touch /var/lib/mytoken/logins/2001")?
            .ok()?;
        site.sh("root", "dpkg --purge libpam-mytoken:arm64")?.ok()?;
        site.sh("root", "test -e /var/lib/mytoken/logins/2001 && test -d /var/cache/mytoken")?.ok()?;
        site.sh("root", "dpkg --purge libpam-mytoken")?.ok()?;
        site.sh("root", "! test -e /var/lib/mytoken/logins && ! test -e /var/cache/mytoken")?.ok()?;
        Ok(())
    })
}

#[test]
fn lintian_has_no_complaint() -> Result<()> {
    let packages = built()?;
    let Ok(output) = Command::new("lintian").args(["--no-cfg", "--fail-on", "error,warning"]).args(&packages).output()
    else {
        return skip("lintian is not installed");
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    Ok(())
}

#[test]
fn piuparts_finds_nothing_that_installation_removal_and_purge_leave() -> Result<()> {
    if let Err(error) = testbed::can_hold_a_site() {
        return skip(&error.to_string());
    }
    if !testbed::has_program("piuparts") {
        return skip("piuparts is not installed");
    }
    let options = one_node()?;
    // It copies this root. Without a network it uses what is there: all dependencies are.
    let root = Root::open(&Recipe::site(options.release))?;
    let work = paths::target().join("tmp/piuparts");
    let io = |what: &str| {
        let what = what.to_owned();
        |source| Error::Io { what, source }
    };
    // A killed test leaves its copy of the root. The mounts in it ended with their namespace.
    if work.exists() {
        fs::remove_dir_all(&work).map_err(io("removing piuparts' directory"))?;
    }
    fs::create_dir_all(&work).map_err(io("making piuparts' directory"))?;
    // It ends with this process, even by SIGKILL.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "piuparts"])
        .args(["--keep-sources-list", "--no-upgrade-test", "--no-eatmydata", "--skip-minimize", "--distribution"])
        .args([options.release.name(), "--existing-chroot"])
        .arg(root.directory())
        .arg("--tmpdir")
        .arg(&work)
        .args(built()?)
        .output()
        .map_err(io("starting piuparts"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && said.contains("PASS: All tests");
    let problems: Vec<&str> =
        said.lines().filter(|line| [" ERROR:", "FAIL"].iter().any(|word| line.contains(word))).collect();
    assert!(passed, "{problems:#?}\n{}", said.get(said.len().saturating_sub(4000)..).unwrap_or_default());
    Ok(())
}

#[test]
fn shell_scripts_pass_shellcheck() -> Result<()> {
    let repository = paths::repository();
    let scripts = Command::new("sh")
        .args(["-c", "grep -rlE --exclude='*.rs' '^#!/bin/(ba)?sh' packaging tests/testbed fuzz/run .ci"])
        .current_dir(&repository)
        .output()
        .map_err(|source| Error::Io { what: "finding the scripts".into(), source })?;
    let names = String::from_utf8_lossy(&scripts.stdout).into_owned();
    assert!(names.lines().count() >= 10, "{names}");
    let Ok(output) = Command::new("shellcheck").args(names.lines()).current_dir(&repository).output() else {
        return skip("shellcheck is not installed");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
