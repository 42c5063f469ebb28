// SPDX-License-Identifier: MIT OR Apache-2.0
//! The phases of the PAM module, called without sshd.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use testbed::drive::{people, tokens};
use testbed::{Result, Site, story_with_own_servers};

use super::one_node;
use super::provider::configure;
use crate::bad_tokens::attempt::{Driver, STACKS};
use crate::bad_tokens::inputs;

/// Values of `security/_pam_types.h`.
const PAM_SUCCESS: i32 = 0;
const PAM_AUTH_ERR: i32 = 7;
const PAM_ACCT_EXPIRED: i32 = 13;

fn handover_records(site: &Site) -> Result<String> {
    Ok(site.sh("root", "find /run/mytoken/handover -mindepth 2 -type f 2>/dev/null | wc -l")?.ok()?.stdout)
}

/// Another factor can take time between authentication and the account phase.
#[test]
fn a_token_that_expires_before_the_account_phase_is_refused() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let driver = Driver::build(site)?;
        configure(site, "leeway = \"0s\"")?;
        // The agent would remove the records after the driver has ended.
        site.stop("agent", "TERM")?;
        for (later, code) in [("later=0", PAM_SUCCESS), ("later=16", PAM_ACCT_EXPIRED)] {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let token = inputs::mint(site, &json!({"claims": {"exp": now + 8}}))?;
            site.sh("root", "rm -rf /run/mytoken/handover/*")?.ok()?;
            let result = driver.run(site, &[STACKS, "sshd", "alice", later], &[token])?;
            assert_eq!(result.code, code, "{later}: {}", result.output);
            let log = site.system_log()?;
            let is_logged = log.contains("user=alice the token has expired since");
            assert_eq!(is_logged, code == PAM_ACCT_EXPIRED, "{later}: {log}");
            // The refusal removes the record.
            assert_eq!(handover_records(site)? == "0\n", code == PAM_ACCT_EXPIRED, "{later}");
        }
        Ok(())
    })
}

/// No process has this mytoken any more, and it would be valid for hours.
#[test]
fn a_delegated_mytoken_is_revoked_when_the_account_phase_refuses() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let driver = Driver::build(site)?;
        configure(site, "leeway = \"0s\"")?;
        site.stop("agent", "TERM")?;
        let parent = tokens::mytoken(site, "alice", &json!({}))?;
        let child = tokens::child(site, &parent, &["AT", "create_mytoken", "tokeninfo"])?;
        let code = tokens::transfer_code(site, &child)?;
        assert!(tokens::is_valid(site, &child)?);
        people::control(site, "/provider/lifetime", Some(r#"{"seconds": 15}"#))?;
        let result = driver.run(site, &[STACKS, "sshd", "alice", "later=16"], &[code])?;
        assert_eq!(result.code, PAM_ACCT_EXPIRED, "{}", result.output);
        assert!(!tokens::is_valid(site, &child)? && tokens::is_valid(site, &parent)?);
        Ok(())
    })
}

#[test]
fn the_prompt_argument_replaces_the_default_prompt() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let driver = Driver::build(site)?;
        let token = inputs::mint(site, &json!({}))?;
        let (head, tail) = token.split_at(500);
        let pieces = [format!("@1/2:{head}"), format!("@2/2:{tail}")];
        for (argument, prompts) in [
            ("", ["prompt Access Token:", "prompt Access Token (2/2):"]),
            ("[prompt=Site Token:]", ["prompt Site Token:", "prompt Site Token (2/2):"]),
        ] {
            let stack = format!("auth required pam_mytoken.so {argument}\naccount required pam_mytoken.so\n");
            site.write(&format!("{STACKS}/sshd"), &stack, "0644")?;
            let result = driver.authenticate(site, "alice", &pieces)?;
            let shown: Vec<&str> = result.output.lines().filter(|line| line.starts_with("prompt ")).collect();
            assert_eq!(
                (result.code, shown.as_slice()),
                (PAM_SUCCESS, prompts.as_slice()),
                "{argument}: {}",
                result.output
            );
        }
        Ok(())
    })
}

/// The stack contains only the module, so no other module can wait.
#[test]
fn a_refusal_takes_the_configured_fail_delay() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let driver = Driver::build(site)?;
        let good = inputs::mint(site, &json!({}))?;
        driver.authenticate(site, "alice", std::slice::from_ref(&good))?;
        for seconds in [1, 4] {
            let script = format!(
                "sed -i 's/^fail_delay = .*/fail_delay = \"{seconds}s\"/' /etc/mytoken/login.toml; grep -c '^fail_delay = \"{seconds}s\"' /etc/mytoken/login.toml"
            );
            site.sh("root", &script)?.ok()?;
            for user in ["alice", "no-such-user"] {
                for answer in [" ", "correct horse battery staple"] {
                    let began = Instant::now();
                    let result = driver.authenticate(site, user, &[answer.to_owned()])?;
                    let took = began.elapsed();
                    assert_eq!(result.code, PAM_AUTH_ERR, "{user} {answer:?}: {}", result.output);
                    assert!(took >= Duration::from_secs(seconds), "{user} {answer:?}: {took:?}");
                }
            }
        }
        let began = Instant::now();
        assert_eq!(driver.authenticate(site, "alice", &[good])?.code, PAM_SUCCESS);
        assert!(began.elapsed() < Duration::from_secs(4), "a successful login was delayed: {:?}", began.elapsed());
        Ok(())
    })
}
