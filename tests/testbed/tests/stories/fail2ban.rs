// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fail2ban part of docs/admin/logs.md, word by word, on a machine with the packages: wrong tokens get an address banned, honest
//! mistakes and other addresses do not.

use std::time::Duration;

use testbed::drive::machine::{Machine, machine_story_with};
use testbed::drive::{askpass, tokens};
use testbed::site::addresses::ClientAddress;
use testbed::{Options, Result, Site, wait};

use crate::built_packages::{bring_packages, login_by_key};
use crate::written::{document, shell_steps, ways_back};

/// `maxretry` of the page.
const BANNED_AFTER: usize = 10;

/// Looks like a JWT; its issuer is unknown.
const FORGED: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2V2aWwuZXhhbXBsZSIsInN1YiI6IngifQ.c2lnbmF0dXJl";

fn ssh(from: ClientAddress) -> String {
    format!(
        "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 -o ConnectTimeout=5 {} id -un",
        from.destination()
    )
}

/// A login of alice from an address with this answer to the prompt.
fn login(site: &Site, from: ClientAddress, answer: &str) -> Result<bool> {
    let login = askpass::run_with_answers(site, "alice", &[answer], &ssh(from))?;
    Ok(login.success() && login.stdout == "alice\n")
}

/// That many logins of alice with a wrong answer. Each is answered seconds later, so they run at the same time.
fn refused_logins(site: &Site, from: ClientAddress, answer: &str, count: usize) -> Result<()> {
    let prepare = "umask 077; cat >answer; printf '#!/bin/sh\\ncat ~/answer\\n' >ask; chmod 700 ask";
    site.script("alice", prepare).stdin(format!("{answer}\n")).run()?.ok()?;
    let logins = format!("for n in $(seq {count}); do {} & done; wait", ssh(from));
    let command = site.script("alice", &logins).env("SSH_ASKPASS", "/home/alice/ask");
    let outcome = command.env("SSH_ASKPASS_REQUIRE", "force").run()?.ok()?;
    assert_eq!(outcome.stdout, "", "a wrong token logs in");
    Ok(())
}

fn banned(machine: &Machine<'_>) -> Result<Vec<String>> {
    let status = machine.sh("fail2ban-client status mytoken")?.ok()?.stdout;
    let list = status.split("Banned IP list:").nth(1).unwrap_or_default();
    Ok(list.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Whether the kernel has what fail2ban's rule needs.
fn can_filter(machine: &Machine<'_>) -> Result<bool> {
    let rule = "nft 'add table inet probe; add chain inet probe c { type filter hook input priority -1 ; }; \
                add set inet probe s { type ipv4_addr; }; add rule inet probe c tcp dport { 22 } ip saddr @s reject; \
                delete table inet probe'";
    Ok(machine.sh(rule)?.success())
}

/// Number of failures that fail2ban counted.
fn counted(machine: &Machine<'_>) -> Result<usize> {
    let status = machine.sh("fail2ban-client status mytoken")?.ok()?.stdout;
    let total = status.split("Total failed:").nth(1).and_then(|rest| rest.split_ascii_whitespace().next());
    Ok(total.and_then(|number| number.parse().ok()).unwrap_or_default())
}

#[test]
fn wrong_tokens_get_an_address_banned_and_honest_mistakes_do_not() -> Result<()> {
    let page = document("docs/admin/logs.md")?;
    let steps = shell_steps(&page);
    assert_eq!(steps.len(), 5, "{steps:?}");
    machine_story_with(Options { fail2ban: true, ..Options::new()? }, |site, machine| {
        bring_packages(site)?;
        machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --install /root/packages/*.deb")?.ok()?;
        site.configure_product()?;
        // Since OpenSSH 9.8 sshd itself would block the address before fail2ban does.
        machine
            .sh("sshd -T 2>/dev/null | grep -qi persourcepenalties && \
                    echo 'PerSourcePenalties no' >/etc/ssh/sshd_config.d/00-no-penalties.conf; true")?
            .ok()?;
        machine
            .sh("DEBIAN_FRONTEND=noninteractive pam-auth-update --enable mytoken mytoken-session && \
                    systemctl restart mytokend ssh && systemctl is-active mytokend ssh")?
            .ok()?;
        // Clients of the site have addresses of this machine, which fail2ban would not ban.
        site.write("/etc/fail2ban/jail.d/00-site.conf", "[DEFAULT]\nignoreself = false\n", "0644")?;
        for step in &steps {
            let done = machine.sh(&step.text)?.ok()?;
            eprintln!("# {}\n{}", step.text, done.stdout);
            if step.text.starts_with("systemctl restart fail2ban") {
                wait::until("fail2ban", Duration::from_secs(30), || {
                    Ok(machine.sh("fail2ban-client status mytoken")?.success().then_some(()))
                })?;
            }
            if step.text.starts_with("fail2ban-regex") {
                assert!(done.stdout.contains(" matched, ") && !done.stdout.contains(" 0 matched"), "{done:?}");
            }
        }

        let (attacker, honest) = (site.new_client()?, site.new_client()?);
        let token = tokens::access_token(site, "alice")?;
        assert!(login(site, attacker, &token)?, "this address may log in before");
        // Somebody else's token, again and again: logged, refused, and not counted.
        let bobs = tokens::access_token(site, "bob")?;
        refused_logins(site, honest, &bobs, BANNED_AFTER + 1)?;
        let refusals = machine.sh("journalctl -b --no-pager -g 'pam_mytoken.*reason=not_mapped' | grep -c refuse")?;
        assert_eq!(refusals.stdout.trim(), (BANNED_AFTER + 1).to_string(), "{refusals:?}");
        assert_eq!(counted(machine)?, 0);
        let last = machine.sh("mytokenctl explain --last alice")?.ok()?.stdout;
        let about_token = format!("from {}\nreason          not_mapped\n", honest.address());
        assert!(last.contains(&about_token) && last.contains("\ndetails         maps to bob\n"), "{last}");
        assert!(last.contains("\nsource          the journal: sshd"), "{last}");
        let none = machine.sh("mytokenctl explain --last bob")?;
        assert!(!none.success() && none.stderr.contains("no refused login of \"bob\" in the journal"), "{none:?}");

        // The last one alone: a connection that is open when the address is banned hangs.
        refused_logins(site, attacker, FORGED, BANNED_AFTER - 1)?;
        wait::until("all failures but one", Duration::from_secs(30), || {
            Ok((counted(machine)? == BANNED_AFTER - 1).then_some(()))
        })?;
        assert_eq!(banned(machine)?, [""; 0]);
        assert!(!login(site, attacker, FORGED)?);
        let address = attacker.address().to_string();
        wait::until("the ban", Duration::from_secs(30), || Ok((banned(machine)? == [address.clone()]).then_some(())))?;
        assert_eq!(counted(machine)?, BANNED_AFTER);
        if can_filter(machine)? {
            let rules = machine.sh("nft list ruleset")?.ok()?.stdout;
            assert!(rules.contains(&address), "{rules}");
            assert!(!login(site, attacker, &token)?, "the packets of a banned address reach sshd");
        } else {
            eprintln!("this kernel cannot filter packets by nftables: only fail2ban's list was looked at");
        }
        assert!(login(site, honest, &token)?, "another address is not affected");
        login_by_key(site)?;

        for way in ways_back(&page) {
            machine.sh(&way)?.ok()?;
        }
        assert!(login(site, attacker, &token)?, "the ban is lifted");
        Ok(())
    })
}
