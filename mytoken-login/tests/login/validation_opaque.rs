// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access tokens that only their provider understands.

use crate::fake::Reply;
use crate::provider_fixture::Provider;
use crate::support::NOW;
use serde_json::{Value, json};

const TOKEN: &str = "opaque-access-token-0123456789";

const INTROSPECTION: &str = "opaque = true\nvalidation = ['local', 'introspection']\nrequired_scopes = ['openid']";
const USERINFO: &str = "opaque = true\nvalidation = ['userinfo']\nrequire_audience = false";
const BOTH: &str = "opaque = true\nvalidation = ['introspection', 'userinfo']";

/// A good answer of introspection with changes; `null` removes a member.
fn active(changes: &Value) -> Reply {
    let mut all = json!({
        "active": true, "sub": "s-1", "aud": "https://testbed", "scope": "openid", "exp": NOW + 100, "username": "alice"
    });
    for (name, value) in changes.as_object().unwrap() {
        all[name] = value.clone();
        if value.is_null() {
            all.as_object_mut().unwrap().remove(name);
        }
    }
    Reply::json(200, &all)
}

#[test]
fn each_introspection_of_an_opaque_token_has_its_result() {
    for (changes, expected) in [
        (json!({}), "accepted"),
        (json!({"exp": null}), "accepted"),
        (json!({"iat": NOW - 90_000}), "too_old"),
        (json!({"exp": NOW - 60}), "expired"),
        (json!({"nbf": NOW + 60}), "not_yet_valid"),
        (json!({"aud": null}), "audience"),
        (json!({"aud": "https://elsewhere"}), "audience"),
        (json!({"scope": null}), "scope_missing"),
        (json!({"sub": null}), "claim_missing"),
        (json!({"iss": "https://evil.example"}), "claims_differ"),
        (json!({"token_type": "refresh_token"}), "wrong_kind"),
        (json!({"active": false}), "inactive"),
    ] {
        let provider = Provider::new();
        provider.answer(|answers| answers.introspection = active(&changes));
        assert_eq!(provider.reason(INTROSPECTION, TOKEN), expected, "{changes}");
        assert_eq!(provider.paths(), ["/introspect"], "{changes}");
    }
}

#[test]
fn the_end_of_an_opaque_token_is_the_providers_or_assumed() {
    let provider = Provider::new();
    let exp = |lines: &str| provider.check(lines, TOKEN).unwrap().claims.exp;
    provider.answer(|answers| answers.introspection = active(&json!({})));
    assert_eq!(exp(INTROSPECTION), NOW + 100);
    provider.answer(|answers| answers.introspection = active(&json!({"exp": null})));
    assert_eq!(exp(INTROSPECTION), NOW + 600);
    assert_eq!(exp(&format!("{INTROSPECTION}\nopaque_lifetime = '1m'")), NOW + 60);
    assert_eq!(exp(USERINFO), NOW + 600);
    let claims = provider.check(USERINFO, TOKEN).unwrap().claims;
    assert_eq!((claims.iss, claims.sub, claims.scopes.len()), (provider.server.url(""), "s-1".to_owned(), 0));
}

#[test]
fn both_answers_are_about_one_person() {
    let provider = Provider::new();
    provider.answer(|answers| answers.introspection = active(&json!({})));
    let claims = provider.check(BOTH, TOKEN).unwrap().claims;
    assert_eq!((&claims.all["groups"], &claims.all["scope"]), (&json!(["hpc"]), &json!("openid")));
    provider.answer(|answers| answers.userinfo = Reply::json(200, &json!({"sub": "s-2"})));
    assert_eq!(provider.reason(BOTH, TOKEN), "claims_differ");
}

/// Anybody can type such a text.
#[test]
fn texts_at_the_prompt_use_up_the_budget_of_their_address() {
    let mut provider = Provider::new();
    provider.budget.per_address = 3;
    provider.answer(|answers| answers.introspection = Reply::json(200, &json!({"active": false})));
    let reasons: Vec<&str> =
        (0..5).map(|number| provider.reason(INTROSPECTION, &format!("guess-of-a-token-{number}"))).collect();
    assert_eq!(reasons, ["inactive", "inactive", "inactive", "budget_address", "budget_address"]);
    assert_eq!(provider.asked().len(), 3);
}
