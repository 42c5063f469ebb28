// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests for access tokens.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod fake;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fake::Reply;
use fake::mytoken_server::{MytokenServer, NOW, access_token, client, mytoken, no_rotation, soon};
use mytoken::InputError;
use mytoken::server::ServerError;
use mytoken::server::{AccessToken, AccessTokenRequest};
use mytoken::{Clock, Error, Kind, Secret};
use serde_json::{Value, json};

const SHORT: &str = "abcdefghjkmnopqrstuvwxyzABCDEFGHJKLMNOPQRSTUVWXYZabcdefghjkmnopq";

fn request_token(server: &MytokenServer, mytoken: &Secret, scope: &str, audience: &str) -> Result<AccessToken, Error> {
    let http = client();
    let request = AccessTokenRequest { mytoken, scope, audience, comment: "" };
    server.server(&http).access_token(&request, &mut no_rotation, soon())
}

fn good_answer() -> Value {
    json!({"access_token": access_token(&json!({"exp": NOW + 3600})), "token_type": "Bearer", "expires_in": 3600,
        "scope": "storage.read", "audience": ["https://se.example.org"]})
}

#[test]
fn the_request_has_scope_and_audience_and_leaves_out_empty_members() {
    let server = MytokenServer::with_replies(vec![Reply::json(200, &good_answer())]);
    let token = mytoken(json!({}));
    request_token(&server, &token, " storage.read  ", "https://se.example.org").unwrap();
    request_token(&server, &token, "", "").unwrap();
    let bodies: Vec<Value> = server.requests().iter().map(fake::Request::json).collect();
    assert_eq!(
        bodies[0],
        json!({"grant_type": "mytoken", "mytoken": token, "scope": "storage.read", "audience": "https://se.example.org"})
    );
    assert_eq!(bodies[1], json!({"grant_type": "mytoken", "mytoken": token}));
    assert_eq!(server.requests()[0].header("authorization"), None, "the token is in the body only");
}

#[test]
fn an_empty_token_is_not_sent() {
    let server = MytokenServer::with_replies(vec![Reply::json(200, &good_answer())]);
    let error = request_token(&server, &Secret::new(" \n"), "", "").unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    assert!(server.requests().is_empty());
}

#[test]
fn granted_scope_and_audience_are_compared_with_the_request() {
    let jwt = access_token(&json!({"exp": NOW + 9}));
    let opaque = json!("opaque-access-token-0123456789");
    let jwt = json!(jwt);
    // token, requested scope, requested audience, granted scope, granted audience, accepted
    let table: &[(&Value, &str, &str, Value, Value, bool)] = &[
        (&jwt, "a b", "x", json!("a b"), json!(["x"]), true),
        (&jwt, "a b", "x", json!("b a"), json!(["x"]), true),
        (&jwt, "", "", json!("a b c"), json!(["y"]), true),
        (&jwt, "a", "x", json!("openid a offline_access"), json!(["x"]), true),
        (&jwt, "a", "x", json!("a b"), json!(["x"]), false), // an unrestricted mytoken gets all scopes
        (&jwt, "a b", "x", json!("a"), json!(["x"]), false),
        (&jwt, "a", "x", json!("A"), json!(["x"]), false),
        (&jwt, "a", "x", json!(""), json!(["x"]), false),
        (&jwt, "a", "x", json!("a"), json!(["y"]), false),
        (&jwt, "a", "x", json!("a"), json!(["x/"]), false),
        (&jwt, "a", "x", json!("a"), json!(["x", "y"]), false),
        (&jwt, "a", "x y", json!("a"), json!(["y", "x"]), true),
        (&jwt, "a", "x y", json!("a"), json!(["x"]), false),
        (&jwt, "a", "x", json!("a"), json!(null), false), // a JWT without audience
        (&opaque, "a", "x", json!("a"), json!(null), true), // the audience is unknown
        (&opaque, "a", "x", json!("a"), json!(["y"]), false),
    ];
    for (token, scope, audience, granted_scope, granted_audience, accepted) in table {
        let answer =
            json!({"access_token": token, "expires_in": 9, "scope": granted_scope, "audience": granted_audience});
        let server = MytokenServer::with_replies(vec![Reply::json(200, &answer)]);
        let result = request_token(&server, &mytoken(json!({})), scope, audience);
        match &result {
            Ok(_) => assert!(accepted, "{scope} {audience} {answer}"),
            Err(error) => {
                assert!(
                    !accepted && matches!(error, Error::Server(ServerError::OtherAccessToken { .. })),
                    "{scope} {audience} {answer}: {error}"
                );
            }
        }
    }
}

