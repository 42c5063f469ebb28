// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many users behind one address during an outage: whom does sshd block?
//!
//! SSH-12: since OpenSSH 9.8 a connection that ends after a refused login costs its address 5 s, whatever PAM
//! answered; from 15 s on sshd drops all connections from there until they have run down. Earlier releases know no
//! penalties and pass these stories as well.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::drive::{people, tokens, typist};
use testbed::site::addresses::ClientAddress;
use testbed::site::command::CommandOutcome;
use testbed::{Options, Release, Result, Site, story_with_own_servers, wait};

/// Limit for a login without delay on a busy machine; sshd's penalties are longer.
const AT_ONCE: Duration = Duration::from_secs(8);

/// The log message of sshd when it penalises an address.
const SHUT_OUT: &str = "penalty: failed authentication";

fn one_node() -> Result<Options> {
    Ok(Options { nodes: 1, ..Options::new()? })
}

fn has_penalties(site: &Site) -> bool {
    site.options().release != Release::Bookworm
}

/// Starts an outage of the mytoken server and the provider.
fn outage(site: &Site) -> Result<()> {
    ["mytoken", "provider"].iter().try_for_each(|service| {
        people::control(site, "/outage", Some(&json!({"service": service, "on": true}).to_string())).map(drop)
    })
}

/// Installs the product's example for users behind NAT, if this sshd knows its keyword.
fn use_example(site: &Site) -> Result<()> {
    site.sh(
        "root",
        "if sshd -T | grep -qi ^persourcepenalties; then \
         ln -s /usr/share/mytoken/sshd-penalties.conf /etc/ssh/sshd_config.d/11-mytoken-penalties.conf; fi; sshd -t",
    )?
    .ok()?;
    site.stop("sshd", "TERM")?;
    site.restart("sshd")?;
    site.wait_for("sshd", Duration::from_secs(10), "root", "exec 3<>/dev/tcp/192.0.2.10/22").map(drop)
}

/// alice types a short token at plain ssh, which ends at a refusal.
fn token_login(site: &Site, from: ClientAddress, token: &str) -> Result<CommandOutcome> {
    let ssh = "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1";
    typist::type_into(site, "alice", &[token], &format!("{ssh} {} true", from.destination()))
}

fn key_login(site: &Site, from: ClientAddress) -> Result<CommandOutcome> {
    site.sh("bob", &format!("ssh -o BatchMode=yes -i .ssh/site_key {} id -un", from.destination()))
}

/// Ten token logins, each refused with the message of an outage.
fn ten_are_refused(site: &Site, from: ClientAddress) -> Result<()> {
    let token = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
    outage(site)?;
    for number in 1..=10 {
        let said = token_login(site, from, &token)?;
        let told = said.stderr.contains("the login service is unavailable at the moment");
        assert!(!said.success() && told, "login {number}: {said:?}");
    }
    Ok(())
}

#[test]
fn after_ten_token_logins_in_an_outage_a_key_login_from_the_same_address_works_at_once() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        use_example(site)?;
        let office = site.new_client()?;
        ten_are_refused(site, office)?;
        let began = Instant::now();
        let bob = key_login(site, office)?.ok()?;
        assert_eq!(bob.lines(), ["bob"]);
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        let log = site.read("/var/log/all.log")?;
        assert!(!log.contains("drop connection"), "{log}");
        // sshd has counted them: the first refusal is in its log.
        assert_eq!(log.contains(SHUT_OUT), has_penalties(site), "{log}");
        Ok(())
    })
}

/// Ten users press Enter at the same time.
#[test]
fn ten_simultaneous_refusals_do_not_block_the_address() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        use_example(site)?;
        let office = site.new_client()?;
        let token = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
        outage(site)?;
        let ssh = format!(
            "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 {} true",
            office.destination()
        );
        // Not the typist: its answers are used up one by one.
        let together = format!(
            "umask 077; cat >token; printf '#!/bin/sh\\ncat ~/token\\n' >ask; chmod 700 ask; \
             for n in 0 1 2 3 4 5 6 7 8 9; do SSH_ASKPASS=$HOME/ask SSH_ASKPASS_REQUIRE=force {ssh} 2>said.$n & done; wait; \
             cat said.? | grep -c 'the login service is unavailable at the moment'"
        );
        let said = site.script("alice", &together).stdin(format!("{token}\n")).run()?;
        assert_eq!(said.stdout, "10\n", "{said:?}\n{}", site.sh("alice", "cat said.?")?.stdout);
        let began = Instant::now();
        assert_eq!(key_login(site, office)?.ok()?.lines(), ["bob"]);
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        Ok(())
    })
}

/// The reason for the product's example.
#[test]
fn sshd_as_shipped_blocks_only_the_address_of_refused_logins() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let (office, home) = (site.new_client()?, site.new_client()?);
        let token = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
        outage(site)?;
        let dropped =
            (1..=10).find(|_| token_login(site, office, &token).is_ok_and(|said| said.stderr.contains("Connection")));
        assert_eq!(dropped.is_some(), has_penalties(site), "{dropped:?}");
        key_login(site, home)?.ok()?;
        // The penalty expires.
        wait::until("bob's login from the same address", Duration::from_secs(60), || {
            Ok(key_login(site, office)?.success().then_some(()))
        })
    })
}
