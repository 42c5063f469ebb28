// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes assurance expressions: one, and the values that somebody has, one in each line.
#![no_main]

use fuzz::split_input;
use libfuzzer_sys::fuzz_target;
use mytoken_login::AssuranceExpression;

fuzz_target!(|data: &[u8]| {
    let Some([text, held]) = split_input(data) else { return };
    let Ok(expression) = AssuranceExpression::parse(text) else { return };
    assert_eq!(AssuranceExpression::parse(&expression.to_string()).as_ref(), Ok(&expression));
    let held: Vec<&str> = held.lines().collect();
    let met = expression.is_met_by(&held);
    // More values never close what fewer open.
    assert!(!met || expression.is_met_by(&[held.as_slice(), &["more"]].concat()));
    assert!(!expression.is_met_by(&[]) || met);
});
