// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mytokens of sessions are revoked at logout, and those of logins that get no session.

use std::time::Duration;

use serde_json::json;
use testbed::drive::journal::Journal;
use testbed::drive::people::{self, Session};
use testbed::drive::tokens;
use testbed::{Result, Site, story_with_own_servers, wait};

use super::{login_with_answers, one_node};

const REVOKE: &str = "printf '[session]\\nrevoke_at_logout = true\\n' >>/etc/mytoken/login.toml";

/// The agent sweeps three times a minute.
const LONG: Duration = Duration::from_secs(90);

/// What mytoken-ssh requests for a session of alice.
const NAME: &str = "ssh session alice@testbed";

const NO_RECORDS: &str = "! find /run/mytoken/handover -type f -name '*-*' | grep .";

fn revocations(site: &Site) -> Result<usize> {
    Ok(Journal::read(site)?.requests().iter().filter(|request| request.endpoint == "revocation").count())
}

#[test]
fn logout_revokes_the_mytoken_of_the_session_and_not_what_was_made_of_it() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        people::first_mytoken(site, "alice")?;
        site.sh("root", REVOKE)?.ok()?;
        let mut session = Session::open(site, "alice", "mytoken-ssh ssh --delegate testbed bash -s")?;
        let mytoken = session.run("cat $MYTOKEN_FILE", Duration::from_secs(20))?.stdout.trim().to_owned();
        let child = tokens::child(site, &mytoken, &["AT", "tokeninfo:introspect"])?;
        // While the server is away, the agent keeps what it has to revoke, also over its own restart.
        people::control(site, "/mytoken/fault", Some(r#"{"name": "500-html", "endpoint": "revocation"}"#))?;
        session.close()?;
        site.wait_for(
            "the end of the session's files",
            Duration::from_secs(10),
            "root",
            "test -z \"$(find /run/mytoken/sessions -mindepth 2)\"",
        )?;
        wait::until("an attempt", LONG, || Ok((revocations(site)? > 0).then_some(())))?;
        site.stop("agent", "TERM")?;
        people::control(site, "/mytoken/fault", Some(r#"{"name": "clear"}"#))?;
        assert!(tokens::is_valid(site, &mytoken)?);
        site.restart("agent")?;
        wait::until("the revocation", LONG, || Ok((!tokens::is_valid(site, &mytoken)?).then_some(())))?;
        assert!(tokens::is_valid(site, &child)?, "a job of the session lost its credential");
        assert!(tokens::is_valid(site, &tokens::stored(site, "alice")?)?, "the stored mytoken was revoked");
        Ok(())
    })
}

#[test]
fn a_mytoken_that_the_user_has_elsewhere_is_never_revoked() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        site.sh("root", REVOKE)?.ok()?;
        let mytoken = tokens::mytoken(site, "alice", &json!({}))?;
        let code = tokens::transfer_code(site, &mytoken)?;
        Journal::clear(site)?;
        let outcome = login_with_answers(site, &[code], "cat $MYTOKEN_FILE")?.ok()?;
        assert_eq!(outcome.stdout.trim(), mytoken);
        std::thread::sleep(Duration::from_secs(45));
        assert_eq!(revocations(site)?, 0);
        assert!(tokens::is_valid(site, &mytoken)?);
        Ok(())
    })
}

#[test]
fn the_mytoken_of_a_login_that_opens_no_session_is_revoked() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let stack = site.read("/etc/pam.d/sshd")?;
        let denied = stack.replace("@include common-account", "account required pam_deny.so");
        assert!(stack != denied, "{stack}");
        site.write("/etc/pam.d/sshd", &denied, "0644")?;
        let parent = tokens::mytoken(site, "alice", &json!({}))?;
        for (name, expected) in [(NAME, 1), ("my laptop", 0)] {
            // The agent finds the record also if it comes later.
            site.stop("agent", "TERM")?;
            let code = tokens::code_of_child(site, &parent, name)?;
            Journal::clear(site)?;
            assert!(!login_with_answers(site, &[code], "true")?.success());
            assert_eq!(revocations(site)?, 0);
            site.restart("agent")?;
            if expected > 0 {
                wait::until("the revocation", LONG, || Ok((revocations(site)? > 0).then_some(())))?;
            } else {
                std::thread::sleep(Duration::from_secs(45));
            }
            assert_eq!(revocations(site)?, expected, "{name}");
            site.wait_for("the removal of the record", LONG, "root", NO_RECORDS)?;
        }
        Ok(())
    })
}
