// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules whose mapper is asked, on a real sshd: a file of the account's owner, and a command.

mod motley_cue;

use std::time::{Duration, Instant};

use testbed::drive::tokens;
use testbed::site::command::CommandOutcome;
use testbed::{Error, Options, Result, Site, story_with_own_servers};

use crate::bad_tokens::{attempt, inputs};

const OWN: &str = "[[rule]]\nname = \"own\"\nissuer = \"op\"\nuser_file = \".config/mytoken/authorized_identities\"\n";

const COMMAND: &str = "[[rule]]\nname = \"asked\"\nissuer = \"op\"\ncommand = [\"/usr/local/libexec/mapper\", \"a b\"]\n\
                       run_as = \"nobody\"\ntimeout = \"2s\"\n";

const PROGRAM: &str = "/usr/local/libexec/mapper";

fn one_node() -> Result<Options> {
    Ok(Options { nodes: 1, sshd_log_level: "DEBUG3", ..Options::new()? })
}

/// Replaces the rules of the site.
fn set_rules(site: &Site, rules: &str) -> Result<()> {
    let text = site.read("/etc/mytoken/login.toml")?;
    let end = text.find("[[rule]]").ok_or_else(|| Error::Refused("the site has no rule".into()))?;
    site.write("/etc/mytoken/login.toml", &format!("{}{rules}", text.get(..end).unwrap_or_default()), "0644")
}

/// Runs ssh to `account` with this token, from an address of its own.
fn log_in(site: &Site, account: &str, token: &str) -> Result<CommandOutcome> {
    let destination = site.new_client()?.destination();
    let arguments = format!("-o PreferredAuthentications=keyboard-interactive -l {account} {destination} 'id -un'");
    // ssh cuts longer answers.
    let answers = if token.len() > 1_000 { inputs::pieces(token) } else { vec![token.to_owned()] };
    attempt::ssh_with(site, "alice", &answers, &arguments)
}

/// The last line of the log about a login to `account`: the reason of a refusal, else `accepted` and the rule.
pub(crate) fn outcome(site: &Site, account: &str, token: &str) -> Result<String> {
    let login = log_in(site, account, token)?;
    let log = site.system_log()?;
    let of_account = format!(" user={account} ");
    let mut lines = log.lines().filter(|line| line.contains("pam_mytoken") && line.contains(&of_account));
    let last = lines.rfind(|line| line.contains(": accept ") || line.contains(": refuse "));
    let last = last.ok_or_else(|| Error::Refused("no login is logged".into()))?;
    let value = |name: &str| last.split_once(name).and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
    let outcome =
        if last.contains(": accept ") { format!("accepted by {}", value(" rule=")) } else { value(" reason=").into() };
    assert_eq!(login.success(), outcome.starts_with("accepted"), "{last}: {login:?}");
    Ok(outcome)
}

/// Whether the log has a line with all these parts.
pub(crate) fn is_logged(site: &Site, parts: &[&str]) -> Result<bool> {
    let log = site.system_log()?;
    Ok(log.lines().any(|line| parts.iter().all(|part| line.contains(part))))
}

#[test]
fn the_owner_of_an_account_lets_somebody_else_in() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let token = tokens::access_token(site, "alice")?;
        let bob = |script: &str| site.sh("bob", &format!("umask 022; {script}"))?.ok();
        bob("mkdir -p .config/mytoken && echo 'op alice # a friend' >.config/mytoken/authorized_identities")?;
        assert_eq!(outcome(site, "bob", &token)?, "not_mapped", "no rule names the file");
        set_rules(site, OWN)?;
        assert_eq!(outcome(site, "bob", &token)?, "accepted by own");
        assert_eq!(outcome(site, "carol", &token)?, "not_mapped", "carol has no file");
        assert!(is_logged(site, &["mapper user=carol rule=own ", "/home/carol/.config", "does not exist"])?);
        // A home that only its owner may enter.
        bob("chmod 700 . .config && chmod 600 .config/mytoken/authorized_identities")?;
        assert_eq!(outcome(site, "bob", &token)?, "accepted by own");
        let explained = site.script("root", "mytokenctl explain --user bob").stdin(token.as_str()).run()?.ok()?;
        assert!(
            explained.stdout.contains("user file .config/mytoken/authorized_identities gives the account"),
            "{explained:?}"
        );

        for (change, undo, why) in [
            ("chmod g+w .config", "chmod g-w .config", "bob/.config can be written by others"),
            (
                "mv .config/mytoken/authorized_identities ids && ln -s ../../ids .config/mytoken/authorized_identities",
                "rm .config/mytoken/authorized_identities && mv ids .config/mytoken/authorized_identities",
                "authorized_identities is a symbolic link",
            ),
            (
                "mv .config real && ln -s real .config",
                "rm .config && mv real .config",
                "bob/.config is a symbolic link",
            ),
            (
                "cd .config/mytoken && mv authorized_identities ids && mkfifo authorized_identities",
                "cd .config/mytoken && mv ids authorized_identities",
                "is not a regular file",
            ),
            (
                "cd .config/mytoken && cp authorized_identities ids && head -c 70000 /dev/zero >>authorized_identities",
                "cd .config/mytoken && mv ids authorized_identities",
                "is too large",
            ),
            ("sed -i s/alice/Alice/ .config/mytoken/authorized_identities", "true", "has no line for the identity"),
        ] {
            bob(change)?;
            assert_eq!(outcome(site, "bob", &token)?, "not_mapped", "{change}");
            assert!(is_logged(site, &["mapper user=bob rule=own ", why])?, "{change}: {}", site.system_log()?);
            bob(undo)?;
        }
        // The file of a system account counts for nobody.
        let root = "mkdir -p /etc/mytoken/login.d /root/.config/mytoken && echo 'op alice' >/root/.config/mytoken/authorized_identities";
        site.sh("root", root)?.ok()?;
        let accounts = "[accounts]\ndeny = []\nallow_system = [\"root\"]\n";
        site.write("/etc/mytoken/login.d/root.toml", accounts, "0644")?;
        let explained = site.script("root", "mytokenctl explain --user root").stdin(token).run()?;
        assert!(!explained.success() && explained.stdout.contains("gives no system account"), "{explained:?}");
        Ok(())
    })
}

