// SPDX-License-Identifier: MIT OR Apache-2.0
//! The PAM module without sshd, phase by phase.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use testbed::drive::{people, tokens};
use testbed::{Result, Site, story_with_own_servers};

use crate::attempt::{Driver, LONE};
use crate::provider::configure;
use crate::{inputs, small};

/// `security/_pam_types.h`.
const PAM_SUCCESS: i32 = 0;
const PAM_AUTH_ERR: i32 = 7;
const PAM_ACCT_EXPIRED: i32 = 13;

fn records(site: &Site) -> Result<String> {
    Ok(site.sh("root", "find /run/mytoken/handover -mindepth 2 -type f 2>/dev/null | wc -l")?.ok()?.stdout)
}

/// Another factor can take time between the two phases.
#[test]
fn a_token_that_expires_before_the_account_phase_is_refused() -> Result<()> {
    story_with_own_servers(small()?, |site| {
        let driver = Driver::build(site)?;
        configure(site, "leeway = \"0s\"")?;
        // The agent would remove the records of a driver that has ended.
        site.stop("agent", "TERM")?;
        for (later, code) in [("later=0", PAM_SUCCESS), ("later=9", PAM_ACCT_EXPIRED)] {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let token = inputs::mint(site, &json!({"claims": {"exp": now + 8}}))?;
            site.sh("root", "rm -rf /run/mytoken/handover/*")?.ok()?;
            let seen = driver.run(site, &[LONE, "sshd", "alice", later], &[token])?;
            assert_eq!(seen.code, code, "{later}: {}", seen.said);
            let log = site.read("/var/log/all.log")?;
            let told = log.contains("user=alice the token has expired since");
            assert_eq!(told, code == PAM_ACCT_EXPIRED, "{later}: {log}");
            // The record is removed if no session will use it.
            assert_eq!(records(site)? == "0\n", code == PAM_ACCT_EXPIRED, "{later}");
        }
        Ok(())
    })
}

/// No process has it any more, and it would be valid for hours.
#[test]
fn a_delegated_mytoken_is_revoked_when_the_account_phase_refuses() -> Result<()> {
    story_with_own_servers(small()?, |site| {
        let driver = Driver::build(site)?;
        configure(site, "leeway = \"0s\"")?;
        site.stop("agent", "TERM")?;
        let parent = tokens::mytoken(site, "alice", &json!({}))?;
        let child = tokens::child(site, &parent, &["AT", "create_mytoken", "tokeninfo"])?;
        let code = tokens::transfer_code(site, &child)?;
        assert!(tokens::is_valid(site, &child)?);
        people::control(site, "/provider/lifetime", Some(r#"{"seconds": 8}"#))?;
        let seen = driver.run(site, &[LONE, "sshd", "alice", "later=9"], &[code])?;
        assert_eq!(seen.code, PAM_ACCT_EXPIRED, "{}", seen.said);
        assert!(!tokens::is_valid(site, &child)? && tokens::is_valid(site, &parent)?);
        Ok(())
    })
}

#[test]
fn the_prompt_argument_replaces_the_default_prompt() -> Result<()> {
    story_with_own_servers(small()?, |site| {
        let driver = Driver::build(site)?;
        let token = inputs::mint(site, &json!({}))?;
        let (head, tail) = token.split_at(500);
        let pieces = [format!("@1/2:{head}"), format!("@2/2:{tail}")];
        for (argument, prompts) in [
            ("", ["prompt Access Token:", "prompt Access Token (2/2):"]),
            ("[prompt=Site Token:]", ["prompt Site Token:", "prompt Site Token (2/2):"]),
        ] {
            let stack = format!("auth required pam_mytoken.so {argument}\naccount required pam_mytoken.so\n");
            site.write(&format!("{LONE}/sshd"), &stack, "0644")?;
            let seen = driver.authenticate(site, "alice", &pieces)?;
            let asked: Vec<&str> = seen.said.lines().filter(|line| line.starts_with("prompt ")).collect();
            assert_eq!((seen.code, asked.as_slice()), (PAM_SUCCESS, prompts.as_slice()), "{argument}: {}", seen.said);
        }
        Ok(())
    })
}

/// The module itself waits; no other module of the stack is measured.
#[test]
fn a_refusal_takes_the_configured_fail_delay() -> Result<()> {
    story_with_own_servers(small()?, |site| {
        let driver = Driver::build(site)?;
        let good = inputs::mint(site, &json!({}))?;
        driver.authenticate(site, "alice", std::slice::from_ref(&good))?;
        for seconds in [1, 4] {
            let script = format!(
                "sed -i 's/^fail_delay = .*/fail_delay = \"{seconds}s\"/' /etc/mytoken/login.toml; grep -c '^fail_delay = \"{seconds}s\"' /etc/mytoken/login.toml"
            );
            site.sh("root", &script)?.ok()?;
            for user in ["alice", "nobody-of-this-name"] {
                for answer in [" ", "correct horse battery staple"] {
                    let began = Instant::now();
                    let seen = driver.authenticate(site, user, &[answer.to_owned()])?;
                    let took = began.elapsed();
                    assert_eq!(seen.code, PAM_AUTH_ERR, "{user} {answer:?}: {}", seen.said);
                    assert!(took >= Duration::from_secs(seconds), "{user} {answer:?}: {took:?}");
                }
            }
        }
        let began = Instant::now();
        assert_eq!(driver.authenticate(site, "alice", &[good])?.code, PAM_SUCCESS);
        assert!(began.elapsed() < Duration::from_secs(4), "a login waits for nothing: {:?}", began.elapsed());
        Ok(())
    })
}
