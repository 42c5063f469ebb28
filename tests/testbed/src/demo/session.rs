// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps 1 and 2: a first mytoken, a login by real ssh, and the session's files and variables.

use std::time::Duration;

use super::Narrator;
use crate::drive::people::{self, LOGIN, Session};
use crate::{Result, Site};

/// alice logs in and looks at her session, which stays open.
pub(super) fn log_in(site: &Site, narrator: &mut Narrator) -> Result<Session> {
    narrator.chapter("1. alice gets her first mytoken and logs in with it");
    let login = people::first_mytoken(site, "alice")?;
    narrator.show("alice@laptop", LOGIN, &login);
    narrator
        .check(login.success(), "alice got her first mytoken (authorization-code flow; the demo acted as the browser)");

    let ssh = "mytoken-ssh ssh --delegate testbed bash -s";
    let mut session = Session::open(site, "alice", ssh)?;
    let who = session.run("whoami; echo \"$SSH_CONNECTION\"", Duration::from_secs(10))?;
    narrator.show("alice@laptop", "mytoken-ssh ssh --delegate testbed", &who);
    // What writes the log can be late.
    site.system_log()?;
    let log = site.sh(
        "root",
        "grep -h 'pam_mytoken' /var/log/all.log | tail -n 3; grep -h 'Accepted' /var/log/all.log | tail -n 1",
    )?;
    narrator.show("root@testbed", "grep -e pam_mytoken -e Accepted /var/log/all.log", &log);
    narrator.check(
        who.stdout.starts_with("alice") && log.stdout.contains("Accepted keyboard-interactive/pam for alice"),
        "alice logged in through PAM keyboard-interactive, without password and key",
    );

    narrator.chapter("2. The session's files and environment");
    let files =
        session.run("ls -l \"$BEARER_TOKEN_FILE\" \"$MYTOKEN_FILE\"; env | grep -e TOKEN", Duration::from_secs(10))?;
    narrator.show("alice@testbed", "ls -l $BEARER_TOKEN_FILE $MYTOKEN_FILE; env | grep TOKEN", &files);
    let call = people::call("-sS -w ' HTTP %{http_code}\\n'");
    let answer = session.run(&call, Duration::from_secs(20))?;
    narrator.show("alice@testbed", &call, &answer);
    narrator.check(answer.stdout.contains("HTTP 200"), "the resource server accepts the session's access token");
    narrator.check(
        files.success() && files.stdout.contains("MYTOKEN_FILE=") && !files.stdout.contains("eyJ"),
        "--delegate gave the session a narrower mytoken; the environment has the files' names and no token",
    );
    Ok(session)
}
