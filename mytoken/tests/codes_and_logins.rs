// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transfer codes, revocation, introspection, history, discovery, the login flow.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod fake;

use std::ops::ControlFlow;
use std::time::Duration;

use fake::mytoken_server::{MytokenServer, NOW, client, discovery, mytoken, no_rotation, soon};
use fake::{Fake, Reply};
use mytoken::capabilities::Capabilities;
use mytoken::restrictions::Clause;
use mytoken::server::ServerError;
use mytoken::server::{Granted, LoginRequest, PendingLogin, Server};
use mytoken::urls::{IssuerUrl, ServerUrl};
use mytoken::{Error, Kind, Secret};
use serde_json::{Value, json};

fn refused(status: u16, code: &str) -> Reply {
    Reply::json(status, &json!({"error": code, "error_description": "Bad polling or transfer code"}))
}

#[test]
fn the_rotation_of_a_redeemed_token_is_read_from_its_claims() {
    let token = mytoken(json!({"rotation": {"on_AT": true}}));
    let answer =
        json!({"mytoken": token, "mytoken_type": "token", "mom_id": "m==", "expires_in": 60, "capabilities": ["AT"]});
    let server = MytokenServer::with_replies(vec![Reply::json(200, &answer)]);
    let http = client();
    let granted = server.server(&http).redeem(&Secret::new("abcdefgh\n"), soon()).unwrap();
    assert!(granted.rotates());
    assert_eq!(granted.expires_at, Some(NOW + 60));
    assert_eq!(server.requests()[0].json(), json!({"grant_type": "transfer_code", "transfer_code": "abcdefgh"}));
}

