// SPDX-License-Identifier: MIT OR Apache-2.0
//! The token of a login is revoked if the host refuses the login. A session keeps its mytoken.

use std::process::Output;
use std::time::{Duration, Instant};

use crate::login_site::{AUDIENCE, LoginSite, WHOLE_TOKEN, deadline, stderr};
use mytoken::Secret;
use mytoken::server::{AccessTokenRequest, Server, refuse_rotation};
use serde_json::{Value, json};

const CAPABILITIES: &[&str] = &["AT", "create_mytoken", "tokeninfo:introspect"];

/// The start of a fake ssh: it asks for the token, then waits until the host has redeemed the code.
const ASK: &str = "ask '(alice@testbed) Access Token: '; until [ -e \"$HOME/redeemed\" ]; do sleep 0.02; done; ";
/// How ssh reports that it has authenticated: it runs the local command.
const AUTHENTICATE: &str = "for arg; do case $arg in -oLocalCommand=*) $SHELL -c \"${arg#*=}\";; esac; done; ";

/// Runs the helper with a fake ssh that ends with the shell commands `end`. The host redeems the code and then calls
/// `then`. Returns the mytoken of the host.
fn login(site: &LoginSite, args: &[&str], end: &str, then: impl Fn(&Server<'_>, &Secret)) -> (Secret, Output) {
    login_with_code(site, args, end, |server, code| {
        let child = server.redeem(code, deadline()).unwrap().mytoken;
        then(server, &child);
        child
    })
}

/// Like [`login`], but the host does with the code only what `then` does.
fn login_with_code(
    site: &LoginSite,
    args: &[&str],
    end: &str,
    then: impl Fn(&Server<'_>, &Secret) -> Secret,
) -> (Secret, Output) {
    login_with_shell(site, "/usr/sbin/nologin", args, end, then)
}

/// Like [`login_with_code`], with `shell` as the user's shell on this machine.
fn login_with_shell(
    site: &LoginSite,
    shell: &str,
    args: &[&str],
    end: &str,
    then: impl Fn(&Server<'_>, &Secret) -> Secret,
) -> (Secret, Output) {
    site.install_ssh(&format!("{ASK}{end}"));
    let mut line = vec!["ssh"];
    line.extend(args);
    line.push("tb");
    let mut helper = site.helper(&line);
    // ssh runs its local command by this shell.
    let child = helper.env("SHELL", shell).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while site.answers().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "the host did not get a code");
        std::thread::sleep(Duration::from_millis(20));
    }
    let http = site.http();
    let server = Server::discover(&http, &site.url(), deadline()).unwrap();
    let token = then(&server, &Secret::new(site.answers().remove(0)));
    std::fs::write(site.path("home/redeemed"), "").unwrap();
    (token, child.wait_with_output().unwrap())
}

fn do_nothing(_: &Server<'_>, _: &Secret) {}

fn is_valid(site: &LoginSite, token: &Secret) -> bool {
    let http = site.http();
    let server = Server::discover(&http, &site.url(), deadline()).unwrap();
    let request = AccessTokenRequest { mytoken: token, scope: "openid", audience: AUDIENCE, comment: "test" };
    let answer = server.access_token(&request, &mut refuse_rotation, deadline());
    let refused = matches!(answer, Err(mytoken::Error::Server(mytoken::server::ServerError::TokenRefused { .. })));
    assert!(
        refused
            || matches!(
                answer,
                Ok(_) | Err(mytoken::Error::Server(mytoken::server::ServerError::RotatedTokenNotStored { .. }))
            ),
        "{answer:?}"
    );
    !refused
}

#[test]
fn a_mytoken_that_a_hostile_host_redeemed_is_revoked_after_the_refusal() {
    for (args, rotation, end) in [
        (&["--delegate"][..], Value::Null, "exit 255"),
        (&["--delegate"], json!({"on_AT": true, "on_other": true}), "exit 255"),
        // The user pressed Ctrl-C because the host did not answer.
        (&["--delegate"], Value::Null, "kill -INT $$"),
    ] {
        let site = LoginSite::start();
        site.store_mytoken(CAPABILITIES, &rotation);
        let (child, output) = login(&site, args, end, do_nothing);
        assert!(!is_valid(&site, &child), "{args:?} {rotation} {end}");
        assert!(!stderr(&output).contains("was not revoked"), "{}", stderr(&output));
        // The stored mytoken still works, also after it has rotated.
        site.install_ssh(WHOLE_TOKEN);
        assert!(site.run(&["ssh", "tb"]).status.success() && site.access_tokens().len() == 2, "{rotation}");
    }
}

#[test]
fn a_mytoken_that_the_host_has_revoked_causes_no_warning() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    let (child, output) =
        login(&site, &["--delegate"], "exit 255", |server, child| server.revoke(child, true, deadline()).unwrap());
    assert!(!is_valid(&site, &child) && !stderr(&output).contains("was not revoked"), "{}", stderr(&output));
}

#[test]
fn a_session_keeps_its_mytoken_however_ssh_ends() {
    for end in ["exit 255", "exit 1", "exit 0", "kill -TERM $$"] {
        let site = LoginSite::start();
        site.store_mytoken(CAPABILITIES, &Value::Null);
        let (child, output) = login(&site, &["--delegate"], &format!("{AUTHENTICATE}{end}"), do_nothing);
        assert!(is_valid(&site, &child), "{end}");
        assert_eq!(stderr(&output), "", "{end}");
    }
}

#[test]
fn ssh_reports_the_session_with_any_shell_and_any_startup_file() {
    for shell in ["/usr/sbin/nologin", "/bin/false", "/bin/true", "/no/such/shell", "/etc/passwd"] {
        let site = LoginSite::start();
        site.store_mytoken(CAPABILITIES, &Value::Null);
        let end = format!("export SSH_ASKPASS=/bin/true; {AUTHENTICATE}exit 255");
        let (child, output) = login_with_shell(&site, shell, &["--delegate"], &end, |server, code| {
            server.redeem(code, deadline()).unwrap().mytoken
        });
        assert!(is_valid(&site, &child), "{shell}: the session's mytoken was revoked: {}", stderr(&output));
    }
}

#[test]
fn a_mytoken_that_cannot_be_revoked_causes_a_warning_with_its_lifetime_and_what_to_do() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    let (child, output) = login(&site, &["--delegate=10h"], "exit 255", |_, _| {
        site.control("POST", "/outage", &json!({"service": "mytoken", "on": true}));
    });
    let messages = stderr(&output);
    for part in [
        "testbed: ",
        "was not revoked",
        " minutes. ",
        "mytoken-ssh logout",
        site.mytoken_url(),
        "\"ssh session alice@testbed\"",
    ] {
        assert!(messages.contains(part), "{part}: {messages}");
    }
    site.control("POST", "/outage", &json!({"service": "mytoken", "on": false}));
    assert!(is_valid(&site, &child));
    assert!(site.run(&["logout"]).status.success() && !is_valid(&site, &child));
}

