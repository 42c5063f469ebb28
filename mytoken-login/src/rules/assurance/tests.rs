// SPDX-License-Identifier: MIT OR Apache-2.0
//! The grammar and the evaluation.

use proptest::prelude::*;

use super::*;

const MFA: &str = "https://refeds.org/profile/mfa";
const CAPPUCCINO: &str = "https://refeds.org/assurance/profile/cappuccino";
const MEDIUM: &str = "https://refeds.org/assurance/IAP/medium";

fn met(expression: &str, held: &[&str]) -> bool {
    AssuranceExpression::parse(expression).unwrap_or_else(|fault| panic!("{expression}: {fault}")).is_met_by(held)
}

/// Most rows are those of `motley_cue` 0.8.8 (`tests/test_assurance.py`), with the prefix of the framework.
#[test]
fn expressions_are_evaluated() {
    let table: &[(&str, &[&str], bool)] = &[
        ("profile/cappuccino", &[CAPPUCCINO], true),
        ("profile/cappuccino", &["profile/cappuccino"], true),
        ("profile/cappuccino", &["https://refeds.org/profile/cappuccino"], false),
        ("profile/cappuccino", &["https://example.org/assurance/profile/cappuccino"], false),
        ("profile/cappuccino", &["HTTPS://refeds.org/assurance/profile/cappuccino"], false),
        ("profile/cappuccino", &["profile/cappuccino/x", "x/profile/cappuccino"], false),
        ("profile/cappuccino", &[], false),
        (CAPPUCCINO, &[CAPPUCCINO], true),
        (CAPPUCCINO, &["profile/cappuccino"], false),
        (MFA, &[MFA], true),
        (MFA, &["mfa"], false),
        ("mfa", &["mfa"], true),
        ("profile/cappuccino & IAP/medium", &[CAPPUCCINO, MEDIUM], true),
        ("profile/cappuccino & IAP/medium", &[CAPPUCCINO], false),
        ("profile/cappuccino & IAP/medium", &[MEDIUM], false),
        ("profile/cappuccino&IAP/medium", &[MEDIUM, CAPPUCCINO], true),
        ("profile/cappuccino | IAP/medium", &[MEDIUM], true),
        ("profile/cappuccino | IAP/medium", &[MFA], false),
        ("a | b & c", &["a"], true),
        ("a | b & c", &["b"], false),
        ("a & b | c", &["c"], true),
        ("a & b | c", &["b"], false),
        ("(a | b) & c", &["a"], false),
        ("(a | b) & c", &["a", "c"], true),
        ("a & (b | (c & d))", &["a", "d", "c"], true),
        ("a & (b | (c & d))", &["a", "d"], false),
        ("((a))", &["a"], true),
        ("+", &["x"], true),
        ("+", &[], false),
        ("*", &[], true),
        ("a & *", &[], false),
    ];
    for (expression, held, expected) in table {
        assert_eq!(met(expression, held), *expected, "{expression}: {held:?}");
    }
}

#[test]
fn malformed_expressions_are_faults() {
    use AssuranceFault::{Empty, End, NotClosed, NotOpened, OperatorMissing, TooDeep, ValueMissing};
    for (text, fault) in [
        ("", Empty),
        (" \t", Empty),
        ("a & (b", NotClosed),
        ("a b )", OperatorMissing("b".into())),
        ("a (b)", OperatorMissing("(".into())),
        ("(a b)", OperatorMissing("b".into())),
        ("a )", NotOpened),
        (")", ValueMissing(")".into())),
        ("()", ValueMissing(")".into())),
        ("(a |", End),
        ("a &", End),
        ("& a", ValueMissing("&".into())),
        ("a && b", ValueMissing("&".into())),
        ("a | | b", ValueMissing("|".into())),
        ("(", End),
    ] {
        assert_eq!(AssuranceExpression::parse(text), Err(fault), "{text}");
    }
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(AssuranceExpression::parse(&nested(DEPTH_LIMIT)).is_ok());
    assert_eq!(AssuranceExpression::parse(&nested(DEPTH_LIMIT + 1)), Err(TooDeep));
    assert_eq!(AssuranceExpression::parse(&"(".repeat(100_000)), Err(TooDeep));
}

const NAMES: [&str; 3] = ["IAP/low", "IAP/medium", "ID/unique"];

/// An expression, and what it must give for values of which bit N says that NAMES[N] is held.
fn expression() -> impl Strategy<Value = (String, [bool; 8])> {
    let leaf = (0..NAMES.len()).prop_map(|name| {
        let holds = std::array::from_fn(|held: usize| (held >> name) & 1 == 1);
        (NAMES[name].to_owned(), holds)
    });
    leaf.prop_recursive(4, 24, 2, |inner| {
        (inner.clone(), inner, any::<bool>()).prop_map(|((left, a), (right, b), and)| {
            let holds = std::array::from_fn(|held: usize| if and { a[held] && b[held] } else { a[held] || b[held] });
            (format!("({left}){}({right})", if and { "&" } else { " | " }), holds)
        })
    })
}

proptest! {
    #[test]
    fn an_expression_means_what_it_is_built_of((text, expected) in expression(), prefixed in any::<bool>()) {
        let parsed = AssuranceExpression::parse(&text).unwrap();
        for (held, expected) in expected.into_iter().enumerate() {
            let held: Vec<String> = NAMES
                .iter()
                .enumerate()
                .filter(|(name, _)| (held >> *name) & 1 == 1)
                .map(|(_, name)| if prefixed { format!("{PREFIX}{name}") } else { (*name).to_owned() })
                .collect();
            let held: Vec<&str> = held.iter().map(String::as_str).collect();
            prop_assert_eq!(parsed.is_met_by(&held), expected, "{} with {:?}", text, held);
        }
    }

    /// More values never close what fewer open.
    #[test]
    fn parsing_never_panics_and_the_evaluation_is_monotonic(
        text in "[ab+*&|() ]{0,40}|\\PC{0,40}",
        held in proptest::collection::vec("[abc]", 0..4),
    ) {
        if let Ok(parsed) = AssuranceExpression::parse(&text) {
            prop_assert_eq!(AssuranceExpression::parse(&parsed.to_string()), Ok(parsed.clone()));
            let held: Vec<&str> = held.iter().map(String::as_str).collect();
            for count in 0..held.len() {
                prop_assert!(!parsed.is_met_by(&held[..count]) || parsed.is_met_by(&held));
            }
        }
    }
}