#[test]
fn a_code_is_never_sent_twice() {
    let table = [
        (refused(401, "invalid_token"), Kind::Refused, "already used"),
        (refused(401, "expired_token"), Kind::Refused, "too old"),
        (Reply::json(500, &json!({"error": "internal_server_error"})), Kind::Unavailable, "later"),
        (Reply::hang_up(), Kind::Unavailable, "later"),
        (Reply::json(200, &json!({"mytoken": ""})), Kind::Unavailable, "empty mytoken"),
        (Reply::json(200, &json!({})), Kind::Unavailable, "neither"),
    ];
    for (reply, kind, words) in table {
        let server = MytokenServer::with_replies(vec![reply]);
        let http = client();
        let error = server.server(&http).redeem(&Secret::new("abcdefgh"), soon()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(server.requests().len(), 1, "{error}");
    }
}

#[test]
fn a_transfer_code_is_made() {
    let answer = json!({"transfer_code": "GkRbXpQm", "expires_in": 300, "mytoken_type": "transfer_code"});
    let server = MytokenServer::with_replies(vec![Reply::json(200, &answer)]);
    let http = client();
    let code = server.server(&http).transfer_code(&mytoken(json!({})), soon()).unwrap();
    assert_eq!((code.code.expose(), code.expires_in), ("GkRbXpQm", 300));
}

#[test]
fn revoking_another_token_by_handle_is_sent_once_and_stores_a_successor() {
    let http = client();
    let (parent, successor) = (mytoken(json!({})), mytoken(json!({"seq_no": 2})));
    let update = Reply::json(200, &json!({"token_update": {"mytoken": successor}}));
    let server = MytokenServer::with_replies(vec![update]);
    let mut kept = None;
    let mut keep = |token: &Secret| {
        kept = Some(token.clone());
        Ok(())
    };
    server.server(&http).revoke_other(&parent, "handle==", true, &mut keep, soon()).unwrap();
    assert_eq!(kept, Some(successor));
    assert_eq!(server.requests()[0].json(), json!({"token": parent, "recursive": true, "mom_id": "handle=="}));

    // The request is not repeated after a lost answer: the token may have rotated, and the second request would be refused.
    let server = MytokenServer::with_replies(vec![Reply::hang_up()]);
    let error = server.server(&http).revoke_other(&parent, "handle==", true, &mut no_rotation, soon()).unwrap_err();
    assert!(error.is_unavailable() && server.requests().len() == 1, "{error}");
    // Without a handle the server would revoke the authorising token.
    let server = MytokenServer::with_replies(Vec::new());
    assert!(server.server(&http).revoke_other(&parent, "", true, &mut no_rotation, soon()).is_err());
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_revocation_is_repeated_after_a_lost_answer() {
    let http = client();
    let gone = Reply::new(204, "text/plain", "");
    let server = MytokenServer::with_replies(vec![Reply::hang_up(), gone.clone()]);
    server.server(&http).revoke(&Secret::new("abcdefgh"), true, soon()).unwrap();
    assert_eq!(server.requests().len(), 2);
    assert_eq!(server.requests()[1].json(), json!({"token": "abcdefgh", "recursive": true}));

    let outdated = Reply::json(500, &json!({"error": "internal_server_error", "error_description": "cipher"}));
    let server = MytokenServer::with_replies(vec![outdated]);
    let error = server.server(&http).revoke(&mytoken(json!({})), false, soon()).unwrap_err();
    assert!(matches!(error, Error::Server(ServerError::Failed { .. })), "{error}");
}

#[test]
fn an_introspection_of_another_servers_token_is_refused() {
    for (valid, iss, accepted) in
        [(true, None, true), (false, None, false), (true, Some("https://evil.example.org"), false)]
    {
        let server = MytokenServer::with_handler(move |request| {
            let own = format!("http://{}", request.header("host").unwrap());
            let token = json!({"iss": iss.unwrap_or(&own), "oidc_sub": "alice", "capabilities": ["AT"]});
            Reply::json(200, &json!({"valid": valid, "token_type": "token", "mom_id": "m==", "token": token}))
        });
        let http = client();
        let result = server.server(&http).introspect(&mytoken(json!({})), soon());
        assert_eq!(result.is_ok(), accepted, "{result:?}");
    }
}

#[test]
fn the_history_may_be_null_and_may_rotate() {
    let http = client();
    let successor = mytoken(json!({"seq_no": 2}));
    let events = json!([{"event": "AT_created", "time": NOW, "ip": "192.0.2.1", "new_member": 1}]);
    let answer = json!({"events": events, "token_update": {"mytoken": successor}});
    let server = MytokenServer::with_replies(vec![Reply::json(200, &answer)]);
    let mut kept = Vec::new();
    let mut keep = |new: &Secret| {
        kept.push(new.clone());
        Ok(())
    };
    let history = server.server(&http).history(&mytoken(json!({})), &mut keep, soon()).unwrap();
    assert_eq!(history[0].event, "AT_created");
    assert_eq!(kept, [successor]);
    let server = MytokenServer::with_replies(vec![Reply::json(200, &json!({"events": null}))]);
    assert!(server.server(&http).history(&mytoken(json!({})), &mut no_rotation, soon()).unwrap().is_empty());
}

#[test]
fn the_discovery_document_must_be_the_servers_own() {
    let change = |change: fn(&mut Value)| {
        Fake::plain(move |request| {
            let mut document = discovery(&format!("http://{}", request.header("host").unwrap()));
            change(&mut document);
            Reply::json(200, &document)
        })
    };
    let cases: [(&str, Fake, bool); 7] = [
        ("good", change(|_| ()), true),
        ("trailing slash", change(|d| d["issuer"] = json!(format!("{}/", d["issuer"].as_str().unwrap()))), true),
        ("foreign issuer", change(|d| d["issuer"] = json!("https://evil.example.org")), false),
        ("plain endpoint elsewhere", change(|d| d["revocation_endpoint"] = json!("http://mt.example.org/r")), false),
        ("endpoint is no URL", change(|d| d["mytoken_endpoint"] = json!("/my")), false),
        ("endpoint missing", change(|d| d["access_token_endpoint"] = json!(null)), false),
        ("issuer missing", change(|d| d["issuer"] = json!(null)), false),
    ];
    let http = client();
    for (what, fake, good) in cases {
        let url = ServerUrl::parse(&fake.url(""), true).unwrap();
        let result = Server::discover(&http, &url, soon()).map(|server| server.discovery().clone());
        assert_eq!(result.is_ok(), good, "{what}: {result:?}");
        assert_eq!(fake.requests()[0].path, "/.well-known/mytoken-configuration");
        if let Ok(document) = result {
            let cached = serde_json::to_string(&document).unwrap();
            Server::from_discovery(&http, &url, serde_json::from_str(&cached).unwrap()).unwrap();
        }
    }
}

#[test]
fn the_error_names_a_disabled_endpoint() {
    let fake = Fake::plain(|request| {
        let mut document = discovery(&format!("http://{}", request.header("host").unwrap()));
        for endpoint in ["revocation_endpoint", "token_transfer_endpoint", "tokeninfo_endpoint"] {
            document.as_object_mut().unwrap().remove(endpoint);
        }
        Reply::json(200, &document)
    });
    let http = client();
    let server = Server::discover(&http, &ServerUrl::parse(&fake.url(""), true).unwrap(), soon()).unwrap();
    let token = mytoken(json!({}));
    for error in [
        server.revoke(&token, false, soon()).unwrap_err(),
        server.transfer_code(&token, soon()).unwrap_err(),
        server.introspect(&token, soon()).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Server(ServerError::NotOffered { .. })), "{error}");
    }
}

