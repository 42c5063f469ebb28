// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check`: whom sshd keeps out, from where, and whether it has read its files.

use std::time::Duration;

use testbed::{Error, Options, Release, Result, Site, skip, story};

use crate::checked::{Found, RELOAD_SSHD, findings, healthy, sees_alone, with_notes};

const BROKEN: &str = "/etc/ssh/sshd_config.d/01-broken.conf";

/// Writes lines into a file that sshd reads first, and lets sshd read it.
fn with(lines: &str) -> String {
    format!("printf '{lines}\\n' >{BROKEN}; {RELOAD_SSHD}")
}

const MEND: &str = "rm -f /etc/ssh/sshd_config.d/*-broken.conf; cp -p /root/passwd /etc/passwd; rm -rf /etc/mytoken; cp -a /root/mytoken /etc/";

/// The site's only rule has a map file with these accounts.
const WITH_MAP: &str = "sed -i \"s,^template = .*,map_file = '/etc/mytoken/users.map',\" /etc/mytoken/login.toml; \
                        printf 'op s-1 alice\\nop s-2 bob\\n' >/etc/mytoken/users.map; ";

const SHUT_OUT: &str = "sshd-accounts-shut-out";

/// How a site is broken, the arguments, the id of the one finding, a part of its text, and the exit status.
fn rows() -> Vec<(String, &'static str, &'static str, &'static str, i32)> {
    let off = "\\n KbdInteractiveAuthentication no\\nMatch all";
    let map = |lines: &str| format!("{WITH_MAP}{}", with(lines));
    vec![
        (with("AllowUsers bob"), "--as alice", SHUT_OUT, "AllowUsers does not name it", 1),
        (with("DenyUsers al*"), "--as alice", SHUT_OUT, "DenyUsers al*", 1),
        (with("AllowGroups wheel"), "--as alice", SHUT_OUT, "AllowGroups names none of its groups", 1),
        (with("DenyGroups alice"), "--as alice", SHUT_OUT, "DenyGroups alice", 1),
        (with("Match User alice\\n AllowUsers bob\\nMatch all"), "--as alice", SHUT_OUT, "AllowUsers", 1),
        ("usermod -s /bin/nosuch alice".into(), "--as alice", SHUT_OUT, "/bin/nosuch does not exist", 1),
        (
            "cp /bin/true /opt/shell; chmod 644 /opt/shell; usermod -s /opt/shell alice".into(),
            "--as alice",
            SHUT_OUT,
            "/opt/shell is not executable",
            1,
        ),
        ("usermod -s /usr/bin/false alice".into(), "--as alice", "account-shell", "/usr/bin/false ends", 1),
        (with("AllowUsers daemon nosuch"), "", SHUT_OUT, "lets nobody in", 2),
        (with("AllowGroups nosuch"), "", SHUT_OUT, "lets nobody in", 2),
        (with("DenyUsers *"), "", SHUT_OUT, "lets nobody in", 2),
        (map("DenyUsers bob"), "", SHUT_OUT, "bob (DenyUsers bob)", 1),
        (map("AllowGroups root"), "", SHUT_OUT, "lets nobody in", 2),
        (map(&format!("Match User bob{off}")), "", SHUT_OUT, "bob (KbdInteractiveAuthentication is off", 1),
        ("mkdir -p /etc/mytoken/login.d; printf '[accounts]\\ndeny = [\"alice\"]\\n' >/etc/mytoken/login.d/deny.toml".into(), "--as alice", "account-closed", "deny", 1),
        ("mkdir -p /etc/mytoken/login.d; printf '[accounts]\\nmin_uid = 5000\\n' >/etc/mytoken/login.d/uid.toml".into(), "--as alice", "account-closed", "user id 2001", 1),
        (format!("{WITH_MAP} echo op s-2 bob >/etc/mytoken/users.map"), "--as alice", "account-closed", "no map file", 1),
        // The site's rule is a template, which can open any account.
        (with(&format!("Match User *,!root{off}")), "", "sshd-match", "user *,!root", 1),
        (
            format!("usermod -aG games alice; {}", with(&format!("Match Group games{off}"))),
            "",
            "sshd-match",
            "group games",
            1,
        ),
        (with(&format!("Match Address 10.0.0.0/8,!10.0.0.0/16{off}")), "", "sshd-match", "10.0.0.0/8", 1),
        (with(&format!("Match Address 10.0.0.0/8 User alice{off}")), "", "sshd-match", "user alice", 1),
        (with(&format!("UseDNS yes\\nMatch Host *.example.org{off}")), "--as alice", "sshd-match", "*.example.org", 1),
        (with(&format!("{TWO_PORTS}Match LocalPort 2222{off}")), "", "sshd-match", "localport 2222", 1),
        (with(&format!("{TWO_PORTS}Match LocalPort 2222{off}")), "--as alice", "sshd-match", "localport 2222", 1),
        (with(&format!("Match LocalAddress *,!127.0.0.1,!::1{off}")), "--as alice", "sshd-match", "localaddress *", 1),
        (
            with(&format!(
                "ListenAddress 127.0.0.1:2222 rdomain lo\\nListenAddress 0.0.0.0:22\\nMatch RDomain l?{off}"
            )),
            "",
            "sshd-match",
            "rdomain l?",
            1,
        ),
        (
            with(&format!("{TWO_PORTS}Match LocalPort 22{off}")),
            "",
            "sshd-keyboard-interactive",
            "It differs at port 2222",
            1,
        ),
        (
            with("Match Address 2001:db8::/32\\n AuthenticationMethods publickey\\nMatch all"),
            "",
            "sshd-match",
            "AuthenticationMethods",
            1,
        ),
        (
            with(
                "KbdInteractiveAuthentication no\\nMatch Address 10.*\\n KbdInteractiveAuthentication yes\\nMatch all",
            ),
            "",
            "sshd-keyboard-interactive",
            "It differs for \"Match address 10.*\"",
            1,
        ),
        // An old file that was put there, and one that is gone.
        (format!("cp -p /etc/issue {BROKEN}; echo >{BROKEN}; touch -d 2020-01-01 {BROKEN}"), "", NOT_READ, BROKEN, 1),
        (
            format!("{}; rm {BROKEN}", with("KbdInteractiveAuthentication no")),
            "",
            NOT_READ,
            "/etc/ssh/sshd_config.d ",
            1,
        ),
    ]
}

