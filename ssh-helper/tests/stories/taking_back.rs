// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a login redeemed is revoked when it is refused, and lives on when it was let in.

use std::process::Output;
use std::time::{Duration, Instant};

use crate::site::{AUDIENCE, Site, said};
use mytoken::server::{AccessTokenRequest, Server, no_storage};
use mytoken::{Deadline, Secret};
use serde_json::{Value, json};

const USUAL: &[&str] = &["AT", "create_mytoken", "tokeninfo:introspect"];

/// An ssh whose host redeems the code before it answers.
const ASK: &str = "ask '(alice@testbed) Access Token: '; until [ -e \"$HOME/redeemed\" ]; do sleep 0.02; done; ";
/// What ssh does when it was let in.
const ENTER: &str = "for arg; do case $arg in -oLocalCommand=*) $SHELL -c \"${arg#*=}\";; esac; done; ";

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// Runs the helper with an ssh that ends like `end`; its host redeems the code and does `then` with the mytoken.
fn login(site: &Site, args: &[&str], end: &str, then: impl Fn(&Server<'_>, &Secret)) -> (Secret, Output) {
    login_by_code(site, args, end, |server, code| {
        let child = server.redeem(code, soon()).unwrap().mytoken;
        then(server, &child);
        child
    })
}

/// As [`login`]; what the host does with the code is `then`.
fn login_by_code(
    site: &Site,
    args: &[&str],
    end: &str,
    then: impl Fn(&Server<'_>, &Secret) -> Secret,
) -> (Secret, Output) {
    login_by_shell(site, "/usr/sbin/nologin", args, end, then)
}

fn login_by_shell(
    site: &Site,
    shell: &str,
    args: &[&str],
    end: &str,
    then: impl Fn(&Server<'_>, &Secret) -> Secret,
) -> (Secret, Output) {
    site.fake_ssh(&format!("{ASK}{end}"));
    let mut line = vec!["ssh"];
    line.extend(args);
    line.push("tb");
    let mut helper = site.helper(&line);
    // As a service has it: ssh would run its local command by a shell that runs nothing.
    let run = helper.env("SHELL", shell).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while site.answers().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "no code was handed over");
        std::thread::sleep(Duration::from_millis(20));
    }
    let http = site.http();
    let server = Server::discover(&http, &site.url(), soon()).unwrap();
    let got = then(&server, &Secret::new(site.answers().remove(0)));
    std::fs::write(site.path("home/redeemed"), "").unwrap();
    (got, run.wait_with_output().unwrap())
}

fn nothing(_: &Server<'_>, _: &Secret) {}

fn alive(site: &Site, token: &Secret) -> bool {
    let http = site.http();
    let server = Server::discover(&http, &site.url(), soon()).unwrap();
    let request = AccessTokenRequest { mytoken: token, scope: "openid", audience: AUDIENCE, comment: "test" };
    let answer = server.access_token(&request, &mut no_storage, soon());
    let refused = matches!(answer, Err(mytoken::Error::TokenRefused { .. }));
    assert!(refused || matches!(answer, Ok(_) | Err(mytoken::Error::RotatedTokenNotStored { .. })), "{answer:?}");
    !refused
}

#[test]
fn what_a_hostile_host_redeemed_is_revoked_when_it_refuses() {
    for (args, rotation, end) in [
        (&["--delegate"][..], Value::Null, "exit 255"),
        (&[], Value::Null, "exit 255"),
        (&["--delegate"], json!({"on_AT": true, "on_other": true}), "exit 255"),
        // Somebody lost patience with a host that does not answer.
        (&["--delegate"], Value::Null, "kill -INT $$"),
    ] {
        let site = Site::start();
        site.give(USUAL, &rotation);
        let (child, output) = login(&site, args, end, nothing);
        assert!(!alive(&site, &child), "{args:?} {rotation} {end}");
        assert!(!said(&output).contains("may still"), "{}", said(&output));
        // Its successor is kept: the next login works.
        site.fake_ssh("ask '(alice@testbed) Access Token: '");
        assert!(site.run(&["ssh", "tb"]).status.success() && site.answers().len() == 2, "{rotation}");
    }
}

#[test]
fn what_the_host_revoked_itself_needs_no_word() {
    let site = Site::start();
    site.give(USUAL, &Value::Null);
    let (child, output) =
        login(&site, &["--delegate"], "exit 255", |server, child| server.revoke(child, true, soon()).unwrap());
    assert!(!alive(&site, &child) && !said(&output).contains("may still"), "{}", said(&output));
}

#[test]
fn a_session_that_was_let_in_keeps_its_mytoken_however_it_ends() {
    for end in ["exit 255", "exit 1", "exit 0", "kill -TERM $$"] {
        let site = Site::start();
        site.give(USUAL, &Value::Null);
        let (child, output) = login(&site, &["--delegate"], &format!("{ENTER}{end}"), nothing);
        assert!(alive(&site, &child), "{end}");
        assert_eq!(said(&output), "", "{end}");
    }
}

#[test]
fn who_was_let_in_is_known_whatever_shell_there_is_and_whatever_its_startup_file_sets() {
    for shell in ["/usr/sbin/nologin", "/bin/false", "/bin/true", "/no/such/shell", "/etc/passwd"] {
        let site = Site::start();
        site.give(USUAL, &Value::Null);
        let end = format!("export SSH_ASKPASS=/bin/true; {ENTER}exit 255");
        let (child, output) = login_by_shell(&site, shell, &["--delegate"], &end, |server, code| {
            server.redeem(code, soon()).unwrap().mytoken
        });
        assert!(alive(&site, &child), "{shell}: the session's mytoken was revoked: {}", said(&output));
    }
}

#[test]
fn what_cannot_be_revoked_is_told_with_its_end_and_how_to_end_it() {
    let site = Site::start();
    site.give(USUAL, &Value::Null);
    let (child, output) = login(&site, &["--delegate=10h"], "exit 255", |_, _| {
        site.control("POST", "/outage", &json!({"service": "mytoken", "on": true}));
    });
    let told = said(&output);
    for part in
        ["testbed: ", "may still", " minutes, ", "mytoken-ssh logout", site.mytoken_url(), "\"ssh alice@testbed\""]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    site.control("POST", "/outage", &json!({"service": "mytoken", "on": false}));
    assert!(alive(&site, &child));
    assert!(site.run(&["logout"]).status.success() && !alive(&site, &child));
}

#[test]
fn a_child_of_a_mytoken_that_was_replaced_meanwhile_is_told_of() {
    let site = Site::start();
    let parent = site.give(USUAL, &Value::Null);
    let (child, output) = login(&site, &["--delegate"], "exit 255", |server, _| {
        // As a new login does: what the former one made lives on.
        server.revoke(&parent.mytoken, false, soon()).unwrap();
        site.give(USUAL, &Value::Null);
    });
    let told = said(&output);
    assert!(alive(&site, &child) && told.contains("may still") && !told.contains("logout"), "{told}");
}

#[test]
fn a_code_that_nobody_redeemed_is_revoked_even_when_the_handle_does_not_help() {
    let site = Site::start();
    let parent = site.give(USUAL, &Value::Null);
    let (code, _) = login_by_code(&site, &["--delegate"], "exit 255", |server, code| {
        server.revoke(&parent.mytoken, false, soon()).unwrap();
        code.clone()
    });
    let http = site.http();
    let server = Server::discover(&http, &site.url(), soon()).unwrap();
    assert!(matches!(server.redeem(&code, soon()), Err(mytoken::Error::CodeRefused { .. })));
}