fn login(server: &Server<'_>, issuer: &str, restrictions: Value, capabilities: &str) -> Result<PendingLogin, Error> {
    let issuer = IssuerUrl::parse(issuer, false).unwrap();
    let capabilities = Capabilities::parse(capabilities).unwrap();
    let restrictions: Vec<Clause> = serde_json::from_value(restrictions).unwrap();
    let request = LoginRequest {
        issuer: &issuer,
        capabilities: &capabilities,
        restrictions: &restrictions,
        rotation: None,
        name: "laptop",
        application_name: "mytoken-ssh",
    };
    server.start_login(&request, soon())
}

fn started() -> Value {
    json!({"consent_uri": "https://mt.example.org/c/AbCdEfGh", "polling_code": "Zm9vYmFy", "expires_in": 300, "interval": 5})
}

#[test]
fn starting_a_login_returns_link_and_polling_code() {
    let server = MytokenServer::with_replies(vec![Reply::json(200, &started())]);
    let http = client();
    let pending =
        login(&server.server(&http), "https://op.example.org", json!([{"exp": NOW + 9, "audience": ["x"]}]), "AT")
            .unwrap();
    assert_eq!(pending.consent_uri.expose(), "https://mt.example.org/c/AbCdEfGh");
    assert_eq!((pending.expires_in.as_secs(), pending.interval.as_secs()), (300, 5));
    assert_eq!(
        server.requests()[0].json(),
        json!({"grant_type": "oidc_flow", "oidc_flow": "authorization_code", "client_type": "native", "response_type": "token",
            "oidc_issuer": "https://op.example.org/", "capabilities": ["AT"], "name": "laptop", "application_name": "mytoken-ssh",
            "restrictions": [{"exp": NOW + 9, "audience": ["x"]}]}),
        "the issuer in the server's own spelling"
    );
}

