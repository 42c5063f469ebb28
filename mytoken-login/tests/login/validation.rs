// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access tokens whose provider is asked: by userinfo, by introspection, and together with the check of the signature.

use std::time::{Duration, Instant};

use crate::fake::{Fake, Reply};
use crate::provider_fixture::{Answers, Provider};
use crate::support::{NOW, TestKeys, access_token, b64};
use mytoken::config::{IssuerSettings, ValidationMode};
use mytoken::http::{HttpSettings, LazyClient, Roots};
use mytoken::{Deadline, Secret};
use mytoken_login::RefusalClass;
use mytoken_login::budget::Allowance;
use mytoken_login::validation::{PresentedToken, ProviderRequests, Userinfo, Validated, Validation};
use mytoken_wire::clock::FixedClock;
use serde_json::{Value, json};

const LOCAL_AND_USERINFO: &str = "validation = ['userinfo', 'local']";
const LOCAL_AND_INTROSPECTION: &str = "validation = ['local', 'introspection']";
const ALL: &str = "validation = ['local', 'userinfo', 'introspection']";

#[test]
fn each_answer_of_userinfo_has_its_result() {
    let html = Reply::new(200, "text/html", "<html>");
    let signed = Reply::new(200, "application/jwt", "a.b.c");
    let twice = Reply::new(200, "application/json", r#"{"sub":"s-1","sub":"s-2"}"#);
    let huge = Reply::new(200, "application/json", "x".repeat(70 * 1024));
    let redirect = Reply::new(302, "text/plain", "").header("Location", "https://evil.example/");
    for (answer, expected) in [
        (Reply::json(200, &json!({"sub": "s-1"})), "accepted"),
        (Reply::json(200, &json!({"sub": "s-2"})), "claims_differ"),
        (Reply::json(200, &json!({"sub": "S-1"})), "claims_differ"),
        (Reply::json(200, &json!({"sub": "s-1 "})), "claims_differ"),
        (Reply::json(200, &json!({"groups": ["hpc"]})), "claims_differ"),
        (Reply::json(200, &json!(["s-1"])), "validation_unavailable"),
        (Reply::json(401, &json!({"error": "invalid_token"})), "inactive"),
        (Reply::json(403, &json!({"error": "insufficient_scope"})), "validation_refused"),
        (Reply::json(404, &json!({})), "validation_unavailable"),
        // By its text or its length a token can cause these.
        (Reply::json(413, &json!({})), "validation_refused"),
        (Reply::json(414, &json!({})), "validation_refused"),
        (Reply::json(431, &json!({})), "validation_refused"),
        (Reply::json(429, &json!({})), "server_limit"),
        (Reply::json(500, &json!({})), "validation_unavailable"),
        (Reply::hang_up(), "validation_unavailable"),
        (redirect, "validation_refused"),
        (html, "validation_unavailable"),
        (signed, "validation_unavailable"),
        (twice, "validation_unavailable"),
        (huge, "validation_unavailable"),
    ] {
        let provider = Provider::new();
        let about = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body[..answer.body.len().min(40)]));
        provider.answer(|answers| answers.userinfo = answer);
        assert_eq!(provider.reason(LOCAL_AND_USERINFO, &provider.token(&json!({}))), expected, "{about}");
        assert_eq!(provider.paths(), ["/userinfo"], "{about}");
    }
}

#[test]
fn each_answer_of_introspection_has_its_result() {
    let active = |changes: Value| {
        let mut all = json!({"active": true});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Reply::json(200, &all)
    };
    for (answer, expected) in [
        (active(json!({})), "accepted"),
        (
            active(json!({"sub": "s-1", "exp": NOW + 3_600, "aud": ["https://testbed", "https://elsewhere"]})),
            "accepted",
        ),
        (active(json!({"token_type": "Bearer"})), "accepted"),
        (active(json!({"sub": "s-2"})), "claims_differ"),
        (active(json!({"exp": NOW + 3_601})), "claims_differ"),
        (active(json!({"aud": "https://testbed"})), "claims_differ"),
        (active(json!({"iss": "https://evil.example"})), "claims_differ"),
        (active(json!({"token_type": "refresh_token"})), "wrong_kind"),
        (active(json!({"typ": "Refresh"})), "wrong_kind"),
        (active(json!({"token_type": "DPoP"})), "wrong_kind"),
        (active(json!({"cnf": {"x5t#S256": "x"}})), "wrong_kind"),
        (Reply::json(200, &json!({"active": false})), "inactive"),
        (Reply::json(200, &json!({"active": "true"})), "validation_unavailable"),
        (Reply::json(200, &json!({"sub": "s-1"})), "validation_unavailable"),
        (Reply::json(401, &json!({"error": "invalid_client"})), "validation_unavailable"),
        (Reply::json(400, &json!({"error": "invalid_request"})), "validation_refused"),
        (Reply::json(413, &json!({})), "validation_refused"),
        (Reply::json(503, &json!({})), "validation_unavailable"),
        (Reply::json(429, &json!({})), "server_limit"),
    ] {
        let provider = Provider::new();
        let about = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body));
        provider.answer(|answers| answers.introspection = answer);
        assert_eq!(provider.reason(LOCAL_AND_INTROSPECTION, &provider.token(&json!({}))), expected, "{about}");
        assert_eq!(provider.paths(), ["/introspect"], "{about}");
    }
}

