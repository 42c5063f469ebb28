// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access tokens that OpenSSL 3.0.19 signed, one for each algorithm that a configuration can allow. So the verification is compared with
//! another implementation. The keys were generated for this test; the private ones do not exist any more.
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::config::IssuerSettings;
use mytoken::{Deadline, Secret};
use mytoken_login::oidc::{KeyFreshness, KeySet, KeySource, KeysUnavailable, verify};
use mytoken_wire::clock::FixedClock;
use serde::Deserialize;
use serde_json::{Value, json};

/// A time at which the tokens are valid.
const NOW: u64 = 1_800_000_000;

#[derive(Deserialize)]
struct Vectors {
    keys: Value,
    claims: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    alg: String,
    kid: String,
    signature: String,
}

struct Published(Value);

impl KeySource for Published {
    fn keys(&self, _: &IssuerSettings, _: KeyFreshness, _: Deadline) -> Result<KeySet, KeysUnavailable> {
        KeySet::parse(json!({"keys": self.0}).to_string().as_bytes())
            .map_err(|error| KeysUnavailable { reason: error.to_string() })
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("access_token_signatures.json")).unwrap()
}

/// The reason of the refusal, or "accepted".
fn result(keys: &Value, case: &Signature, claims: &str, signature: &str) -> &'static str {
    let header = format!(r#"{{"alg":"{}","typ":"at+jwt","kid":"{}"}}"#, case.alg, case.kid);
    let token = format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let issuer: IssuerSettings = toml::from_str(
        "name = 'op'\nurl = 'https://op.example.org'\naudiences = ['https://testbed']\n\
         algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA']",
    )
    .unwrap();
    let deadline = Deadline::after(Duration::from_secs(5));
    let verdict = verify(&Secret::new(token), &[issuer], &Published(keys.clone()), &FixedClock(NOW), deadline);
    verdict.map_or_else(|rejection| rejection.reason(), |_| "accepted")
}

#[test]
fn every_algorithm_agrees_with_openssl() {
    let Vectors { keys, claims, signatures } = vectors();
    assert_eq!(signatures.len(), 9);
    for case in &signatures {
        assert_eq!(result(&keys, case, &claims, &case.signature), "accepted", "{}", case.alg);
    }
}

#[test]
fn a_changed_token_or_signature_is_refused() {
    let Vectors { keys, claims, signatures } = vectors();
    for case in &signatures {
        let refused = |claims: &str, signature: &str, change: &str| {
            assert_eq!(result(&keys, case, claims, signature), "signature", "{}: {change}", case.alg);
        };
        refused(&claims.replace("s-1", "s-2"), &case.signature, "another subject");
        let bytes = URL_SAFE_NO_PAD.decode(&case.signature).unwrap();
        for position in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            if let Some(byte) = changed.get_mut(position) {
                *byte ^= 1;
            }
            refused(&claims, &URL_SAFE_NO_PAD.encode(changed), "one bit");
        }
        let (shorter, longer) = (bytes.split_last().unwrap().1, [&bytes[..], &[0]].concat());
        refused(&claims, &URL_SAFE_NO_PAD.encode(shorter), "one byte less");
        refused(&claims, &URL_SAFE_NO_PAD.encode(longer), "one byte more");
        refused(&claims, "", "none");
        refused(&claims, &format!("{}=", case.signature), "padded base64");
        refused(&claims, &format!("{}!", case.signature), "not base64");
    }
}
