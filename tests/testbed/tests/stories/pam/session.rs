// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of sessions, and their removal.

use std::time::Duration;

use serde_json::json;
use testbed::drive::people;
use testbed::{Options, Result, story_with_own_servers};

use super::{login_with_answers, login_with_key, mytoken, one_node};
use crate::bad_tokens::{attempt, inputs};

/// Prints the files of a session, with `ID` in the place of the session's id.
const PRINT_FILES: &str = "id -un; printenv BEARER_TOKEN_FILE MYTOKEN_FILE | sed -E \"s/[0-9a-f]{32}/ID/\"; env | grep -c PAM_MYTOKEN; \
                    stat -c \"%a %U\" $(dirname $BEARER_TOKEN_FILE) $(dirname $BEARER_TOKEN_FILE)/*; cat $BEARER_TOKEN_FILE";

/// Succeeds when no file of a session is left.
const NO_FILES: &str = "! find /run/mytoken/sessions /run/mytoken/handover -mindepth 2 | grep .";

#[test]
fn a_long_access_token_is_sent_in_pieces_and_becomes_the_sessions() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let token = inputs::mint(site, &json!({"pad": 2_000}))?;
        assert!(token.len() > 2_000);
        let outcome = login_with_answers(site, &inputs::pieces(&token), PRINT_FILES)?.ok()?;
        let expected =
            ["alice", "/run/mytoken/sessions/2001/ID/bt_u2001", "0", "700 alice", "600 alice", token.as_str()];
        assert_eq!(outcome.lines(), expected);
        site.wait_for("the end of the session", Duration::from_secs(10), "root", NO_FILES)?;
        let log = site.system_log()?;
        assert!(log.contains("accept user=alice uid=2001 rhost=198.51.100.1 issuer=op"), "{log}");
        for secret in inputs::pieces(&token).iter().flat_map(|piece| piece.split('.')).filter(|part| part.len() > 20) {
            assert!(!log.contains(secret), "a log contains a part of the token");
        }
        Ok(())
    })
}

#[test]
fn a_session_gets_the_mytoken_only_if_it_can_create_sub_tokens() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let code = inputs::transfer_code(site, &mytoken(site, &["AT", "create_mytoken"])?)?;
        let outcome = login_with_answers(site, std::slice::from_ref(&code), PRINT_FILES)?.ok()?;
        assert!(outcome.stdout.contains("/run/mytoken/sessions/2001/ID/mt_u2001"), "{}", outcome.stdout);
        site.wait_for("the end of the session", Duration::from_secs(10), "root", NO_FILES)?;

        let code = inputs::transfer_code(site, &mytoken(site, &["AT"])?)?;
        let outcome = login_with_answers(site, &[code], "printenv BEARER_TOKEN_FILE MYTOKEN_FILE | wc -l")?.ok()?;
        assert_eq!(outcome.lines(), ["1"], "a mytoken without create_mytoken stays with the agent");
        Ok(())
    })
}

#[test]
fn with_auto_the_files_are_in_the_users_own_runtime_directory_while_that_is_safe() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        site.sh("root", "printf '[session]\\ndirectory = \"auto\"\\n' >>/etc/mytoken/login.toml")?.ok()?;
        // What pam_systemd does where logind runs.
        let mount = "mkdir -p /run/user/2001 && \
                     mount -t tmpfs -o mode=0700,uid=2001,gid=$(id -g alice) tmpfs /run/user/2001";
        site.sh("root", mount)?.ok()?;
        let lifetime = json!({"seconds": 15}).to_string();
        people::control(site, "/provider/lifetime", Some(&lifetime))?;
        let code = inputs::transfer_code(site, &mytoken(site, &["AT", "create_mytoken"])?)?;
        let command = "echo $BEARER_TOKEN_FILE $MYTOKEN_FILE | sed -E \"s/[0-9a-f]{32}/ID/g\"; stat -c \"%a %U\" $BEARER_TOKEN_FILE; \
                       first=$(cat $BEARER_TOKEN_FILE); \
                       for i in $(seq 200); do test \"$(cat $BEARER_TOKEN_FILE)\" = \"$first\" || exec echo renewed; sleep 0.2; done";
        let outcome = login_with_answers(site, &[code], command)?.ok()?;
        let files = "/run/user/2001/mytoken/ID/bt_u2001 /run/user/2001/mytoken/ID/mt_u2001";
        assert_eq!(outcome.lines(), [files, "600 alice", "renewed"]);
        let gone = "! find /run/user/2001 -name '?t_u2001' | grep .";
        site.wait_for("the end of the session", Duration::from_secs(10), "root", gone)?;
        // Others can look into it.
        site.sh("root", "chmod 0755 /run/user/2001")?.ok()?;
        let token = inputs::mint(site, &json!({}))?;
        let outcome = login_with_answers(site, &[token], "echo $BEARER_TOKEN_FILE")?.ok()?;
        assert!(outcome.stdout.starts_with("/run/mytoken/sessions/2001/"), "{}", outcome.stdout);
        Ok(())
    })
}

