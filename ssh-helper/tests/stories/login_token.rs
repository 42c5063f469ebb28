// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which token a host gets for its prompt.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::login_site::{AUDIENCE, LoginSite, WHOLE_TOKEN, deadline, stderr};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::Secret;
use mytoken::capabilities::Capabilities;
use mytoken::restrictions::Clause;
use mytoken::server::{AccessTokenRequest, Granted, Server, refuse_rotation};
use mytoken::token_store::StoredToken;
use serde_json::{Value, json};

const CAPABILITIES: &[&str] = &["AT", "create_mytoken", "tokeninfo:introspect"];

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of an access token.
fn claims(token: &Secret) -> Value {
    let payload = token.expose().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// The endpoints that were asked, without the discovery document.
fn asked(site: &LoginSite) -> Vec<String> {
    let journal = site.control("GET", "/journal?service=mytoken", &Value::Null);
    let endpoints = journal.as_array().unwrap().iter().map(|request| request["endpoint"].as_str().unwrap().to_owned());
    endpoints.filter(|endpoint| endpoint != "discovery").collect()
}

#[test]
fn a_host_gets_an_access_token_for_its_audience_and_no_mytoken() {
    let site = LoginSite::start();
    // Without the right to make mytokens.
    site.store_mytoken(&["AT"], &Value::Null);
    site.control("DELETE", "/journal", &Value::Null);
    let output = site.run(&["ssh", "tb"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    assert_eq!(asked(&site), ["access_token"]);
    let tokens = site.access_tokens();
    assert_eq!(tokens.len(), 1);
    let claims = claims(&tokens[0]);
    assert_eq!((&claims["aud"], &claims["scope"]), (&json!(AUDIENCE), &json!("openid profile storage.read")));
    // A refused login leaves nothing that could be revoked.
    site.install_ssh(&format!("{WHOLE_TOKEN}; exit 255"));
    assert_eq!(site.run(&["ssh", "tb"]).status.code(), Some(255));
    assert_eq!(asked(&site), ["access_token"; 2]);
}

#[test]
fn a_host_gets_a_code_if_the_user_says_so_or_leaves_a_choice() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(CAPABILITIES, &Value::Null);
    site.configure("[[host]]\npattern = \"other\"\nsend = \"transfer_code\"\n");
    site.run(&["ssh", "tb"]);
    assert!(site.answers().pop().unwrap().starts_with("eyJ"), "the pattern does not match");
    site.configure("[[host]]\npattern = \"tb\"\nsend = \"transfer_code\"\n");
    site.run(&["ssh", "tb"]);
    assert_eq!(site.answers().pop().unwrap().len(), 8);
    let config = std::fs::read_to_string(site.path("home/.config/mytoken/config.toml")).unwrap();
    std::fs::write(site.path("home/.config/mytoken/config.toml"), config.replace("\"tb\"", "\"elsewhere\"")).unwrap();
    let several = ["https://other".to_owned(), AUDIENCE.to_owned()];
    let clause = Clause { audience: several.to_vec(), ..entry.restrictions[0].clone() };
    let entry = StoredToken { restrictions: vec![clause], capabilities: Capabilities::parse("AT").unwrap(), ..entry };
    site.store().lock(deadline()).unwrap().put(&entry).unwrap();
    let told = stderr(&site.run(&["ssh", "tb"]));
    assert!(told.contains("does not say which audience and scope testbed has: name them with --audience"), "{told}");
    assert!(site.run(&["ssh", "--audience", AUDIENCE, "tb"]).status.success());
}

#[test]
fn a_host_gets_a_code_where_the_provider_does_not_say_whom_its_tokens_are_for() {
    for (policy, reason) in [
        (json!({"opaque": true}), "do not say that they are for https://testbed"),
        (json!({"audience_claim": "resource"}), "with another audience than asked for"),
    ] {
        let site = LoginSite::start();
        site.store_mytoken(CAPABILITIES, &Value::Null);
        site.control("POST", "/provider/policy", &policy);
        let output = site.run(&["ssh", "tb"]);
        assert!(output.status.success() && output.stderr.is_empty(), "{policy}: {}", stderr(&output));
        assert_eq!(site.answers().iter().map(String::len).collect::<Vec<_>>(), [8], "{policy}");
        assert!(site.redeem(&site.answers()[0]).is_ok());
        site.store_mytoken(&["AT"], &Value::Null);
        let told = stderr(&site.run(&["ssh", "tb"]));
        assert!(told.contains(reason), "{policy}: {told}");
    }
}

/// The host may ask for another one, or from another address.
#[test]
fn a_refused_access_token_leaves_the_choice_to_the_host_and_an_outage_does_not() {
    for (fault, answers) in [("400-invalid-scope", 1), ("500-html", 0), ("400-invalid-grant", 0)] {
        let site = LoginSite::start();
        site.store_mytoken(CAPABILITIES, &json!({"on_AT": true, "on_other": true}));
        site.control("POST", "/provider/fault", &json!({"name": fault}));
        let output = site.run(&["ssh", "tb"]);
        assert_eq!(site.answers().len(), answers, "{fault}: {output:?}");
        assert!(site.answers().iter().all(|code| site.redeem(code).is_ok()), "{fault}");
        // Nothing is left to choose.
        site.control("POST", "/provider/fault", &json!({"name": "none"}));
        assert!(site.run(&["ssh", "tb"]).status.success(), "{fault}: the stored mytoken is lost");
        site.store_mytoken(&["AT"], &Value::Null);
        site.control("POST", "/provider/fault", &json!({"name": fault}));
        assert!(stderr(&site.run(&["ssh", "tb"])).starts_with("testbed: "), "{fault}");
    }
}

#[test]
fn the_sub_token_of_a_code_expires_in_five_minutes_and_gives_only_access_tokens() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    site.configure("[[host]]\npattern = \"*\"\nsend = \"transfer_code\"\n");
    let output = site.run(&["ssh", "tb"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let answers = site.answers();
    assert_eq!((answers.len(), answers[0].len()), (1, 8), "{answers:?}");
    let child = site.redeem(&answers[0]).unwrap();
    assert_eq!(child.capabilities.to_string(), "AT");
    let clause = &child.restrictions[0];
    assert!(clause.exp.unwrap() <= now() + 300 && clause.usages_at == Some(2) && clause.usages_other == Some(0));
    assert_eq!(
        (clause.audience.as_slice(), clause.scope.as_str()),
        ([AUDIENCE.to_owned()].as_slice(), "openid profile storage.read")
    );
    let http = site.http();
    let server = Server::discover(&http, &site.url(), deadline()).unwrap();
    let request =
        AccessTokenRequest { mytoken: &child.mytoken, scope: "openid profile", audience: AUDIENCE, comment: "test" };
    server.access_token(&request, &mut refuse_rotation, deadline()).unwrap();
}

#[test]
fn a_delegated_mytoken_has_the_requested_lifetime_limited_by_its_parent() {
    let site = LoginSite::start();
    let parent = site.store_mytoken(CAPABILITIES, &Value::Null);
    site.run(&["ssh", "--delegate=10m", "tb"]);
    site.run(&["ssh", "--delegate", "tb"]);
    let children: Vec<Granted> = site.answers().iter().map(|code| site.redeem(code).unwrap()).collect();
    assert_eq!(children[0].capabilities.to_string(), "AT create_mytoken tokeninfo:introspect");
    assert!(children[0].restrictions[0].exp.unwrap().abs_diff(now() + 600) < 30);
    assert_eq!(children[1].restrictions[0].exp, parent.expires_at);
    assert_eq!(children[1].restrictions[0].usages_at, None);
}

#[test]
fn a_host_rule_limits_the_scope() {
    let site = LoginSite::start();
    site.configure("[[host]]\npattern = \"test*\"\nscope = \"openid\"\n");
    site.store_mytoken(CAPABILITIES, &Value::Null);
    site.run(&["ssh", "--delegate", "tb"]);
    assert_eq!(site.redeem(&site.answers()[0]).unwrap().restrictions[0].scope, "openid");
    site.run(&["ssh", "tb"]);
    assert_eq!(claims(&site.access_tokens()[1])["scope"], "openid");
    // The stored mytoken lacks the scope compute.write. So the helper refuses to ask for it, and there is no further answer.
    for more in [&[][..], &["--delegate"]] {
        let refused = site.run(&[&["ssh", "--scope", "compute.write"], more, &["tb"]].concat());
        assert!(refused.status.code() == Some(1) && stderr(&refused).contains("compute.write"), "{refused:?}");
    }
    assert_eq!(site.access_tokens().len(), 2);
}

#[test]
fn the_transfer_code_of_a_failed_login_is_revoked() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    site.install_ssh("ask '(alice@testbed) Access Token: '; exit 255");
    assert_eq!(site.run(&["ssh", "--delegate", "tb"]).status.code(), Some(255));
    assert!(matches!(
        site.redeem(&site.answers()[0]),
        Err(mytoken::Error::Server(mytoken::server::ServerError::CodeRefused { .. }))
    ));
}

#[test]
fn simultaneous_logins_with_a_rotating_mytoken_succeed() {
    let site = LoginSite::start();
    let first = site.store_mytoken(CAPABILITIES, &json!({"on_AT": true, "on_other": true}));
    // With a code and with an access token.
    let login = |run| site.helper(if run % 2 == 0 { &["ssh", "--delegate", "tb"][..] } else { &["ssh", "tb"] });
    let mut runs: Vec<_> = (0..4).map(|run| login(run).spawn().unwrap()).collect();
    assert!(runs.iter_mut().all(|run| run.wait().unwrap().success()));
    let answers = site.answers();
    let codes: Vec<&String> = answers.iter().filter(|answer| answer.len() == 8).collect();
    assert_eq!(codes.len(), 2, "{answers:?}");
    assert!(codes.iter().all(|code| site.redeem(code).is_ok()) && answers.len() >= 4);
    let stored = site.stored().unwrap();
    assert_ne!(stored.mytoken, first.mytoken);
    let http = site.http();
    let server = Server::discover(&http, &site.url(), deadline()).unwrap();
    assert_eq!(server.introspect(&stored.mytoken, deadline()).unwrap().claims.seq_no, Some(5));
}

#[test]
fn a_sub_token_with_more_rights_than_requested_is_revoked_and_not_sent() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    site.control("POST", "/mytoken/fault", &json!({"name": "broader-child"}));
    let output = site.run(&["ssh", "--delegate", "--scope", "openid", "tb"]);
    assert!(site.answers().is_empty());
    assert!(
        stderr(&output).contains("more rights than asked for") && stderr(&output).contains("was revoked"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn in_an_outage_nothing_is_sent_and_one_sentence_says_why() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    site.install_ssh("ask '(alice@testbed) Access Token: '; exit 255");
    site.control("POST", "/outage", &json!({"service": "mytoken", "on": true}));
    let output = site.run(&["ssh", "tb"]);
    let messages = stderr(&output);
    assert!(site.answers().is_empty() && output.status.code() == Some(255));
    assert_eq!(messages.lines().count(), 1, "{messages}");
    assert!(messages.contains("cannot be reached") && messages.contains("try again later"), "{messages}");
}

#[test]
fn without_a_prompt_no_token_is_made() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    site.install_ssh("exit 0");
    site.control("DELETE", "/journal", &Value::Null);
    assert!(site.run(&["ssh", "tb"]).status.success());
    assert_eq!(site.control("GET", "/journal?service=mytoken", &Value::Null), json!([]));
}

#[test]
fn without_a_needed_capability_ssh_is_not_started() {
    let site = LoginSite::start();
    site.install_ssh("touch \"$HOME/started\"");
    for (owned, args, missing) in
        [("AT", &["ssh", "--delegate", "tb"][..], "create_mytoken"), ("create_mytoken", &["ssh", "tb"], "AT")]
    {
        site.store_mytoken(&[owned], &Value::Null);
        let output = site.run(args);
        assert_eq!(output.status.code(), Some(1));
        let told = format!("your mytoken lacks the capability {missing}; run: mytoken-ssh login");
        assert!(stderr(&output).contains(&told) && !site.path("home/started").exists(), "{output:?}");
    }
}