/// sshd listens at both.
const TWO_PORTS: &str = "Port 22\\nPort 2222\\n";

const NOT_READ: &str = "sshd-not-reloaded";

/// Nobody is kept out.
fn legal() -> Vec<String> {
    vec![
        with("AllowUsers alice@192.0.2.0/24 al*"),
        with("DenyUsers alice@192.0.2.0/24 nosuch"),
        with("AllowGroups nosuch alice"),
        with("Match Address 10.0.0.0/8\\n MaxAuthTries 3\\nMatch all"),
        // sshd does not listen there.
        with(
            "Match LocalPort 2222\\n KbdInteractiveAuthentication no\\nMatch LocalAddress 198.51.100.0/24\\n \
             KbdInteractiveAuthentication no\\nMatch RDomain lo\\n KbdInteractiveAuthentication no\\nMatch all",
        ),
        with(
            "Match User backup,root\\n KbdInteractiveAuthentication no\\nMatch Group nosuch\\n KbdInteractiveAuthentication no\\nMatch all",
        ),
        with("Match Host *.example.org\\n KbdInteractiveAuthentication no\\nMatch all"),
        // An account for files only.
        format!(
            "usermod -s /usr/bin/false alice; {}",
            with("Match User alice\\n ForceCommand internal-sftp\\nMatch all")
        ),
        // Then it is not known when sshd has read its files.
        format!("echo PidFile none >{BROKEN}"),
    ]
}