#[test]
fn logout_is_not_suggested_if_the_parent_was_replaced() {
    let site = LoginSite::start();
    let parent = site.store_mytoken(CAPABILITIES, &Value::Null);
    let (child, output) = login(&site, &["--delegate"], "exit 255", |server, _| {
        // As a new login does. The sub-tokens of the previous mytoken stay valid.
        server.revoke(&parent.mytoken, false, deadline()).unwrap();
        site.store_mytoken(CAPABILITIES, &Value::Null);
    });
    let messages = stderr(&output);
    assert!(
        is_valid(&site, &child) && messages.contains("was not revoked") && !messages.contains("logout"),
        "{messages}"
    );
}

#[test]
fn an_unused_code_is_revoked_even_if_revocation_by_handle_fails() {
    let site = LoginSite::start();
    let parent = site.store_mytoken(CAPABILITIES, &Value::Null);
    let (code, _) = login_with_code(&site, &["--delegate"], "exit 255", |server, code| {
        server.revoke(&parent.mytoken, false, deadline()).unwrap();
        code.clone()
    });
    let http = site.http();
    let server = Server::discover(&http, &site.url(), deadline()).unwrap();
    assert!(matches!(
        server.redeem(&code, deadline()),
        Err(mytoken::Error::Server(mytoken::server::ServerError::CodeRefused { .. }))
    ));
}
