// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many users behind one address during an outage: which logins does sshd block?
//!
//! SSH-12: since OpenSSH 9.8 each connection that ends after a refused login adds a penalty of 5 s to its address,
//! whatever PAM returned. At 15 s sshd drops all connections from the address until the penalty has expired. Earlier
//! releases have no penalties and pass these stories too.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::drive::{askpass, people, tokens};
use testbed::site::addresses::ClientAddress;
use testbed::site::command::CommandOutcome;
use testbed::{Options, Release, Result, Site, story_with_own_servers, wait};

/// Limit for a login without penalty on a busy machine. sshd's penalties are longer.
const LOGIN_LIMIT: Duration = Duration::from_secs(8);

/// The log message of sshd when it penalises an address.
const PENALTY_MESSAGE: &str = "penalty: failed authentication";

fn one_node() -> Result<Options> {
    Ok(Options { nodes: 1, ..Options::new()? })
}

fn has_penalties(site: &Site) -> bool {
    site.options().release != Release::Bookworm
}

/// Starts an outage of the mytoken server and the provider.
fn start_outage(site: &Site) -> Result<()> {
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

/// Logs alice in with a short token by plain ssh, which ends after one refusal.
fn token_login(site: &Site, from: ClientAddress, token: &str) -> Result<CommandOutcome> {
    let ssh = "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1";
    askpass::run_with_answers(site, "alice", &[token], &format!("{ssh} {} true", from.destination()))
}

fn key_login(site: &Site, from: ClientAddress) -> Result<CommandOutcome> {
    site.sh("bob", &format!("ssh -o BatchMode=yes -i .ssh/site_key {} id -un", from.destination()))
}

/// Ten token logins during an outage. Each is refused with the outage message.
fn refuse_ten_logins(site: &Site, from: ClientAddress) -> Result<()> {
    let token = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
    start_outage(site)?;
    for number in 1..=10 {
        let outcome = token_login(site, from, &token)?;
        let has_message = outcome.stderr.contains("the login service is unavailable at the moment");
        assert!(!outcome.success() && has_message, "login {number}: {outcome:?}");
    }
    Ok(())
}

#[test]
fn after_ten_token_logins_in_an_outage_a_key_login_from_the_same_address_works_at_once() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        use_example(site)?;
        let office = site.new_client()?;
        refuse_ten_logins(site, office)?;
        let began = Instant::now();
        let bob = key_login(site, office)?.ok()?;
        assert_eq!(bob.lines(), ["bob"]);
        assert!(began.elapsed() < LOGIN_LIMIT, "{:?}", began.elapsed());
        let log = site.system_log()?;
        assert!(!log.contains("drop connection"), "{log}");
        // sshd counted the refusals: it logs the first penalty.
        assert_eq!(log.contains(PENALTY_MESSAGE), has_penalties(site), "{log}");
        Ok(())
    })
}

/// Ten users answer the prompt at the same time.
#[test]
fn ten_simultaneous_refusals_do_not_block_the_address() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        use_example(site)?;
        let office = site.new_client()?;
        let token = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
        start_outage(site)?;
        let ssh = format!(
            "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 {} true",
            office.destination()
        );
        // The module `askpass` gives each answer once. This script gives the token every time.
        let together = format!(
            "umask 077; cat >token; printf '#!/bin/sh\\ncat ~/token\\n' >ask; chmod 700 ask; \
             for n in 0 1 2 3 4 5 6 7 8 9; do SSH_ASKPASS=$HOME/ask SSH_ASKPASS_REQUIRE=force {ssh} 2>stderr.$n & done; wait; \
             cat stderr.? | grep -c 'the login service is unavailable at the moment'"
        );
        let outcome = site.script("alice", &together).stdin(format!("{token}\n")).run()?;
        assert_eq!(outcome.stdout, "10\n", "{outcome:?}\n{}", site.sh("alice", "cat stderr.?")?.stdout);
        let began = Instant::now();
        assert_eq!(key_login(site, office)?.ok()?.lines(), ["bob"]);
        assert!(began.elapsed() < LOGIN_LIMIT, "{:?}", began.elapsed());
        Ok(())
    })
}

/// The reason for the product's example.
#[test]
fn sshd_as_shipped_blocks_only_the_address_of_refused_logins() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let (office, home) = (site.new_client()?, site.new_client()?);
        let token = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
        start_outage(site)?;
        let dropped = (1..=10)
            .find(|_| token_login(site, office, &token).is_ok_and(|outcome| outcome.stderr.contains("Connection")));
        assert_eq!(dropped.is_some(), has_penalties(site), "{dropped:?}");
        key_login(site, home)?.ok()?;
        // The penalty expires.
        wait::until("bob's login from the same address", Duration::from_secs(60), || {
            Ok(key_login(site, office)?.success().then_some(()))
        })
    })
}
