// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes a provider's keys (JWKS, JWK), and the choice of a key by a token's header.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fuzz::{ISSUER, Keys, NOW, issuer_settings, short_deadline, split_input};
use libfuzzer_sys::fuzz_target;
use mytoken::Secret;
use mytoken_login::oidc::{KeySet, verify};
use mytoken_wire::clock::FixedClock;

fuzz_target!(|data: &[u8]| {
    let Some([document, header]) = split_input(data) else { return };
    let Ok(set) = KeySet::parse(document.as_bytes()) else { return };
    assert!(!set.is_empty() && set.len() <= 100);
    // The form on disk.
    let kept = serde_json::to_vec(&set).expect("JSON");
    assert_eq!(serde_json::from_slice::<KeySet>(&kept).expect("the form on disk is readable"), set);
    let claims = format!(r#"{{"iss":"{ISSUER}","sub":"s","aud":"https://testbed","iat":{NOW},"exp":{NOW}}}"#);
    let settings = issuer_settings("");
    for algorithm in ["RS256", "ES256", "ES384", "PS256", "EdDSA"] {
        let own = format!(r#"{{"alg":"{algorithm}","kid":"k"}}"#);
        for header in [header, own.as_str(), &own.replace(r#","kid":"k""#, "")] {
            let [header, claims] = [header, claims.as_str()].map(|part| URL_SAFE_NO_PAD.encode(part));
            let signature = URL_SAFE_NO_PAD.encode([7; 64]);
            let token = Secret::new(format!("{header}.{claims}.{signature}"));
            let keys = Keys(set.clone());
            assert!(
                verify(&token, std::slice::from_ref(&settings), &keys, &FixedClock(NOW), short_deadline()).is_err()
            );
        }
    }
});
