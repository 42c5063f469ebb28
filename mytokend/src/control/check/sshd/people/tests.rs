// SPDX-License-Identifier: MIT OR Apache-2.0

use super::super::files::MAIN;
use super::super::tests::{HEALTHY, Site, TEMPLATE, shown};
use super::*;

#[test]
fn accounts_that_sshd_keeps_out_are_told_with_the_reason() {
    let file = "[[rule]]\nname = 'r'\nissuer = 'op'\nmap_file = '/m'\n";
    let both = format!("{TEMPLATE}{file}");
    for (lists, user, text, expected) in [
        ("", None, TEMPLATE, ""),
        ("allowusers alice", Some("alice"), TEMPLATE, ""),
        (
            "allowusers bob",
            Some("alice"),
            TEMPLATE,
            "Warning sshd-accounts-shut-out: sshd does not let \"alice\" in, whatever the token: AllowUsers does not name it",
        ),
        (
            "allowusers bob",
            Some("daemon"),
            TEMPLATE,
            "Warning account-closed: no token logs in as \"daemon\": it is a system account (user id 2), and login.toml opens those only by \
             allow_system and a map file",
        ),
        ("denyusers carol", None, file, ""),
        (
            "denygroups hpc",
            None,
            file,
            "Warning sshd-accounts-shut-out: sshd does not let accounts of the map files in, whatever the token: alice (DenyGroups hpc)",
        ),
        (
            "allowgroups wheel",
            None,
            file,
            "Error sshd-accounts-shut-out: sshd lets nobody in for whom login.toml accepts a token: \
             alice (AllowGroups names none of its groups), bob (AllowGroups names none of its groups)",
        ),
        // Nobody knows whether sshd lets this one in.
        (
            "allowusers away",
            None,
            TEMPLATE,
            "Ok sshd-access-lists: sshd lets in only whom these allow, whatever the token: AllowUsers away",
        ),
        (
            "allowusers daemon\nallowusers nosuch",
            None,
            TEMPLATE,
            "Error sshd-accounts-shut-out: sshd lets nobody in for whom login.toml accepts a token: AllowUsers daemon nosuch",
        ),
        (
            "allowgroups nosuch",
            None,
            &both,
            "Error sshd-accounts-shut-out: sshd lets nobody in for whom login.toml accepts a token: AllowGroups nosuch",
        ),
        (
            "denyusers *",
            None,
            &both,
            "Error sshd-accounts-shut-out: sshd lets nobody in for whom login.toml accepts a token: DenyUsers *",
        ),
        (
            "allowgroups hpc",
            None,
            TEMPLATE,
            "Ok sshd-access-lists: sshd lets in only whom these allow, whatever the token: AllowGroups hpc",
        ),
        (
            "allowusers alice",
            None,
            TEMPLATE,
            "Ok sshd-access-lists: sshd lets in only whom these allow, whatever the token: AllowUsers alice",
        ),
    ] {
        let mut site = Site::of(&[("/bin/sh", "")]);
        site.answers = vec![("-T", format!("{HEALTHY}{lists}\n"))];
        let login = toml::from_str(text).unwrap();
        let mapped = if text.contains("map_file") { vec!["alice".to_owned(), "bob".to_owned()] } else { vec![] };
        let mut findings = Findings::default();
        findings.sshd(&site, user, Some(&login), &mapped);
        assert_eq!(shown(&findings).join("; "), expected, "{lists} {user:?}");
    }
}

#[test]
fn an_account_without_a_shell_is_kept_out() {
    let mut site = Site::of(&[]);
    site.answers = vec![("-T", HEALTHY.to_owned())];
    let mut findings = Findings::default();
    findings.sshd(&site, Some("alice"), Some(&toml::from_str(TEMPLATE).unwrap()), &[]);
    let reason = "sshd does not let \"alice\" in, whatever the token: its shell /bin/sh does not exist";
    assert_eq!(shown(&findings), [format!("Warning sshd-accounts-shut-out: {reason}")]);
}

#[test]
fn an_account_that_nss_does_not_tell_can_be_one_that_sshd_lets_in() {
    let mut site = Site::of(&[("/bin/sh", "")]);
    site.answers = vec![("-T", format!("{HEALTHY}denyusers alice\n"))];
    let login = toml::from_str("[[rule]]\nname = 'r'\nissuer = 'op'\nmap_file = '/m'\n").unwrap();
    for (mapped, begin) in [(&["alice"][..], "Error "), (&["alice", "away"], "Warning ")] {
        let mapped: Vec<String> = mapped.iter().map(ToString::to_string).collect();
        let mut findings = Findings::default();
        findings.sshd(&site, None, Some(&login), &mapped);
        assert!(shown(&findings)[0].starts_with(&format!("{begin}sshd-accounts-shut-out: ")), "{findings:?}");
    }
    // Nor do its groups tell it.
    site.answers = vec![("-T", format!("{HEALTHY}denygroups hpc\n"))];
    let mut findings = Findings::default();
    findings.sshd(&site, None, Some(&login), &["alice".to_owned(), "dora".to_owned()]);
    assert!(shown(&findings)[0].starts_with("Warning sshd-accounts-shut-out: "), "{findings:?}");
}

