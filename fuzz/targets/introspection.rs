// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes answers of introspection, and what becomes of them beside the claims of the token.
#![no_main]

use fuzz::{ISSUER, NOW, ask_about_token, read_number, split_input};
use libfuzzer_sys::fuzz_target;
use mytoken::http::canned;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some([status, answer]) = split_input(data) else { return };
    let status = u16::try_from(read_number(status) % 1_000).unwrap_or_default();
    let discovery = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{ISSUER}/k","introspection_endpoint":"{ISSUER}/i"}}"#);
    canned::answer_with([fuzz::make_answer(200, &discovery), fuzz::make_answer(status, answer)]);
    let own = format!(r#"{{"iss":"{ISSUER}","sub":"s","iat":{NOW},"exp":{},"aud":"https://testbed"}}"#, NOW + 60);
    match ask_about_token("validation = ['introspection']\nrequired_scopes = ['openid']", &own) {
        Ok(validated) => {
            let said: Value = serde_json::from_str(answer).expect("JSON");
            assert_eq!((status, said.get("active")), (200, Some(&Value::Bool(true))));
            assert_eq!((validated.claims.sub.as_str(), validated.claims.exp), ("s", NOW + 60));
            assert_eq!(validated.claims.audiences, ["https://testbed"]);
            assert!(validated.claims.scopes.iter().any(|scope| scope == "openid"));
        }
        Err(refusal) => assert!(!refusal.reason().is_empty()),
    }
});
