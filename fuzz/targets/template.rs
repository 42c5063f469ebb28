// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes account templates and the claims that fill them.
#![no_main]

use fuzz::split_input;
use libfuzzer_sys::fuzz_target;
use mytoken_login::{AccountTemplate, MissingClaim};
use serde_json::{Map, Value};

fuzz_target!(|data: &[u8]| {
    let Some([template, claims]) = split_input(data) else { return };
    let Ok(parsed) = AccountTemplate::parse(template) else { return };
    assert_eq!(AccountTemplate::parse(&parsed.to_string()).as_ref(), Ok(&parsed));
    let Ok(claims) = serde_json::from_str::<Map<String, Value>>(claims) else { return };
    match parsed.fill(&claims) {
        Ok(filled) => assert!(!filled.is_empty()),
        Err(MissingClaim(missing)) => assert!(template.contains(&missing)),
    }
});