/// Of such an account it is not said that all is well.
#[test]
fn an_account_without_an_answer_of_nss_has_no_finding() {
    for (lists, user, known) in [
        ("", "alice", true),
        ("", "nosuch", true),
        ("", "away", false),
        ("", "dora", true),
        ("allowgroups users", "dora", false),
    ] {
        let mut site = Site::of(&[("/bin/sh", "")]);
        site.answers = vec![("-T", format!("{HEALTHY}{lists}\n"))];
        let mut findings = Findings::default();
        findings.sshd(&site, Some(user), Some(&toml::from_str(TEMPLATE).unwrap()), &[]);
        let ids: Vec<&str> = findings.findings.iter().filter_map(|finding| finding.id.as_deref()).collect();
        assert_eq!(ids, if known { vec!["sshd-ok"] } else { vec![] }, "{lists} {user}");
    }
}

#[test]
fn accounts_of_map_files_are_asked_for_where_blocks_are_about_users() {
    let login = toml::from_str("[[rule]]\nname = 'r'\nissuer = 'op'\nmap_file = '/m'\n").unwrap();
    let mut site = Site::of(&[("/bin/sh", ""), (MAIN, "Match User bob\n KbdInteractiveAuthentication no\n")]);
    let off = HEALTHY.replace("kbdinteractiveauthentication yes", "kbdinteractiveauthentication no");
    site.answers = vec![("user=bob", off), ("-T", HEALTHY.to_owned())];
    let mut findings = Findings::default();
    findings.sshd(&site, None, Some(&login), &["alice".to_owned(), "bob".to_owned()]);
    assert_eq!(
        shown(&findings),
        ["Warning sshd-accounts-shut-out: sshd does not let accounts of the map files in, whatever the token: \
          bob (KbdInteractiveAuthentication is off: nobody is asked for a token)"]
    );
}

#[test]
fn a_shell_that_ends_each_session_is_told() {
    let login = toml::from_str("[[rule]]\nname = 'r'\nissuer = 'op'\nmap_file = '/m'\n").unwrap();
    let found = |user, shell, more: &str| {
        let mut site = Site::of(&[("/bin/sh", ""), (shell, "")]);
        site.answers = vec![("-T", format!("{HEALTHY}{more}\n"))];
        site.shell = Some(shell);
        let mut findings = Findings::default();
        findings.sshd(&site, user, Some(&login), &["alice".to_owned(), "bob".to_owned(), "nosuch".to_owned()]);
        shown(&findings).join("; ")
    };
    let sftp = "subsystem sftp /usr/lib/openssh/sftp-server";
    for shell in ["/usr/sbin/nologin", "/bin/false", "/usr/bin/true"] {
        assert_eq!(
            found(Some("alice"), shell, sftp),
            format!(
                "Warning account-shell: sshd lets \"alice\" in, and its shell {shell} ends a shell session at once; \
                 forwarding (-J, -N) works"
            )
        );
        assert_eq!(
            found(None, shell, sftp),
            format!(
                "Ok account-shell: sshd lets accounts of the map files in whose shell ends a shell session at once; \
                 forwarding (-J, -N) works: alice ({shell}), bob ({shell})"
            )
        );
        // Accounts for files only: for this command sshd starts no shell.
        for files_only in
            ["forcecommand internal-sftp -d /data", "subsystem sftp internal-sftp\nforcecommand internal-sftp"]
        {
            assert_eq!(found(Some("alice"), shell, files_only) + &found(None, shell, files_only), "");
        }
        for (settings, works) in [
            ("forcecommand none\nsubsystem sftp internal-sftp -f AUTH", "; sftp and forwarding (-J, -N) work"),
            ("subsystem sftp internal-sftp\nallowtcpforwarding no", "; sftp works"),
            // The shell runs it, also for sftp.
            ("subsystem sftp internal-sftp\nforcecommand /usr/bin/internal-sftp", "; forwarding (-J, -N) works"),
            ("disableforwarding yes", ""),
            ("allowtcpforwarding local", "; forwarding (-J, -N) works"),
        ] {
            let end = format!("ends a shell session at once{works}");
            assert!(found(Some("alice"), shell, settings).ends_with(&end), "{settings}");
            assert!(found(None, shell, settings).contains(&format!("{end}: alice ")), "{settings}");
        }
    }
    for shell in ["/bin/bash", "/opt/nologin/bash", "/usr/bin/git-shell"] {
        assert_eq!(found(Some("alice"), shell, sftp) + &found(None, shell, sftp), "");
    }
    // One fault is enough.
    assert!(!found(Some("alice"), "/bin/false", "denyusers alice").contains("account-shell"));
}
