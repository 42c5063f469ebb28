// SPDX-License-Identifier: MIT OR Apache-2.0
//! Outages, and panics in the module. They do not affect sshd, and no login succeeds because of them.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::site::paths;
use testbed::{Error, Result, Site, story, story_with_own_servers};

use super::{login_with_answers, login_with_key, mytoken, one_node};
use crate::bad_tokens::attempt::{Driver, STACKS};
use crate::bad_tokens::inputs;

#[test]
fn an_outage_is_reported_within_the_deadline_and_delays_no_other_login() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let token = inputs::mint(site, &json!({}))?;
        let long_lived = mytoken(site, &["AT"])?;
        login_with_answers(site, std::slice::from_ref(&token), "true")?.ok()?;
        site.sh("root", "pkill -STOP -f '[t]estserver serve'")?.ok()?;

        // The keys are cached, so a login with an access token sends no request.
        let began = Instant::now();
        login_with_answers(site, &[token], "true")?.ok()?;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

        let pieces = inputs::pieces(&long_lived);
        let began = Instant::now();
        let outcome = login_with_answers(site, &pieces, "true")?;
        let took = began.elapsed();
        assert!(!outcome.success() && outcome.stderr.contains("unavailable at the moment"), "{}", outcome.stderr);
        assert!(took < Duration::from_secs(14), "the deadline is 10 s, it took {took:?}");

        // The second login does not wait, because the first one recorded the outage.
        let began = Instant::now();
        assert!(!login_with_answers(site, &pieces, "true")?.success());
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

        let began = Instant::now();
        login_with_key(site, "alice", "true")?.ok()?;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        site.sh("root", "pkill -CONT -f '[t]estserver serve'")?.ok().map(drop)
    })
}

#[test]
fn a_provider_outage_is_reported_as_unavailable() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let pieces = inputs::pieces(&mytoken(site, &["AT"])?);
        login_with_answers(site, &pieces, "true")?.ok()?;
        testbed::drive::people::control(site, "/provider/fault", Some(r#"{"name":"502-html"}"#))?;
        let outcome = login_with_answers(site, &pieces, "true")?;
        assert!(
            !outcome.success() && outcome.stderr.contains("the provider behind the mytoken server does not answer"),
            "{}",
            outcome.stderr
        );
        Ok(())
    })
}

/// Installs the module that panics on request, from `make tools`.
pub(crate) fn install_panicking(site: &Site) -> Result<()> {
    let file = paths::target().join("tmp/panic-injection/debug/libpam_mytoken.so");
    let module = std::fs::read(&file)
        .map_err(|error| Error::Refused(format!("{}: {error}; run `make tools`", file.display())))?;
    let script =
        "cat >/tmp/module && mv /tmp/module $(ls /usr/lib/*/security/pam_mytoken.so) && cp /etc/pam.d/sshd /tmp/stack";
    site.script("root", script).stdin(module).run()?.ok().map(drop)
}

/// Makes one hook of the module panic.
fn panic_in(site: &Site, hook: &str, line: &str) -> Result<()> {
    let script = format!(
        "sed -E '/^{line} /s/pam_mytoken.so/& panic={hook}/' /tmp/stack >/etc/pam.d/sshd; grep -c panic= /etc/pam.d/sshd"
    );
    site.sh("root", &script)?.ok().map(drop)
}

fn check_panic_is_logged_without_its_text(site: &Site, hook: &str) -> Result<()> {
    let message = format!("internal error in {hook} at pam-mytoken/src/entry.rs:");
    // Another process writes the log.
    site.wait_for(&message, Duration::from_secs(5), "root", &format!("grep -qF '{message}' /var/log/all.log"))?;
    let log = site.system_log()?;
    assert!(!log.contains("injected"), "{hook}: the log contains the text of the panic");
    Ok(())
}

#[test]
fn a_panic_in_any_hook_does_not_affect_sshd() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        install_panicking(site)?;
        let token = inputs::mint(site, &json!({}))?;
        for (hook, line, succeeds) in [
            ("authenticate", "auth", false),
            ("account", "account", false),
            ("credentials", "auth", true),
            ("session", "session", true),
            ("close", "session", true),
        ] {
            panic_in(site, hook, line)?;
            let outcome =
                login_with_answers(site, std::slice::from_ref(&token), "id -un; env | grep -c PAM_MYTOKEN; true")?;
            assert_eq!(outcome.success(), succeeds, "{hook}: {} {}", outcome.stdout, outcome.stderr);
            if succeeds {
                assert_eq!(outcome.lines(), ["alice", "0"], "{hook}");
            }
            let key = login_with_key(site, "alice", "id -un")?;
            assert_eq!(key.lines(), ["alice"], "{hook}: the key login failed: {}", key.stderr);
            check_panic_is_logged_without_its_text(site, hook)?;
            assert!(
                !outcome.stderr.contains("panicked") && !outcome.stderr.contains("injected"),
                "{hook}: {}",
                outcome.stderr
            );
        }
        let log = site.system_log()?;
        let crashes = ["signal 6", "signal 11", "core dumped", "fatal: "];
        let crashes = log.lines().filter(|line| crashes.iter().any(|crash| line.contains(crash)));
        assert_eq!(crashes.collect::<Vec<_>>(), [""; 0], "sshd crashed");
        Ok(())
    })
}

/// sshd calls this hook only for an expired password; passwd and su call it too.
#[test]
fn a_panic_in_the_password_hook_is_ignored() -> Result<()> {
    story(one_node()?, |site| {
        install_panicking(site)?;
        let driver = Driver::build(site)?;
        // The stack succeeds only if the module returns PAM_IGNORE.
        let stack =
            "password [ignore=ignore default=die] pam_mytoken.so panic=password\npassword required pam_permit.so\n";
        site.write(&format!("{STACKS}/passwd"), stack, "0644")?;
        let result = driver.run(site, &[STACKS, "passwd", "alice", "password"], &[])?;
        assert_eq!(
            (result.code, result.output.as_str()),
            (0, "code 0\n"),
            "the module printed a message, or did not return PAM_IGNORE"
        );
        check_panic_is_logged_without_its_text(site, "password")
    })
}