/// A clock that the answers of a server move.
static PASSED: AtomicU64 = AtomicU64::new(0);

struct PassingClock;

impl Clock for PassingClock {
    fn now(&self) -> u64 {
        NOW + PASSED.load(Ordering::SeqCst)
    }
}

#[test]
fn the_time_of_the_request_belongs_to_the_life_of_the_token() {
    let server = MytokenServer::with_handler(|_| {
        PASSED.fetch_add(2, Ordering::SeqCst);
        Reply::json(200, &json!({"access_token": "opaque", "token_type": "", "expires_in": 3, "scope": ""}))
    });
    let http = client();
    let mytoken = mytoken(json!({}));
    let request = AccessTokenRequest { mytoken: &mytoken, scope: "", audience: "", comment: "" };
    let server = server.server(&http).with_clock(&PassingClock);
    let got = server.access_token(&request, &mut no_rotation, soon()).unwrap();
    assert_eq!((got.expires_in, got.exp, PassingClock.now()), (Some(3), Some(NOW + 3), NOW + 2));
}

#[test]
fn the_expiry_is_read_from_the_answer_or_from_the_token() {
    let jwt = json!(access_token(&json!({"exp": NOW + 500})));
    let opaque = json!("opaque-access-token-0123456789");
    for (token, expires_in, expected) in [
        (&jwt, json!(3600), Some(3600)),
        (&jwt, json!(0), Some(500)),
        (&jwt, json!(null), Some(500)),
        (&jwt, json!(-5), Some(500)),
        (&jwt, json!(u64::MAX), Some(500)),
        (&jwt, json!(i64::MAX), Some(500)),
        (&jwt, json!(1e300), Some(500)),
        (&jwt, json!(-1e300), Some(500)),
        (&jwt, json!("3600"), Some(500)),
        (&jwt, json!([3600]), Some(500)),
        (&jwt, json!(3600.7), Some(3600)),
        (&opaque, json!(u64::MAX), None),
        (&opaque, json!(60), Some(60)),
        (&opaque, json!(0), None),
    ] {
        let answer = json!({"access_token": token, "token_type": "", "expires_in": expires_in, "scope": "a"});
        let server = MytokenServer::with_replies(vec![Reply::json(200, &answer)]);
        let got = request_token(&server, &mytoken(json!({})), "", "").unwrap();
        assert_eq!((got.expires_in, got.exp), (expected, expected.map(|left| NOW + left)), "{answer}");
    }
}

/// MT-12: the provider is down. The server answers 200, counts the use and rotates the token.
#[test]
fn the_successor_is_stored_even_if_the_provider_is_down() {
    let successor = mytoken(json!({"seq_no": 2, "rotation": {"on_AT": true}}));
    for name in ["token_update", "updated_token"] {
        let answer = json!({"access_token": "", "token_type": "", "expires_in": 0, "scope": "openid",
            name: {"mytoken": successor, "mytoken_type": "token", "rotation": {"on_AT": true}}});
        let server = MytokenServer::with_replies(vec![Reply::json(200, &answer)]);
        let (http, mut kept) = (client(), Vec::new());
        let token = mytoken(json!({"rotation": {"on_AT": true}}));
        let request = AccessTokenRequest { mytoken: &token, scope: "openid", audience: "", comment: "" };
        let mut keep = |new: &Secret| {
            kept.push(new.clone());
            Ok(())
        };
        let error = server.server(&http).access_token(&request, &mut keep, soon()).unwrap_err();
        assert!(
            matches!(error, Error::Server(ServerError::EmptyAccessToken { .. })) && error.is_unavailable(),
            "{error}"
        );
        assert_eq!(kept, std::slice::from_ref(&successor), "{name}");
        assert_eq!(server.requests().len(), 1, "not repeated");
    }
}