#[test]
fn what_the_provider_tells_is_added_and_replaces_nothing() {
    let provider = Provider::new();
    let Validated { claims, asked } = provider.check(ALL, &provider.token(&json!({}))).unwrap();
    assert_eq!(asked, [ValidationMode::Introspection, ValidationMode::Userinfo]);
    assert_eq!(provider.paths(), ["/introspect", "/userinfo"]);
    assert_eq!((claims.sub.as_str(), claims.exp, claims.signed.as_str()), ("s-1", NOW + 3_600, "ES256, key ec"));
    assert_eq!((&claims.all["groups"], &claims.all["username"]), (&json!(["hpc"]), &json!("alice")));
    assert_eq!(claims.scopes, ["openid", "profile", "storage.read"], "not the scopes in userinfo");
    assert_eq!(claims.all["preferred_username"], "alice");
    let bearer = provider.asked()[1].header("authorization").unwrap().to_owned();
    assert!(bearer.starts_with("Bearer ey"), "{bearer}");
}

#[test]
fn without_the_check_of_the_signature_the_answer_decides() {
    let provider = Provider::new();
    let lines = "validation = ['introspection']";
    let whole = json!({
        "active": true, "sub": "s-1", "aud": ["https://elsewhere", "https://testbed"], "scope": "openid", "preferred_username": "bob"
    });
    provider.answer(|answers| answers.introspection = Reply::json(200, &whole));
    let token = provider.token(&json!({"groups": ["root"]}));
    let Validated { claims, .. } = provider.check(lines, &token).unwrap();
    assert_eq!((claims.signed.as_str(), claims.exp), ("", NOW + 3_600));
    assert_eq!(claims.all["preferred_username"], "bob", "the claim of the answer, not the unverified one");
    assert!(!claims.all.contains_key("groups"), "{:?}", claims.all);
    provider.answer(|answers| answers.introspection = Reply::json(200, &json!({"active": true, "sub": "s-1"})));
    assert_eq!(
        provider.reason(lines, &provider.token(&json!({"jti": "2"}))),
        "audience",
        "unverified ones do not count"
    );

    let lines = "validation = ['userinfo']\nrequire_audience = false";
    let Validated { claims, .. } = provider.check(lines, &provider.token(&json!({}))).unwrap();
    assert_eq!((claims.exp, claims.scopes.len()), (NOW + 3_600, 0));
    assert_eq!(provider.reason(lines, &provider.token(&json!({"sub": "s-2"}))), "claims_differ");
}

/// Anybody can invent tokens; they must cost the provider nothing.
#[test]
fn a_token_that_would_be_refused_anyway_causes_no_request() {
    let provider = Provider::new();
    let forged = format!("{}.{}", provider.token(&json!({})).rsplit_once('.').unwrap().0, b64([7; 64]));
    for (lines, token, expected) in [
        (ALL, forged, "signature"),
        (ALL, provider.token(&json!({"exp": NOW - 60})), "expired"),
        (ALL, provider.token(&json!({"aud": "x"})), "audience"),
        (ALL, provider.token(&json!({"nonce": "n", "typ": "ID"})), "wrong_kind"),
        ("validation = ['introspection']", provider.token(&json!({"exp": NOW - 60})), "expired"),
        ("validation = ['introspection']", provider.token(&json!({"aud": "x"})), "audience"),
        ("validation = ['introspection']", provider.token(&json!({"typ": "ID"})), "wrong_kind"),
        ("validation = ['introspection']", access_token(&json!({"iss": "https://evil.example"})), "issuer_unknown"),
        (
            "validation = ['introspection']\nrequired_scopes = ['ssh']",
            provider.token(&json!({"scope": "openid"})),
            "scope_missing",
        ),
    ] {
        assert_eq!(provider.reason(lines, &token), expected, "{lines}");
    }
    assert_eq!(provider.server.requests().len(), 0);
}

