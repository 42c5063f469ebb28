// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the recognition of a token by its form, and the claims of a text in the form of a mytoken.
#![no_main]

use fuzz::NOW;
use libfuzzer_sys::fuzz_target;
use mytoken::Secret;
use mytoken::token::{Presented, classify, may_be_mytoken, unverified_claims};

fuzz_target!(|text: &str| {
    let secret = Secret::new(text);
    let presented = classify(&secret);
    let claims = unverified_claims(&secret);
    assert_eq!(claims.is_some(), matches!(presented, Presented::Mytoken(_)));
    if may_be_mytoken(&secret, NOW) {
        assert!(claims.is_some(), "{presented:?}");
    }
    if !matches!(presented, Presented::Garbage(_)) {
        assert!(secret.expose().bytes().all(|byte| byte.is_ascii_graphic()));
    }
    if let Some(claims) = claims {
        let claims = claims.unverified();
        let _ = (claims.rotates(), claims.capabilities.has("AT"), claims.capabilities.within(&claims.capabilities));
    }
});
