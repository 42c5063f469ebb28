// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes answers of userinfo, and what becomes of them beside the claims of the token.
#![no_main]

use fuzz::{ISSUER, NOW, ask_about_token, read_number, split_input};
use libfuzzer_sys::fuzz_target;
use mytoken::http::canned;

fuzz_target!(|data: &[u8]| {
    let Some([status, answer]) = split_input(data) else { return };
    let status = u16::try_from(read_number(status) % 1_000).unwrap_or_default();
    let discovery = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{ISSUER}/k","userinfo_endpoint":"{ISSUER}/u"}}"#);
    canned::answer_with([fuzz::make_answer(200, &discovery), fuzz::make_answer(status, answer)]);
    let own = format!(r#"{{"iss":"{ISSUER}","sub":"s","iat":{NOW},"exp":{}}}"#, NOW + 60);
    match ask_about_token("validation = ['userinfo']\nrequire_audience = false", &own) {
        Ok(validated) => {
            assert_eq!((status, validated.claims.sub.as_str(), validated.claims.exp), (200, "s", NOW + 60));
            // What it says about the token is not used.
            assert!(validated.claims.scopes.is_empty() && validated.claims.audiences.is_empty());
        }
        Err(refusal) => assert!(!refusal.reason().is_empty()),
    }
});