#[test]
fn requests_are_counted_for_who_entered_the_token() {
    let mut provider = Provider::new();
    provider.budget.per_address = 1;
    provider.answer(|answers| answers.userinfo = Reply::json(401, &json!({})));
    let token = |number: usize| provider.token(&json!({"jti": number.to_string()}));
    // Each signature is another one, so this token is made once.
    let first = token(1);
    assert_eq!(provider.reason(LOCAL_AND_USERINFO, &first), "inactive");
    assert_eq!(provider.reason(LOCAL_AND_USERINFO, &first), "repeated", "in the same connection");
    assert_eq!(provider.reason(LOCAL_AND_USERINFO, &token(2)), "budget_address");
    assert_eq!(provider.asked().len(), 1);
    // What other people entered must not refuse a token that the mytoken server issued to this login.
    provider.answer(|answers| answers.userinfo = Reply::json(200, &json!({"sub": "s-1"})));
    provider.login(LOCAL_AND_USERINFO, &token(3), false, Duration::from_secs(60)).unwrap();
    // An accepted login costs nothing.
    let mut provider = Provider::new();
    provider.budget.per_address = 2;
    for number in 0..4 {
        provider.check(ALL, &provider.token(&json!({"jti": number.to_string()}))).unwrap();
    }
    assert_eq!(provider.asked().len(), 8);
}

#[test]
fn a_silent_provider_delays_one_login_only() {
    let provider = Provider::new();
    let silence = |answers: &mut Answers| answers.introspection.silence = Duration::from_secs(30);
    provider.answer(silence);
    let login = |number: usize, time| {
        let token = provider.token(&json!({"jti": number.to_string()}));
        provider.login(LOCAL_AND_INTROSPECTION, &token, true, time).unwrap_err()
    };
    let refusal = login(1, Duration::from_secs(2));
    assert_eq!((refusal.reason(), refusal.class()), ("validation_unavailable", RefusalClass::Unavailable));
    let (asked, begun) = (provider.asked().len(), Instant::now());
    let refusal = login(2, Duration::from_secs(60));
    assert_eq!((refusal.reason(), provider.asked().len()), ("validation_unavailable", asked));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // Logins whose tokens are checked here only go on.
    let token = provider.token(&json!({}));
    provider.check("", &token).unwrap();
}

#[test]
fn an_endpoint_must_exist_and_be_at_the_providers_host() {
    let provider = Provider::new();
    let elsewhere = Fake::plain(|request| {
        let url = format!("http://{}", request.header("host").unwrap_or_default());
        let userinfo = if request.path.starts_with("/a/") { json!("http://localhost:1/userinfo") } else { Value::Null };
        let base = if request.path.starts_with("/a/") { "a" } else { "b" };
        Reply::json(200, &json!({"issuer": format!("{url}/{base}"), "jwks_uri": url, "userinfo_endpoint": userinfo}))
    });
    for (base, said) in [("a", "endpoint_hosts = [\"localhost\"]"), ("b", "has no userinfo_endpoint")] {
        let url = elsewhere.url(&format!("/{base}"));
        let token = access_token(&json!({"iss": url}));
        let settings =
            HttpSettings { roots: Roots::File(provider.path("roots")), loopback_http: true, ..HttpSettings::default() };
        let (http, clock, allowance) =
            (LazyClient::new(&settings), FixedClock(NOW), Allowance::uncounted(&provider.budget));
        let requests = ProviderRequests::new(&http, None, &clock, &allowance);
        let validation = Validation {
            issuers: &[IssuerSettings { url, ..crate::support::issuer(LOCAL_AND_USERINFO) }],
            keys: &TestKeys::default(),
            userinfo: &Userinfo(&requests),
            introspection: &crate::support::NotAsked,
            clock: &clock,
        };
        let token = Secret::new(token);
        let presented = PresentedToken { token: &token, entered: true, issuer: None };
        let refusal = validation.check(presented, Deadline::after(Duration::from_secs(60))).unwrap_err();
        assert!(refusal.detail().unwrap().contains(said), "{refusal:?}");
    }
}
