// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verification of access tokens: what the settings of the issuer change.

use std::time::Duration;

use crate::support::{NOW, TestKeys, access_token, issuer};
use mytoken::{Deadline, Secret};
use mytoken_login::oidc::verify;
use mytoken_wire::clock::FixedClock;
use serde_json::{Value, json};

#[test]
fn the_issuers_settings_apply() {
    let table: &[(&str, Value, &str)] = &[
        ("required_scopes = ['storage.read']", json!({}), "accepted"),
        ("required_scopes = ['storage.read', 'ssh']", json!({}), "scope_missing"),
        ("required_scopes = ['storage.read']", json!({"scope": "storage.read:/x"}), "scope_missing"),
        ("required_scopes = ['ssh', 'b']", json!({"scope": null, "scp": "ssh b"}), "accepted"),
        ("required_scopes = ['ssh', 'b']", json!({"scope": null, "scp": ["ssh", "b"]}), "accepted"),
        ("required_scopes = ['ssh', 'b']", json!({"scope": "b", "scp": ["ssh"]}), "accepted"),
        ("required_scopes = ['ssh']", json!({"scope": null, "scp": ["ssh.all", 1, null]}), "scope_missing"),
        ("required_scopes = ['ssh']", json!({"scope": null, "scp": {"ssh": true}}), "scope_missing"),
        ("require_audience = false", json!({"aud": null}), "accepted"),
        ("", json!({"aud": null, "azp": "https://testbed", "client_id": "https://testbed"}), "audience"),
        ("audience_claims = ['azp']", json!({"azp": "https://testbed", "aud": "account"}), "accepted"),
        ("audience_claims = ['azp']", json!({"aud": "https://testbed"}), "audience"),
        ("audience_claims = ['azp']", json!({"azp": "https://testbed/", "aud": null}), "audience"),
        ("audience_claims = ['client_id']", json!({"client_id": "https://testbed"}), "accepted"),
        ("audience_claims = ['client_id']", json!({"client_id": 7, "azp": "https://testbed"}), "audience"),
        (
            "audience_claims = ['aud', 'resource']",
            json!({"aud": null, "resource": ["x", "https://testbed"]}),
            "accepted",
        ),
        ("audience_claims = ['aud', 'resource']", json!({"aud": "x", "resource": "https://testbed"}), "accepted"),
        ("audience_claims = ['resource']", json!({"resource": null}), "audience"),
        ("", json!({"aud": "https://wlcg.cern.ch/jwt/v1/any"}), "audience"),
        ("accept_any_audience = true", json!({"aud": "https://wlcg.cern.ch/jwt/v1/any"}), "accepted"),
        ("accept_any_audience = true", json!({"aud": ["x", "https://wlcg.cern.ch/jwt/v1/any"]}), "accepted"),
        ("accept_any_audience = true", json!({"aud": "https://wlcg.cern.ch/jwt/v1/any/"}), "audience"),
        ("accept_any_audience = true", json!({"aud": "x", "azp": "https://wlcg.cern.ch/jwt/v1/any"}), "audience"),
        ("accept_any_audience = true", json!({"aud": null}), "audience"),
        ("leeway = '300s'", json!({"exp": NOW - 299}), "accepted"),
        ("leeway = '0s'", json!({"exp": NOW}), "expired"),
        ("max_age = '0s'", json!({"iat": null}), "accepted"),
        ("max_age = '1h'", json!({"iat": NOW - 4_000}), "too_old"),
    ];
    for (lines, changes, expected) in table {
        let (token, issuers) = (Secret::new(access_token(changes)), [issuer(lines)]);
        let deadline = Deadline::after(Duration::from_secs(5));
        let result = verify(&token, &issuers, &TestKeys::default(), &FixedClock(NOW), deadline);
        assert_eq!(result.map_or_else(|rejection| rejection.reason(), |_| "accepted"), *expected, "{lines} {changes}");
    }
}