#[test]
fn a_successor_is_stored_even_if_the_rest_of_the_answer_is_wrong() {
    let successor = mytoken(json!({"seq_no": 2}));
    let rest = [json!({"access_token": 5}), json!({"scope": []}), json!({"expires_in": "3600"}), json!({})];
    for mut answer in rest {
        answer["token_update"] = json!({"mytoken": successor});
        let server = MytokenServer::with_replies(vec![Reply::json(200, &answer)]);
        let (http, mut kept) = (client(), 0);
        let token = mytoken(json!({"rotation": {"on_AT": true}}));
        let request = AccessTokenRequest { mytoken: &token, scope: "", audience: "", comment: "" };
        let mut keep = |_: &Secret| {
            kept += 1;
            Ok(())
        };
        server.server(&http).access_token(&request, &mut keep, soon()).unwrap_err();
        assert_eq!(kept, 1, "{answer}");
    }
}

#[test]
fn storing_a_successor_is_tried_twice() {
    for (failures, calls, lost) in [(1, 2, false), (2, 2, true)] {
        let mut answer = good_answer();
        answer["token_update"] = json!({"mytoken": mytoken(json!({"seq_no": 2}))});
        let server = MytokenServer::with_replies(vec![Reply::json(200, &answer)]);
        let (http, mut called) = (client(), 0);
        let token = mytoken(json!({"rotation": {"on_AT": true}}));
        let request = AccessTokenRequest { mytoken: &token, scope: "", audience: "", comment: "" };
        let mut keep = |_: &Secret| {
            called += 1;
            if called > failures {
                Ok(())
            } else {
                Err(Error::Input(InputError::InvalidRequest { reason: "disk full".into() }))
            }
        };
        let result = server.server(&http).access_token(&request, &mut keep, soon());
        match result {
            Ok(_) => assert!(!lost),
            Err(Error::Server(ServerError::RotatedTokenNotStored { reason })) => assert!(lost && reason == "disk full"),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(called, calls);
    }
}

#[test]
fn only_requests_without_a_lasting_effect_are_repeated() {
    let fixed = mytoken(json!({}));
    let rotating = mytoken(json!({"rotation": {"on_AT": true}}));
    let short = Secret::new(SHORT);
    let failures = [
        ("500", Reply::json(500, &json!({"error": "internal_server_error"}))),
        ("500 HTML", Reply::new(500, "text/html", "<html>")),
        ("lost answer", Reply::hang_up()),
    ];
    for (what, failure) in failures {
        for (token, requests) in [(&fixed, 2), (&rotating, 1), (&short, 1)] {
            let server = MytokenServer::with_replies(vec![failure.clone(), Reply::json(200, &good_answer())]);
            let result = request_token(&server, token, "", "");
            assert_eq!(result.is_ok(), requests == 2, "{what}: {result:?}");
            assert!(result.err().is_none_or(|error| error.is_unavailable()), "{what}");
            assert_eq!(server.requests().len(), requests, "{what}");
        }
    }
    let server = MytokenServer::with_replies(vec![Reply::new(500, "text/html", "")]);
    request_token(&server, &fixed, "", "").unwrap_err();
    assert_eq!(server.requests().len(), 2, "repeated once");
}

#[test]
fn a_request_is_repeated_after_a_429_within_the_deadline() {
    let limited = |after: &str| Reply::new(429, "text/plain", "Too Many Requests").header("Retry-After", after);
    let rotating = mytoken(json!({"rotation": {"on_AT": true}}));
    let server = MytokenServer::with_replies(vec![limited("1"), Reply::json(200, &good_answer())]);
    let begun = Instant::now();
    request_token(&server, &rotating, "", "").unwrap(); // the first one had no effect, so this is safe with a rotating token
    assert!(begun.elapsed() >= Duration::from_secs(1));

    let server = MytokenServer::with_replies(vec![limited("300")]);
    let begun = Instant::now();
    let error = request_token(&server, &rotating, "", "").unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1), "it does not wait beyond the deadline");
    assert!(
        matches!(error, Error::Server(ServerError::TooManyRequests { retry_after: Some(wait), .. }) if wait.as_secs() == 300),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn each_error_answer_has_its_kind_and_message() {
    let text = |status, body: &str| Reply::new(status, "text/html", body);
    let error = |status, code: &str, description: &str| {
        Reply::json(status, &json!({"error": code, "error_description": description}))
    };
    // answer, kind, part of the message
    let table = [
        (error(401, "invalid_token", ""), Kind::Refused, "get a new one"),
        (error(401, "invalid_token", "token is expired by 1m"), Kind::Refused, "get a new one"),
        (error(403, "insufficient_capabilities", "x"), Kind::Refused, "lacks the capability AT"),
        (error(403, "usage_restricted", "x"), Kind::Refused, "restrictions"),
        (error(400, "oidc_error", "invalid_grant: refresh token revoked"), Kind::Refused, "log in again"),
        (error(400, "oidc_error", "invalid_target: resource"), Kind::Refused, "audience was not asked for at login"),
        (error(400, "oidc_error", "invalid_scope: x"), Kind::Refused, "scope was not granted at login"),
        (error(401, "oidc_error", "invalid_client: x"), Kind::Refused, "administrator"),
        (error(503, "oidc_error", "temporarily_unavailable: x"), Kind::Unavailable, "later"),
        (error(400, "invalid_request", "token not valid"), Kind::Refused, "invalid_request"),
        (error(500, "internal_server_error", "Post: EOF"), Kind::Unavailable, "later"),
        (error(500, "Internal Server Error", "nil pointer"), Kind::Unavailable, "later"),
        (error(555, "oidc_error", "x"), Kind::Unavailable, "later"),
        (error(404, "not_found", "/access"), Kind::Unavailable, "does not exist"),
        (error(400, "<script>\u{1b}", "x"), Kind::Refused, "unknown_error"),
        (text(404, "<html>"), Kind::Unavailable, "does not exist"),
        (text(403, "<html>blocked"), Kind::Unavailable, "proxy"),
        (text(401, "Unauthorized"), Kind::Unavailable, "proxy"),
        (text(502, "<html>"), Kind::Unavailable, "later"),
        (text(200, "<html>"), Kind::Unavailable, "not JSON"),
        (text(200, ""), Kind::Unavailable, "empty body"),
        (text(204, ""), Kind::Unavailable, "unexpected status"),
        (text(308, ""), Kind::Unavailable, "redirect"),
        (error(428, "authorization_pending", ""), Kind::Refused, "authorization_pending"),
        (Reply::json(278, &json!({"url": "https://x"})), Kind::Unavailable, "unexpected status"),
        (Reply::json(200, &json!([])), Kind::Unavailable, "a list"),
        (Reply::json(200, &json!("x")), Kind::Unavailable, "unexpected JSON"),
        (Reply::json(200, &json!({})), Kind::Unavailable, "empty access token"),
        (Reply::json(200, &json!({"access_token": null})), Kind::Unavailable, "empty access token"),
    ];
    for (reply, kind, words) in table {
        let what = format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body));
        let failed = reply.status >= 500;
        let server = MytokenServer::with_replies(vec![reply]);
        let error = request_token(&server, &mytoken(json!({})), "", "").unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(error.to_string().contains(words), "{what}: {error}");
        assert_eq!(server.requests().len(), if failed { 2 } else { 1 }, "{what}");
    }
}