/// A command that lets alice's identity use bob's account, if it runs as it should. What is wrong, it says.
const MAPPER: &str = r#"#!/bin/sh
fail() { echo "$*" >&2; exit 1; }
test "$(/usr/bin/id -un) $(/usr/bin/id -G)" = "nobody $(/usr/bin/id -g)" || fail "I am $(/usr/bin/id)"
test "$#:$1" = "1:a b" || fail "my arguments are $*"
test "$(/bin/cat /proc/$$/environ | /usr/bin/wc -c)" = 0 || fail "I have an environment"
asked=$(/bin/cat)
case $asked in
  *'"sub":"alice"'*'"user":"bob"'*) echo bob;;
  *'"user":"carol"'*) /bin/sleep 7777 & /bin/sleep 7777;;
  *) echo alice;;
esac
"#;

#[test]
fn a_command_decides_who_logs_in_and_never_for_longer_than_its_time() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let token = tokens::access_token(site, "alice")?;
        site.sh("root", "mkdir -p /usr/local/libexec")?.ok()?;
        site.write(PROGRAM, MAPPER, "0755")?;
        set_rules(site, COMMAND)?;
        let bob = outcome(site, "bob", &token)?;
        assert_eq!(bob, "accepted by asked", "{}", site.system_log()?);
        assert_eq!(outcome(site, "alice", &token)?, "accepted by asked", "it printed alice");
        site.sh("root", "sed -i 's/echo alice/echo bob/' /usr/local/libexec/mapper")?.ok()?;
        assert_eq!(outcome(site, "alice", &token)?, "not_mapped");
        assert!(is_logged(site, &["mapper user=alice rule=asked ", "gives 'bob'"])?);
        let checked = site.run("root", ["mytokenctl", "check"])?;
        assert!(checked.stdout.contains("/usr/local/libexec/mapper runs as nobody"), "{checked:?}");

        // A command that hangs: an outage, and nothing is left of it.
        let began = Instant::now();
        assert_eq!(outcome(site, "carol", &token)?, "unavailable");
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
        assert!(!site.sh("root", "pgrep -f '[s]leep 7777'")?.success(), "a process of the command is left");

        // Somebody who lacks a requirement costs no process.
        site.sh(
            "root",
            "sed -i '2i echo asked >>/srv/asked' /usr/local/libexec/mapper; install -m 666 /dev/null /srv/asked",
        )?
        .ok()?;
        set_rules(site, &format!("{COMMAND}require_groups = [\"/no-such\"]\n"))?;
        assert_eq!(outcome(site, "bob", &token)?, "requirement");
        assert_eq!(site.read("/srv/asked")?, "");
        set_rules(site, COMMAND)?;
        assert_eq!(outcome(site, "bob", &token)?, "accepted by asked");
        assert_eq!(site.read("/srv/asked")?, "asked\n");

        // A program that others can change is not run.
        site.sh("root", "chmod 777 /usr/local/libexec/mapper")?.ok()?;
        assert_eq!(outcome(site, "bob", &token)?, "configuration");
        assert_eq!(site.read("/srv/asked")?, "asked\n");
        let checked = site.run("root", ["mytokenctl", "check"])?;
        assert!(!checked.success() && checked.stdout.contains("can be written by others"), "{checked:?}");
        Ok(())
    })
}