#[test]
fn a_session_that_needs_its_files_does_not_begin_without_them() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let token = inputs::mint(site, &json!({}))?;
        let log_in = || login_with_answers(site, std::slice::from_ref(&token), "echo in");
        let stack = "sed -i -E '/pam_mytoken/ s/^(session[[:blank:]]+)optional/\\1required/' /etc/pam.d/*";
        site.sh("root", stack)?.ok()?;
        // As on a full disk.
        site.sh("root", "mv /run/mytoken/sessions /root/ 2>/dev/null; touch /run/mytoken/sessions")?.ok()?;
        assert_eq!(log_in()?.ok()?.stdout, "in\n", "by default it begins");
        site.sh("root", "printf '[session]\\nrequired = true\\n' >>/etc/mytoken/login.toml")?.ok()?;
        assert!(!log_in()?.success());
        assert_eq!(login_with_key(site, "alice", "echo in")?.ok()?.stdout, "in\n");
        site.sh("root", "rm /run/mytoken/sessions")?.ok()?;
        assert_eq!(log_in()?.ok()?.stdout, "in\n");
        Ok(())
    })
}

#[test]
fn each_session_has_its_own_credential() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let token = inputs::mint(site, &json!({}))?;
        let wait = "echo $BEARER_TOKEN_FILE >file; while test -e stay; do sleep 0.1; done; cat $BEARER_TOKEN_FILE";
        site.sh("alice", "touch stay")?.ok()?;
        std::thread::scope(|scope| {
            let first = scope.spawn(|| login_with_answers(site, std::slice::from_ref(&token), wait));
            site.wait_for("the first session", Duration::from_secs(20), "alice", "test -s file")?;
            login_with_answers(site, std::slice::from_ref(&token), "cat $BEARER_TOKEN_FILE >/dev/null")?.ok()?;
            site.sh("alice", "rm stay")?.ok()?;
            let outcome = first.join().map_err(|_| testbed::Error::Refused("a panic".into()))??.ok()?;
            assert_eq!(outcome.stdout, token, "the end of the second session removed the first one's credential");
            Ok(())
        })
    })
}

#[test]
fn the_files_of_a_killed_sshd_are_removed() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let token = inputs::mint(site, &json!({}))?;
        let command = "echo $BEARER_TOKEN_FILE >file; sleep 30";
        std::thread::scope(|scope| {
            let session = scope.spawn(|| login_with_answers(site, std::slice::from_ref(&token), command));
            site.wait_for("the session", Duration::from_secs(20), "alice", "test -s file")?;
            site.sh("root", "pkill -KILL -f 'sshd(-session)?: alice \\[(priv|postauth)\\]'")?.ok()?;
            drop(session.join());
            site.wait_for("the agent to clean up", Duration::from_secs(60), "root", NO_FILES).map(drop)
        })
    })
}

#[test]
fn the_record_of_a_login_without_session_is_removed_with_its_sshd() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let token = inputs::mint(site, &json!({}))?;
        let stack = site.read("/etc/pam.d/sshd")?;
        let denied = stack.replace("@include common-account", "account required pam_deny.so");
        assert!(stack != denied, "{stack}");
        site.write("/etc/pam.d/sshd", &denied, "0644")?;
        site.stop("agent", "TERM")?;
        let log_in = || login_with_answers(site, std::slice::from_ref(&token), "true");
        assert!(!log_in()?.success());
        let records = || Ok::<_, testbed::Error>(site.sh("root", "ls /run/mytoken/handover/2001")?.lines().len());
        assert_eq!(records()?, 1, "the refused login left no record to remove");
        // Without an agent the next login removes such records, at most once a minute.
        site.sh("root", "rm -f /run/mytoken/handover/swept")?.ok()?;
        assert!(!log_in()?.success());
        assert_eq!(records()?, 1, "the second login must remove the first record");
        site.restart("agent")?;
        site.wait_for("the agent to clean up", Duration::from_secs(40), "root", NO_FILES).map(drop)
    })
}

#[test]
fn a_login_with_a_key_is_not_affected() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let outcome = login_with_key(site, "alice", "id -un; env | grep -c TOKEN")?;
        assert_eq!(outcome.lines(), ["alice", "0"], "{}", outcome.stderr);
        // A broken configuration does not affect a key login either.
        site.write("/etc/mytoken/login.toml", "services = [\"sshd\"]\nruel = 1\n", "0644")?;
        assert_eq!(login_with_key(site, "alice", "id -un")?.ok()?.lines(), ["alice"]);
        let token = inputs::mint(site, &json!({}))?;
        assert!(!login_with_answers(site, &[token], "id -un")?.success());
        let log = site.system_log()?;
        assert!(log.contains("login.toml:2: unknown key \"ruel\"; did you mean \"rule\"?"), "{log}");
        Ok(())
    })
}

#[test]
fn a_short_token_can_be_sent_by_the_password_method() -> Result<()> {
    story_with_own_servers(Options { sshd_config: "PasswordAuthentication yes", ..one_node()? }, |site| {
        let token = inputs::mint(site, &json!({}))?;
        assert!(token.len() < 1_024);
        let arguments = format!("-o PreferredAuthentications=password testbed '{PRINT_FILES}'");
        let outcome = attempt::ssh_with(site, "alice", std::slice::from_ref(&token), &arguments)?.ok()?;
        assert_eq!(outcome.lines().last().copied(), Some(token.as_str()));
        let outcome = attempt::ssh_with(site, "alice", &["@1/2:abc".into()], &arguments)?;
        assert!(!outcome.success(), "an answer in chunks was accepted");
        site.wait_for("the end of the session", Duration::from_secs(10), "root", NO_FILES).map(drop)
    })
}
