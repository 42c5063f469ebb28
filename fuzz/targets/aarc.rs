// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes AARC entitlements: one that is held and one that is required.
#![no_main]

use fuzz::split_input;
use libfuzzer_sys::fuzz_target;
use mytoken_login::{AarcEntitlement, AarcForm};

fuzz_target!(|data: &[u8]| {
    let Some([held, required]) = split_input(data) else { return };
    for form in [AarcForm::G002, AarcForm::G069] {
        let Ok(held_read) = AarcEntitlement::parse(held, form) else { continue };
        assert!(held_read.satisfies(&held_read));
        // The authority means nothing.
        if !held.contains('#') && !held.contains('%') {
            assert_eq!(AarcEntitlement::parse(&format!("{held}#x"), form).as_ref(), Ok(&held_read));
        }
        let Ok(required) = AarcEntitlement::parse(required, form) else { continue };
        if held_read.satisfies(&required) && required.satisfies(&held_read) {
            assert_eq!(held_read, required);
        }
    }
});
