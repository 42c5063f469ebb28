// SPDX-License-Identifier: MIT OR Apache-2.0
//! After each of its six hooks the module leaves the process as it was: sshd, su and sudo are the module's hosts, and go on.
//!
//! What is compared: threads, descriptors, signal handlers, ignored and blocked signals, umask, ids, capabilities, limits, locale, working
//! directory, environment, child processes, a timer. The program is `tests/pam_driver`.

use std::time::Duration;

use serde_json::json;
use testbed::drive::tokens;
use testbed::site::daemon::Daemon;
use testbed::{Result, Site, story_with_own_servers};

use super::harm::install_panicking;
use super::{mytoken, one_node};
use crate::bad_tokens::attempt::{Driver, PamResult};
use crate::bad_tokens::inputs;

/// The directory of a stack that has only the module, in all four groups.
pub(super) const STACKS: &str = "/etc/pam-all-hooks";

const HOOKS: [&str; 6] = ["authenticate", "account", "credentials", "session", "close", "password"];

/// Values of `security/_pam_types.h`.
const PAM_SUCCESS: i32 = 0;
const PAM_SYSTEM_ERR: i32 = 4;
const PAM_PERM_DENIED: i32 = 6;
const PAM_AUTH_ERR: i32 = 7;
const PAM_AUTHINFO_UNAVAIL: i32 = 9;

pub(super) fn write_stack(site: &Site, arguments: &str) -> Result<()> {
    let line = |group| format!("{group} required pam_mytoken.so debug {arguments}\n");
    site.write(&format!("{STACKS}/sshd"), &["auth", "account", "session", "password"].map(line).concat(), "0644")
}

fn call_all_hooks(site: &Site, driver: &Driver, answers: &[String]) -> Result<PamResult> {
    driver.run(site, &[STACKS, "sshd", "alice", "hooks"], answers)
}

/// The lines about changes.
fn changes(result: &PamResult) -> Vec<&str> {
    result.output.lines().filter(|line| line.starts_with("changed ")).collect()
}

fn check(site: &Site, driver: &Driver, name: &str, answers: &[String], code: i32) -> Result<()> {
    let result = call_all_hooks(site, driver, answers)?;
    assert_eq!(result.code, code, "{name}: {}", result.output);
    let called = result.output.lines().filter(|line| line.starts_with("hook ")).count();
    assert_eq!(called, HOOKS.len(), "{name}: {}", result.output);
    assert_eq!(changes(&result), [""; 0], "{name}");
    Ok(())
}

fn signal_servers(site: &Site, signal: &str) -> Result<()> {
    site.sh("root", &format!("pkill -{signal} -f '[t]estserver serve'"))?.ok().map(drop)
}

#[test]
fn no_hook_changes_the_process() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let driver = Driver::build(site)?;
        write_stack(site, "")?;
        let access_token = inputs::mint(site, &json!({}))?;
        let of_bob = inputs::mint(site, &json!({"user": "bob"}))?;
        let code = inputs::transfer_code(site, &mytoken(site, &["AT", "create_mytoken"])?)?;
        let second = inputs::transfer_code(site, &mytoken(site, &["AT", "create_mytoken"])?)?;
        let short = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
        // The first login of this host fetches the issuer's keys. Those with a mytoken or a code make requests too.
        for (name, answer, expected) in [
            ("an access token", access_token.as_str(), PAM_SUCCESS),
            ("a transfer code", code.as_str(), PAM_SUCCESS),
            ("a short token", short.as_str(), PAM_SUCCESS),
            ("a word", "nonsense", PAM_AUTH_ERR),
            ("an unknown code", "abcdefgh", PAM_AUTH_ERR),
            ("a used code", code.as_str(), PAM_AUTH_ERR),
            ("another person's token", of_bob.as_str(), PAM_PERM_DENIED),
        ] {
            check(site, &driver, name, &[answer.to_owned()], expected)?;
        }
        signal_servers(site, "STOP")?;
        check(site, &driver, "a silent server", &[second], PAM_AUTHINFO_UNAVAIL)?;
        // Refused without a request.
        check(site, &driver, "the next login", &[short], PAM_AUTHINFO_UNAVAIL)?;
        signal_servers(site, "CONT")?;
        // Another process writes the log.
        let logged = HOOKS.map(|hook| format!("grep -qF '): {hook}: ' /var/log/all.log")).join(" && ");
        site.wait_for("a line of each hook", Duration::from_secs(5), "root", &logged).map(drop)
    })
}