#[test]
fn whom_sshd_keeps_out_is_found_alone() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        site.sh("root", "cp -p /etc/passwd /root/; cp -a /etc/mytoken /root/")?.ok()?;
        assert_eq!(findings(site, "--as alice")?, (vec![], 0));
        for (break_it, arguments, id, text, status) in rows() {
            let found = sees_alone(site, arguments, &break_it, id, status)?;
            assert!(found.len() == 1 && found[0].text.contains(text), "{break_it}: {found:?}");
            let pasted = site.sh("root", &found[0].fix.replace("systemctl reload ssh", RELOAD_SSHD))?;
            match id {
                NOT_READ => assert_eq!(findings(site, arguments)?, (vec![], 0), "{break_it}"),
                "sshd-match" => {
                    assert!(pasted.stdout.to_lowercase().contains("kbdinteractiveauthentication "), "{pasted:?}");
                }
                "account-closed" => {
                    assert!(pasted.success() && pasted.stdout.starts_with("/etc/mytoken/login."), "{pasted:?}");
                }
                _ => {
                    let shells = [":/bin/nosuch\n", ":/opt/shell\n", ":/usr/bin/false\n"];
                    let shell = shells.iter().any(|shell| pasted.stdout.ends_with(shell));
                    assert!(pasted.stdout.contains("-broken.conf:") || shell, "{pasted:?}");
                }
            }
            mend(site)?;
        }
        for lines in legal() {
            site.sh("root", &lines)?.ok()?;
            assert_eq!(findings(site, "--as alice")?, (vec![], 0), "{lines}");
            mend(site)?;
        }
        site.sh("root", &with("AllowUsers alice"))?.ok()?;
        let report = site.sh("root", "mytokenctl check --json")?.ok()?.stdout;
        assert!(report.contains("\"sshd-access-lists\"") && report.contains("AllowUsers alice"), "{report}");
        mend(site)?;
        site.sh("root", &format!("{WITH_MAP}usermod -s /bin/false bob"))?.ok()?;
        let report = site.sh("root", "mytokenctl check --json")?.ok()?.stdout;
        assert!(report.contains("\"account-shell\"") && report.contains("bob (/bin/false)"), "{report}");
        mend(site)?;
        let other = "/usr/sbin/sshd -p 2299 -oKbdInteractiveAuthentication=no; until test -s /run/sshd.pid; do sleep 0.05; done; sleep 1";
        sees_alone(site, "", other, "sshd-options", 1)?;
        let end = "kill $(cat /run/sshd.pid); touch /run/reload; pkill -HUP -o -x sshd; \
                   until test /run/sshd.pid -nt /run/reload; do sleep 0.05; done";
        site.sh("root", end)?.ok()?;
        assert_eq!(findings(site, "")?, (vec![], 0));
        // Newer releases have this keyword.
        if site.options().release != Release::Bookworm {
            site.sh("root", "cp /etc/pam.d/sshd /etc/pam.d/ssh-site")?.ok()?;
            sees_alone(site, "", &with("PAMServiceName ssh-site"), "pam-service", 2)?;
            sees_alone(site, "", "rm /etc/pam.d/ssh-site; mv /etc/pam.d/other /root/", "pam-line", 2)?;
            site.sh("root", "mv /root/other /etc/pam.d/")?.ok()?;
            mend(site)?;
        }
        Ok(())
    })
}

fn mend(site: &Site) -> Result<()> {
    site.sh("root", &format!("{MEND}; {RELOAD_SSHD}"))?.ok()?;
    Ok(())
}

