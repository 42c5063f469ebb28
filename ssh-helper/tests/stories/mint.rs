// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a host gets for its prompt.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::site::{AUDIENCE, Site, said};
use mytoken::server::{AccessTokenRequest, Granted, Server, no_storage};
use mytoken::{Deadline, Secret};
use serde_json::{Value, json};

const USUAL: &[&str] = &["AT", "create_mytoken", "tokeninfo:introspect"];

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn redeem(site: &Site, code: &str) -> Result<Granted, mytoken::Error> {
    let http = site.http();
    Server::discover(&http, &site.url(), soon()).unwrap().redeem(&Secret::new(code), soon())
}

#[test]
fn a_login_gets_a_child_for_minutes_that_gives_access_tokens_only() {
    let site = Site::start();
    site.give(USUAL, &Value::Null);
    let output = site.run(&["ssh", "tb"]);
    assert!(output.status.success(), "{}", said(&output));
    let answers = site.answers();
    assert_eq!((answers.len(), answers[0].len()), (1, 8), "{answers:?}");
    let child = redeem(&site, &answers[0]).unwrap();
    assert_eq!(child.capabilities.to_string(), "AT");
    let clause = &child.restrictions[0];
    assert!(clause.exp.unwrap() <= now() + 300 && clause.usages_at == Some(2) && clause.usages_other == Some(0));
    assert_eq!(
        (clause.audience.as_slice(), clause.scope.as_str()),
        ([AUDIENCE.to_owned()].as_slice(), "openid profile storage.read")
    );
    let http = site.http();
    let server = Server::discover(&http, &site.url(), soon()).unwrap();
    let request =
        AccessTokenRequest { mytoken: &child.mytoken, scope: "openid profile", audience: AUDIENCE, comment: "test" };
    server.access_token(&request, &mut no_storage, soon()).unwrap();
}

#[test]
fn a_delegated_child_lives_as_long_as_asked_and_never_longer_than_its_parent() {
    let site = Site::start();
    let parent = site.give(USUAL, &Value::Null);
    site.run(&["ssh", "--delegate=10m", "tb"]);
    site.run(&["ssh", "--delegate", "tb"]);
    let children: Vec<Granted> = site.answers().iter().map(|code| redeem(&site, code).unwrap()).collect();
    assert_eq!(children[0].capabilities.to_string(), "AT create_mytoken tokeninfo:introspect");
    assert!(children[0].restrictions[0].exp.unwrap().abs_diff(now() + 600) < 30);
    assert_eq!(children[1].restrictions[0].exp, parent.expires_at);
    assert_eq!(children[1].restrictions[0].usages_at, None);
}

#[test]
fn a_host_rule_narrows_what_the_host_gets() {
    let site = Site::start();
    let file = site.path("home/.config/mytoken/config.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config + "[[host]]\npattern = \"test*\"\nscope = \"openid\"\n").unwrap();
    site.give(USUAL, &Value::Null);
    site.run(&["ssh", "tb"]);
    site.run(&["ssh", "--scope", "compute.write", "tb"]);
    let answers = site.answers();
    assert_eq!(redeem(&site, &answers[0]).unwrap().restrictions[0].scope, "openid");
    // A scope that the stored token does not have is refused here, not widened by the server.
    assert_eq!(answers.len(), 1);
}

#[test]
fn the_code_of_a_delegation_whose_login_failed_is_revoked() {
    let site = Site::start();
    site.give(USUAL, &Value::Null);
    site.fake_ssh("ask '(alice@testbed) Access Token: '; exit 255");
    assert_eq!(site.run(&["ssh", "--delegate", "tb"]).status.code(), Some(255));
    assert!(matches!(redeem(&site, &site.answers()[0]), Err(mytoken::Error::CodeRefused { .. })));
}

#[test]
fn simultaneous_logins_with_a_rotating_token_all_succeed() {
    let site = Site::start();
    let first = site.give(USUAL, &json!({"on_AT": true, "on_other": true}));
    let mut runs: Vec<_> = (0..4).map(|_| site.helper(&["ssh", "tb"]).spawn().unwrap()).collect();
    assert!(runs.iter_mut().all(|run| run.wait().unwrap().success()));
    let answers = site.answers();
    assert_eq!(answers.len(), 4);
    assert!(answers.iter().all(|code| redeem(&site, code).is_ok()));
    let stored = site.stored().unwrap();
    assert_ne!(stored.mytoken, first.mytoken);
    let http = site.http();
    let server = Server::discover(&http, &site.url(), soon()).unwrap();
    assert_eq!(server.introspect(&stored.mytoken, soon()).unwrap().claims.seq_no, Some(5));
}

#[test]
fn a_child_that_comes_back_broader_is_revoked_and_not_handed_over() {
    let site = Site::start();
    site.give(USUAL, &Value::Null);
    site.control("POST", "/mytoken/fault", &json!({"name": "broader-child"}));
    let output = site.run(&["ssh", "tb"]);
    assert!(site.answers().is_empty());
    assert!(
        said(&output).contains("more rights than asked for") && said(&output).contains("was revoked"),
        "{}",
        said(&output)
    );
}

#[test]
fn an_outage_is_told_in_one_sentence_and_sends_nothing() {
    let site = Site::start();
    site.give(USUAL, &Value::Null);
    site.fake_ssh("ask '(alice@testbed) Access Token: '; exit 255");
    site.control("POST", "/outage", &json!({"service": "mytoken", "on": true}));
    let output = site.run(&["ssh", "tb"]);
    let told = said(&output);
    assert!(site.answers().is_empty() && output.status.code() == Some(255));
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("cannot be reached") && told.contains("try again later"), "{told}");
}

#[test]
fn no_prompt_no_token() {
    let site = Site::start();
    site.give(USUAL, &Value::Null);
    site.fake_ssh("exit 0");
    site.control("DELETE", "/journal", &Value::Null);
    assert!(site.run(&["ssh", "tb"]).status.success());
    assert_eq!(site.control("GET", "/journal?service=mytoken", &Value::Null), json!([]));
}

#[test]
fn a_token_that_cannot_do_it_is_refused_before_ssh_runs() {
    let site = Site::start();
    site.give(&["AT"], &Value::Null);
    site.fake_ssh("touch \"$HOME/started\"");
    let output = site.run(&["ssh", "tb"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("create_mytoken") && !site.path("home/started").exists());
}