#[test]
fn a_panic_changes_nothing_of_the_process() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        install_panicking(site)?;
        let driver = Driver::build(site)?;
        let token = inputs::mint(site, &json!({}))?;
        for hook in HOOKS {
            write_stack(site, &format!("panic={hook}"))?;
            let code = if hook == "authenticate" { PAM_SYSTEM_ERR } else { PAM_SUCCESS };
            check(site, &driver, hook, std::slice::from_ref(&token), code)?;
            let message = format!("internal error in {hook} at ");
            site.wait_for(&message, Duration::from_secs(5), "root", &format!("grep -qF '{message}' /var/log/all.log"))?;
        }
        Ok(())
    })
}

/// The comparison sees a change of each kind.
#[test]
fn a_change_of_the_process_is_seen() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let driver = Driver::build(site)?;
        write_stack(site, "")?;
        let result = driver.run(site, &[STACKS, "sshd", "alice", "hooks", "spoil"], &[])?;
        for change in [
            "+ thread spoiler",
            "+ descriptor ",
            "+ Umask:",
            "+ SigBlk:",
            "+ SigIgn:",
            "+ SigCgt:",
            "+ Max file size",
            "+ locale C",
            "- directory ",
            "+ dumpable 0",
            "+ environment SPOILED=yes",
        ] {
            let line = format!("changed spoil {change}");
            assert!(changes(&result).iter().any(|seen| seen.starts_with(&line)), "{change}: {}", result.output);
        }
        Ok(())
    })
}

/// The one exception: a look-up of a server's name cannot be interrupted. Its thread and socket stay until the resolver gives up.
#[test]
fn a_name_lookup_that_hangs_leaves_its_thread_until_it_ends() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let driver = Driver::build(site)?;
        write_stack(site, "")?;
        let short = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
        let listen = "use Socket; socket(my $s, PF_INET, SOCK_DGRAM, 0); \
                      bind($s, sockaddr_in(53, inet_aton('127.0.0.1'))) or die; sleep 600";
        site.start_daemon(Daemon::new("mute-resolver", ["perl", "-e", listen]))?;
        site.wait_for("the mute name server", Duration::from_secs(20), "root", "ss -lun | grep -q 127.0.0.1:53")?;
        let resolver = "nameserver 127.0.0.1\noptions timeout:6 attempts:2\n";
        site.script("root", "cat >/etc/resolv.conf").stdin(resolver).run()?.ok()?;
        site.sh("root", "sed -i s/mytoken.testbed:8443/absent.example.org:8443/ /etc/mytoken/mytoken.toml")?.ok()?;
        let result = call_all_hooks(site, &driver, &[short])?;
        assert_eq!(result.code, PAM_AUTHINFO_UNAVAIL, "{}", result.output);
        let changes = changes(&result);
        assert!(changes.iter().any(|line| line.contains(" + thread resolve")), "the look-up ended: {}", result.output);
        for line in &changes {
            let bare = HOOKS.iter().any(|hook| *line == format!("changed {hook}"));
            let expected = bare || line.contains(" + thread resolve") || line.contains(" + descriptor ");
            assert!(expected, "{line}: {}", result.output);
            // No program that the process starts inherits the socket.
            assert!(!line.contains("cloexec=0"), "{line}");
        }
        Ok(())
    })
}