/// A block for another port, address or routing domain counts for the connections for which the check asks.
#[test]
fn blocks_for_this_hosts_end_count_where_sshd_listens() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        site.sh("root", "cp -p /etc/passwd /root/; cp -a /etc/mytoken /root/")?.ok()?;
        let off = "\\n KbdInteractiveAuthentication no\\nMatch all";
        for (lines, criterion, inside, outside) in [
            (format!("{TWO_PORTS}Match LocalPort 2222{off}"), "localport", "-p 2222 testbed", "testbed"),
            (format!("Match LocalAddress *,!127.0.0.1,!::1{off}"), "localaddress", "testbed", "127.0.0.1"),
            (
                format!("ListenAddress 127.0.0.1:2222 rdomain lo\\nListenAddress 0.0.0.0:22\\nMatch RDomain lo{off}"),
                "rdomain",
                "-p 2222 127.0.0.1",
                "testbed",
            ),
        ] {
            site.sh("root", &with(&lines))?.ok()?;
            let asks_for_tokens = |to: &str| -> Result<bool> {
                let options = "-o StrictHostKeyChecking=no -o PreferredAuthentications=none";
                let methods = site.sh("alice", &format!("ssh {options} {to} true"))?.stderr;
                assert!(methods.contains("Permission denied (publickey"), "{to}: {methods}");
                Ok(methods.contains("keyboard-interactive"))
            };
            assert_eq!((asks_for_tokens(inside)?, asks_for_tokens(outside)?), (false, true), "{lines}");
            let (found, _) = findings(site, "")?;
            assert!(matches!(&found[..], [one] if one.text.contains(criterion)), "{lines}: {found:?}");
            mend(site)?;
        }
        Ok(())
    })
}

/// The finding is a note, so that it changes no exit status.
#[test]
fn the_command_for_penalties_makes_them_short() -> Result<()> {
    let options = Options { nodes: 1, ..Options::new()? };
    if options.release == Release::Bookworm {
        return skip("sshd of this release has no penalties");
    }
    story(options, |site| {
        healthy(site)?;
        let note = || -> Result<Option<Found>> {
            let report = site.sh("root", "mytokenctl check --json")?;
            Ok(with_notes(&report)?.into_iter().find(|found| found.id == "sshd-penalties"))
        };
        let paste = |found: &Found| site.sh("root", &found.fix.replace("systemctl reload ssh", RELOAD_SSHD))?.ok();
        // `authfail:1` or `authfail:1.000000` of the configuration that sshd would read.
        let seconds = |class: &str| -> Result<String> {
            let show = format!("sshd -T | grep -i ^persourcepenalties | grep -o ' {class}:[0-9]*' || true");
            Ok(site.sh("root", &show)?.ok()?.stdout.trim().to_owned())
        };
        let has_names = !seconds("invaliduser")?.is_empty();
        assert_eq!(has_names, site.options().release == Release::Sid);
        assert_eq!(seconds("authfail")?, "authfail:5");
        let found = note()?.ok_or_else(|| Error::Refused("there is no note".into()))?;
        assert!(found.id == "sshd-penalties" && found.text.starts_with("4 refused logins block "), "{found:?}");
        for (seconds, text) in [("10s", "2 refused logins block "), ("20s", "1 refused login blocks ")] {
            site.sh("root", &with(&format!("PerSourcePenalties authfail:{seconds}")))?.ok()?;
            assert!(note()?.is_some_and(|found| found.text.starts_with(text)), "{seconds}");
        }
        site.sh("root", &format!("rm {BROKEN}; {RELOAD_SSHD}"))?.ok()?;
        paste(&found)?;
        assert_eq!(seconds("authfail")?, "authfail:1");
        assert_eq!(seconds("invaliduser")?, if has_names { "invaliduser:1" } else { "" });
        assert_eq!(note()?, None);
        assert_eq!(findings(site, "")?, (vec![], 0));
        if has_names {
            let line = "sed -i 's/ invaliduser:1s$//' /etc/ssh/sshd_config";
            site.sh("root", &format!("{line}; {RELOAD_SSHD}"))?.ok()?;
            let found = note()?.ok_or_else(|| Error::Refused("there is no note".into()))?;
            assert!(found.text.contains("mistyped account name"), "{found:?}");
            paste(&found)?;
            assert_eq!((seconds("invaliduser")?.as_str(), note()?), ("invaliduser:1", None));
        }
        Ok(())
    })
}

