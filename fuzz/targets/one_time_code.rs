// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes one-time codes as somebody types them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mytokend::broker::identity::codes::{bytes_of, written};

fuzz_target!(|data: &[u8]| {
    let Ok(typed) = std::str::from_utf8(data) else { return };
    let digits: String =
        typed.chars().filter(char::is_ascii_hexdigit).map(|digit| digit.to_ascii_lowercase()).collect();
    let is_code = |c: char| c.is_ascii_hexdigit() || c == '-' || c.is_ascii_whitespace();
    let Some(bytes) = bytes_of(typed) else {
        let is_good = typed.len() <= 64 && digits.len() == 32 && typed.chars().all(is_code);
        assert!(!is_good, "{typed:?}");
        return;
    };
    let shown = written(&bytes);
    assert_eq!(shown.replace('-', ""), digits);
    assert_eq!(bytes_of(&shown).as_deref(), Some(&*bytes));
});