#[test]
fn an_invalid_login_request_is_not_sent() {
    let server = MytokenServer::with_replies(vec![Reply::json(200, &started())]);
    let http = client();
    let op = "https://op.example.org";
    let table = [
        (op, json!([{"audience": ["x", "y"]}]), "AT", "only one audience"),
        (op, json!([{"audience": ["x"]}, {"audience": ["y"]}]), "AT", "only one audience"),
        (op, json!([]), "", "at least one capability"),
        (op, json!([{"exp": NOW}]), "AT", "in the past"),
        (op, json!([{"geoip_allow": ["DE"]}]), "AT", "geoip_allow"),
        ("https://other.example.org", json!([]), "AT", "logins at https://other.example.org"),
    ];
    for (issuer, restrictions, capabilities, words) in table {
        let error = login(&server.server(&http), issuer, restrictions, capabilities).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_link_that_is_unsafe_for_terminal_or_browser_is_refused() {
    for link in ["javascript:alert(1)", "http://mt.example.org/c/x", "https://mt.example.org/c/\u{1b}[2J", "", "/c/x"] {
        let mut answer = started();
        answer["consent_uri"] = json!(link);
        let server = MytokenServer::with_replies(vec![Reply::json(200, &answer)]);
        let http = client();
        let error = login(&server.server(&http), "https://op.example.org", json!([]), "AT").unwrap_err();
        assert!(matches!(error, Error::Server(ServerError::NotUnderstood { .. })), "{link}: {error}");
    }
}

fn pending() -> PendingLogin {
    PendingLogin {
        consent_uri: Secret::new("https://mt.example.org/c/AbCdEfGh"),
        polling_code: Secret::new("Zm9vYmFy"),
        expires_in: Duration::from_secs(60),
        interval: Duration::from_secs(5),
    }
}

/// The server's numbers limit the time for the login and set the pause between polls. No number may end the login at once or prevent polls.
#[test]
fn a_login_can_be_confirmed_with_any_times_from_the_server() {
    let numbers =
        [json!(0), json!(-1), json!(u64::MAX), json!(i64::MAX), json!(1e300), json!(0.1), json!("5"), Value::Null];
    for expires_in in &numbers {
        for interval in &numbers {
            let mut answer = started();
            answer["expires_in"] = expires_in.clone();
            answer["interval"] = interval.clone();
            let done = json!({"mytoken": mytoken(json!({})), "mytoken_type": "token", "capabilities": ["AT"],
                "expires_in": expires_in});
            let replies =
                vec![Reply::json(200, &answer), refused(428, "authorization_pending"), Reply::json(200, &done)];
            let server = MytokenServer::with_replies(replies);
            let http = client();
            let server = server.server(&http);
            let pending = login(&server, "https://op.example.org", json!([]), "AT").unwrap();
            assert_eq!(pending.expires_in.as_secs(), 300, "{expires_in}");
            let mut slept = Duration::ZERO;
            let mut sleep = |time| {
                slept += time;
                ControlFlow::Continue(())
            };
            let granted = server.wait(&pending, soon(), &mut sleep, &mut |_| ());
            assert!(granted.is_ok(), "{expires_in} {interval}: {granted:?}");
            assert_eq!(granted.unwrap().expires_at, None);
            assert!((1..=120).contains(&slept.as_secs()), "{expires_in} {interval}: {slept:?}");
        }
    }
    let mut answer = started();
    (answer["expires_in"], answer["interval"]) = (json!(86_400), json!(86_400));
    let server = MytokenServer::with_replies(vec![Reply::json(200, &answer)]);
    let http = client();
    let pending = login(&server.server(&http), "https://op.example.org", json!([]), "AT").unwrap();
    assert_eq!((pending.expires_in.as_secs(), pending.interval.as_secs()), (86_400, 60));
}

/// Polls with a simulated sleep. Returns the result, the simulated seconds, the ticks and the number of polls.
fn wait(replies: Vec<Reply>) -> (Result<Granted, Error>, u64, Vec<u128>, usize) {
    let server = MytokenServer::with_replies(replies);
    let http = client();
    let (mut slept, mut ticks) = (Duration::ZERO, Vec::new());
    let deadline = mytoken::Deadline::after(Duration::from_secs(300));
    let result = server.server(&http).wait(
        &pending(),
        deadline,
        &mut |time| {
            slept += time;
            ControlFlow::Continue(())
        },
        &mut |left| ticks.push(left.as_millis().div_ceil(1000)),
    );
    (result, slept.as_secs(), ticks, server.requests().len())
}

#[test]
fn polling_continues_until_the_user_has_confirmed() {
    let pending = || refused(428, "authorization_pending");
    let done = Reply::json(
        200,
        &json!({"mytoken": mytoken(json!({})), "mytoken_type": "token", "mom_id": "m==", "capabilities": ["AT"]}),
    );
    let outage = Reply::new(503, "text/html", "<html>");
    let (result, slept, ticks, polls) = wait(vec![pending(), outage, pending(), done]);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!((slept, polls), (20, 4), "every five seconds");
    assert_eq!(ticks.len(), 20);
    assert_eq!((ticks.first(), ticks.last()), (Some(&60), Some(&41)));
}

#[test]
fn polling_ends_if_the_login_is_declined_expired_or_not_confirmed() {
    let (result, _, _, polls) = wait(vec![refused(401, "access_denied")]);
    assert!(matches!(result, Err(Error::Server(ServerError::Declined))) && polls == 1, "{result:?}");
    let (result, _, _, polls) = wait(vec![refused(401, "expired_token")]);
    assert!(
        matches!(result, Err(Error::Server(ServerError::CodeRefused { expired: true, .. }))) && polls == 1,
        "{result:?}"
    );
    let (result, _, _, polls) = wait(vec![refused(401, "invalid_token")]);
    assert!(
        matches!(result, Err(Error::Server(ServerError::CodeRefused { expired: false, .. }))) && polls == 1,
        "{result:?}"
    );
    let (result, slept, _, polls) = wait(vec![refused(428, "authorization_pending")]);
    assert!(matches!(result, Err(Error::Server(ServerError::LoginNotConfirmed))), "{result:?}");
    assert_eq!((slept, polls), (60, 12));
}

#[test]
fn a_user_can_cancel_the_login() {
    let server = MytokenServer::with_replies(vec![refused(428, "authorization_pending")]);
    let http = client();
    let mut stop = |_| ControlFlow::Break(());
    let result = server.server(&http).wait(&pending(), soon(), &mut stop, &mut |_| ());
    assert!(matches!(result, Err(Error::Server(ServerError::LoginAbandoned))), "{result:?}");
    assert!(server.requests().is_empty());
}

#[test]
fn rights_that_the_user_widened_are_reported() {
    let table = [
        (json!([{"exp": NOW + 9}]), "AT", None),
        (json!([{"exp": NOW + 9, "scope": "a"}]), "AT", None),
        (json!([{"exp": NOW + 10}]), "AT", Some("restriction exp")),
        (json!([]), "AT", Some("restriction exp")),
        (json!([{"exp": NOW + 9}, {"scope": "a"}]), "AT", Some("restrictions")),
        (json!([{"exp": NOW + 9}]), "AT settings", Some("capabilities settings")),
    ];
    for (restrictions, capabilities, expected) in table {
        let answer = json!({"mytoken": mytoken(json!({})), "restrictions": restrictions, "capabilities": capabilities});
        let (result, ..) = wait(vec![Reply::json(200, &answer)]);
        let asked: Vec<Clause> = serde_json::from_value(json!([{"exp": NOW + 9}])).unwrap();
        let broader = result.unwrap().broader_than(&asked, &Capabilities::parse("AT").unwrap());
        assert_eq!(broader.as_deref(), expected, "{answer}");
    }
}