/// SSH-34: what the check says is what sshd does.
#[test]
fn the_lists_decide_as_sshd() -> Result<()> {
    const LISTS: &[&str] = &[
        "AllowUsers alice",
        "AllowUsers al* carol",
        "AllowUsers alic? BOB",
        "AllowUsers ALICE",
        "AllowUsers [a]lice b**b",
        "AllowUsers !bob alice",
        "AllowUsers alice@*",
        "DenyUsers bob",
        "DenyUsers *b",
        "DenyUsers !alice",
        "AllowUsers alice bob\\nDenyUsers alice",
        "AllowGroups hpc",
        "AllowGroups h*",
        "AllowGroups alice",
        "DenyGroups hpc",
        "AllowGroups hpc\\nDenyGroups bob",
        "AllowUsers bob\\nAllowGroups hpc",
    ];
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        site.sh("root", "cp -p /etc/passwd /root/; cp -a /etc/mytoken /root/; echo 'hpc:x:7000:bob' >>/etc/group")?
            .ok()?;
        let mut refused = 0;
        for lists in LISTS {
            site.sh("root", &with(lists))?.ok()?;
            for user in ["alice", "bob"] {
                let login = site.sh(user, "ssh -o BatchMode=yes -i .ssh/site_key testbed true")?;
                let (found, _) = findings(site, &format!("--as {user}"))?;
                let told = found.iter().any(|found| found.id == SHUT_OUT);
                assert_eq!(login.code != 0, told, "{lists} {user}: {login:?} {found:?}");
                refused += usize::from(told);
            }
        }
        assert!((5..30).contains(&refused), "{refused}");
        Ok(())
    })
}

/// Answers as OpenSSH 8.0, the release of RHEL 8, where that differs: `ChallengeResponseAuthentication` is a setting of its own (SSH-39).
const WITHOUT_INCLUDE: &str = r#"#!/bin/sh
case "$*" in
*Include=*) echo 'command-line: line 0: Bad configuration option: Include' >&2; exit 1 ;;
-T*)
    /opt/openssh/sshd "$@" || exit
    value=$(sed -n 's/^ChallengeResponseAuthentication //p' /etc/ssh/sshd_config | head -n 1)
    echo "challengeresponseauthentication ${value:-yes}"
    exit ;;
esac
exec /opt/openssh/sshd "$@"
"#;

/// Reads its configuration where sshd of SUSE does.
const OF_SUSE: &str = r#"#!/bin/sh
test -e /etc/ssh/sshd_config || set -- -f /usr/etc/ssh/sshd_config "$@"
exec /opt/openssh/sshd "$@"
"#;

#[test]
fn the_commands_help_an_sshd_without_include_and_one_of_suse() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        // SSH-40.
        let refused = site.sh("root", "sshd -T -o Include=/dev/null")?;
        assert!(refused.code != 0 && refused.stderr.contains("not supported as a command-line option"), "{refused:?}");
        site.sh("root", "mkdir /opt/openssh; mv /usr/sbin/sshd /opt/openssh/; mv /etc/ssh/sshd_config.d /root/")?
            .ok()?;
        site.write("/usr/sbin/sshd", WITHOUT_INCLUDE, "0755")?;
        let own = "cd /etc/ssh; sed -i /^Include/d sshd_config; \
                   printf 'ChallengeResponseAuthentication no\\nMatch User nosuch\\n X11Forwarding no\\n' >>sshd_config; \
                   cp sshd_config /root/before";
        site.sh("root", &format!("{own}; {RELOAD_SSHD}"))?.ok()?;
        // The other setting alone is not enough.
        let alone = "sed -i '1i KbdInteractiveAuthentication yes' /etc/ssh/sshd_config";
        site.sh("root", &format!("{alone}; {RELOAD_SSHD}"))?.ok()?;
        let (found, _) = findings(site, "")?;
        assert!(
            found.iter().any(|found| found.text.starts_with("ChallengeResponseAuthentication is off")),
            "{found:?}"
        );
        site.sh("root", &format!("cp /root/before /etc/ssh/sshd_config; {RELOAD_SSHD}"))?.ok()?;
        let (found, _) = findings(site, "")?;
        let ids: Vec<&str> = found.iter().map(|found| found.id.as_str()).collect();
        assert_eq!(ids, ["sshd-max-startups", "sshd-keyboard-interactive", "sshd-password"]);
        let paste = |fix: &str| site.sh("root", &fix.replace("systemctl reload ssh", RELOAD_SSHD));
        // Any number of them, in any order.
        for one in found.iter().chain(&found) {
            paste(&one.fix)?.ok()?;
        }
        assert_eq!(findings(site, "--as alice")?, (vec![], 0));
        let changes = site.sh("root", "diff /root/before /etc/ssh/sshd_config")?.stdout;
        assert!(changes.starts_with("0a1,6\n") && changes.lines().count() == 7, "{changes}");

        let moved = "mv /root/sshd_config.d /etc/ssh/; mkdir -p /usr/etc/ssh; rm /etc/ssh/sshd_config /etc/ssh/sshd_config.d/10-mytoken.conf; \
                     { echo 'Include /etc/ssh/sshd_config.d/*.conf'; cat /root/before; } >/usr/etc/ssh/sshd_config";
        site.sh("root", moved)?.ok()?;
        site.write("/usr/sbin/sshd", OF_SUSE, "0755")?;
        let restart = || {
            site.stop("sshd", "TERM")?;
            site.sh("root", "rm -f /run/sshd.pid")?.ok()?;
            site.restart("sshd")?;
            site.wait_for("sshd", Duration::from_secs(10), "root", "test -s /run/sshd.pid")
        };
        restart()?;
        let (found, _) = findings(site, "")?;
        assert!(found.iter().any(|found| found.id == "sshd-keyboard-interactive"), "{found:?}");
        paste(&found[0].fix)?.ok()?;
        assert_eq!(findings(site, "--as alice")?, (vec![], 0));
        let found = sees_alone(site, "", &with("PasswordAuthentication yes"), "sshd-password", 1)?;
        let shown = paste(&found[0].fix)?.ok()?.stdout;
        assert!(shown.contains("/usr/etc/ssh/sshd_config:") && shown.contains(BROKEN), "{found:?} {shown}");

        // A file of SUSE without the line: updates of it go on counting.
        let without = format!("rm {BROKEN}; sed -i /^Include/d /usr/etc/ssh/sshd_config; {RELOAD_SSHD}");
        site.sh("root", &without)?.ok()?;
        let (found, _) = findings(site, "")?;
        assert!(found.iter().any(|found| found.id == "sshd-keyboard-interactive"), "{found:?}");
        // SUSE's sshd looks for its file at each reload, this one when it starts.
        site.sh("root", &found[0].fix.replace("systemctl reload ssh", "true"))?.ok()?;
        let written = "Include /etc/ssh/sshd_config.d/10-mytoken.conf\nInclude /usr/etc/ssh/sshd_config\n";
        assert_eq!(site.read("/etc/ssh/sshd_config")?, written);
        restart()?;
        assert_eq!(findings(site, "--as alice")?, (vec![], 0));
        site.sh(
            "root",
            "echo 'LoginGraceTime 30' >>/usr/etc/ssh/sshd_config; sed -i /^Match/,+1d /usr/etc/ssh/sshd_config",
        )?
        .ok()?;
        let (found, _) = findings(site, "")?;
        assert!(found.iter().any(|found| found.id == "sshd-login-grace-time"), "{found:?}");
        Ok(())
    })
}
