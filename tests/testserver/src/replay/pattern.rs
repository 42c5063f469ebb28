// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares answers with the patterns of the captures.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha3::{Digest, Sha3_256};

use super::vars::{Vars, number, variable_name};

/// Tolerance of times in seconds, for clocks that differ and for slow machines.
const TOLERANCE: i64 = 10;

/// Compares an answer with the expected one and saves the variables of its patterns. The error names the first
/// difference.
pub(super) fn compare(
    expected: &Value,
    got: &Value,
    unordered: &[String],
    now: i64,
    vars: &mut Vars,
) -> Result<(), String> {
    Matcher { unordered, now }.values(expected, got, "", vars)
}

struct Matcher<'a> {
    unordered: &'a [String],
    now: i64,
}

impl Matcher<'_> {
    fn values(&self, expected: &Value, got: &Value, path: &str, vars: &mut Vars) -> Result<(), String> {
        match (expected, got) {
            (Value::Object(expected), Value::Object(got)) => {
                let keys: BTreeSet<&String> = expected.keys().chain(got.keys()).collect();
                for key in keys {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    match (expected.get(key), got.get(key)) {
                        (Some(expected), Some(got)) => self.values(expected, got, &path, vars)?,
                        (Some(expected), None) => {
                            return Err(format!("{path}: missing, expected {}", shortened(expected)));
                        }
                        (_, got) => {
                            return Err(format!(
                                "{path}: not expected, got {}",
                                shortened(got.unwrap_or(&Value::Null))
                            ));
                        }
                    }
                }
                Ok(())
            }
            (Value::Array(expected), Value::Array(got)) => {
                if expected.len() != got.len() {
                    let (wanted, found) = (expected.len(), got.len());
                    return Err(format!(
                        "{path}: expected {wanted} entries, got {found}: {}",
                        shortened(&got.clone().into())
                    ));
                }
                if self.unordered.iter().any(|list| list == path) {
                    return self.in_any_order(expected, got, path, vars);
                }
                for (index, (expected, got)) in expected.iter().zip(got).enumerate() {
                    self.values(expected, got, &format!("{path}[{index}]"), vars)?;
                }
                Ok(())
            }
            (Value::String(expected), got) => {
                self.pattern(expected, got, vars).map_err(|reason| format!("{path}: {reason}"))
            }
            (expected, got) if expected == got => Ok(()),
            (expected, got) => Err(format!("{path}: expected {}, got {}", shortened(expected), shortened(got))),
        }
    }

    /// Finds a match for each expected entry. Variables of a failed attempt are discarded.
    fn in_any_order(&self, expected: &[Value], got: &[Value], path: &str, vars: &mut Vars) -> Result<(), String> {
        let Some((first, others)) = expected.split_first() else {
            return Ok(());
        };
        let mut difference = String::new();
        for (index, candidate) in got.iter().enumerate() {
            let mut tried = vars.clone();
            let mut left = got.to_vec();
            left.remove(index);
            let result = self
                .values(first, candidate, &format!("{path}[in any order]"), &mut tried)
                .and_then(|()| self.in_any_order(others, &left, path, &mut tried));
            match result {
                Ok(()) => {
                    *vars = tried;
                    return Ok(());
                }
                Err(reason) => difference = reason,
            }
        }
        Err(difference)
    }

    fn pattern(&self, expected: &str, got: &Value, vars: &mut Vars) -> Result<(), String> {
        let mismatch = || format!("expected {expected}, got {}", shortened(got));
        if expected == "@any" {
            return Ok(());
        }
        let (kind, argument) = expected.strip_prefix('@').and_then(|rest| rest.split_once(':')).unwrap_or_default();
        if kind == "unix" {
            let offset = number(argument)?;
            let range = vars.t0 + offset - TOLERANCE - vars.slow..=self.now + offset + TOLERANCE;
            return got
                .as_i64()
                .filter(|time| range.contains(time))
                .map(|_| ())
                .ok_or_else(|| format!("expected {expected} ({}), got {}", vars.t0 + offset, shortened(got)));
        }
        if kind == "about" {
            let middle = number(argument)?;
            let near = got.as_i64().is_some_and(|number| (middle - TOLERANCE..=middle + TOLERANCE).contains(&number));
            return if near { Ok(()) } else { Err(mismatch()) };
        }
        let text = got.as_str().ok_or_else(mismatch)?;
        let fits = match kind {
            "jwt" => is_jwt(text),
            "short" => text.len() == 64 && text.chars().all(is_letter),
            "code" => text.len() == 8 && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')),
            "momid" => is_momid(text),
            "uuid" => is_uuid(text),
            "opaque" => text.chars().count() >= 16,
            "consent_uri" => text
                .strip_prefix(&format!("{}/c/", vars.get("issuer")?))
                .is_some_and(|code| code.len() == 8 && code.chars().all(is_letter)),
            "url" => url::Url::parse(text).is_ok(),
            "sub" => {
                let user = vars.text(argument)?;
                let op = vars.get("op")?;
                let subject = STANDARD.encode(Sha3_256::digest(format!("{user}@{op}")));
                return if text == subject { Ok(()) } else { Err(mismatch()) };
            }
            "contains" => {
                let part = vars.fill(argument)?;
                return if text.contains(&part) { Ok(()) } else { Err(mismatch()) };
            }
            _ => {
                let literal = match variable_name(expected) {
                    Some(name) => vars.get(name)?.to_owned(),
                    None => vars.fill(expected)?,
                };
                let differs = || format!("expected {}, got {}", shortened(&literal.clone().into()), shortened(got));
                return if text == literal { Ok(()) } else { Err(differs()) };
            }
        };
        if !fits {
            return Err(mismatch());
        }
        vars.set(argument, text);
        if kind == "url" {
            if let Some(state) = query(text).into_iter().find(|(key, _)| key == "state") {
                vars.set(&format!("{argument}_state"), state.1);
            }
        }
        Ok(())
    }
}

/// The pairs of a URL's query.
pub(super) fn query(url: &str) -> Vec<(String, String)> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    crate::form::decode(query.as_bytes())
}

/// A letter of short tokens, transfer and consent codes.
fn is_letter(letter: char) -> bool {
    letter.is_ascii_alphabetic() && letter != 'l' && letter != 'I'
}

fn is_jwt(text: &str) -> bool {
    let base64url =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    text.starts_with("eyJ") && text.split('.').count() == 3 && text.split('.').all(base64url)
}

fn is_momid(text: &str) -> bool {
    text.strip_suffix("==").is_some_and(|body| {
        body.len() == 86 && body.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/'))
    })
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f' | '-'))
}

/// A value, shortened for messages.
pub(super) fn shortened(value: &Value) -> String {
    const LONGEST: usize = 160;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vars() -> Vars {
        let mut vars = Vars::new(1000, 0);
        vars.set("issuer", "http://h");
        vars.set("op", "https://op.example.org");
        vars.set("mt", "TOKEN");
        vars
    }

    fn fits(expected: &Value, got: &Value) -> bool {
        compare(expected, got, &[], 1005, &mut vars()).is_ok()
    }

    #[test]
    fn each_pattern_matches_only_its_form() {
        let short = "a".repeat(64);
        let mom_id = format!("{}==", "A".repeat(86));
        for (expected, got, outcome) in [
            ("@jwt:n", json!("eyJh.e30.AA"), true),
            ("@jwt:n", json!("eyJh.e30"), false),
            ("@jwt:n", json!("eyJh.e30."), false),
            ("@short:n", json!(short), true),
            ("@short:n", json!(short.replace('a', "l")), false),
            ("@code:n", json!("ab-_0129"), true),
            ("@code:n", json!("ab-_012"), false),
            ("@momid:n", json!(mom_id), true),
            ("@momid:n", json!("AAAA=="), false),
            ("@uuid:n", json!("3f2b7c1e-5d4a-4c8e-9a10-77b1c0de4242"), true),
            ("@uuid:n", json!("3F2B7C1E-5d4a-4c8e-9a10-77b1c0de4242"), false),
            ("@opaque:n", json!("0123456789abcdef"), true),
            ("@opaque:n", json!("0123456789abcde"), false),
            ("@consent_uri:n", json!("http://h/c/AbCdEfGh"), true),
            ("@consent_uri:n", json!("http://x/c/AbCdEfGh"), false),
            ("@url:n", json!("http://h/a?state=1"), true),
            ("@url:n", json!("a b"), false),
            ("@sub:alice-0001", json!("er/7Lx8gFirVNfzUiaAJ+7qSVAGvrpl6I3uIrNjB/H0="), true),
            ("@sub:bob", json!("er/7Lx8gFirVNfzUiaAJ+7qSVAGvrpl6I3uIrNjB/H0="), false),
            ("@unix:+100", json!(1090), true),
            ("@unix:+100", json!(1115), true),
            ("@unix:+100", json!(1116), false),
            ("@unix:+100", json!(1089), false),
            ("@unix:+100", json!("1100"), false),
            ("@about:300", json!(290), true),
            ("@about:300", json!(289), false),
            ("@contains:is ${mt} by", json!("it is TOKEN by 5"), true),
            ("@contains:nothing", json!("it"), false),
            ("$mt", json!("TOKEN"), true),
            ("$mt", json!("$mt"), false),
            ("${issuer}/redirect", json!("http://h/redirect"), true),
            ("@any", json!(null), true),
            ("@nothing known", json!("@nothing known"), true),
            ("plain", json!("plain"), true),
            ("5", json!(5), false),
        ] {
            assert_eq!(fits(&json!(expected), &got), outcome, "{expected} {got}");
        }
    }

    #[test]
    fn missing_and_extra_members_are_differences() {
        assert!(fits(&json!({"a": 1, "b": null}), &json!({"b": null, "a": 1})));
        assert!(!fits(&json!({"a": 1}), &json!({"a": 1, "b": 2})));
        assert!(!fits(&json!({"a": 1, "b": null}), &json!({"a": 1})));
        assert!(!fits(&json!([1, 2]), &json!([2, 1])));
        assert!(!fits(&json!([1]), &json!([1, 1])));
        assert!(!fits(&json!({}), &json!([])));
    }

    #[test]
    fn unordered_lists_match_in_any_order() {
        let expected = json!({"l": [{"id": "@uuid:a", "n": 1}, {"id": "@uuid:b", "n": 2}]});
        let (one, two) = ("3f2b7c1e-5d4a-4c8e-9a10-77b1c0de4241", "3f2b7c1e-5d4a-4c8e-9a10-77b1c0de4242");
        let got = json!({"l": [{"id": two, "n": 2}, {"id": one, "n": 1}]});
        let mut vars = vars();
        assert!(compare(&expected, &got, &["l".into()], 1000, &mut vars).is_ok());
        assert_eq!((vars.get("a").unwrap(), vars.get("b").unwrap()), (one, two));
        assert!(compare(&expected, &got, &[], 1000, &mut vars).is_err());
        let matched = compare(&json!([1, 1, 2]), &json!([2, 1, 1]), &[String::new()], 1000, &mut vars);
        assert!(matched.is_ok());
        assert!(compare(&json!([1, 1, 2]), &json!([2, 2, 1]), &[String::new()], 1000, &mut vars).is_err());
    }

    #[test]
    fn saved_variables_can_be_used() {
        let mut vars = vars();
        let url = "http://h/auth?state=s%201&x=y";
        compare(&json!(["@url:au", "@jwt:t"]), &json!([url, "eyJh.e30.AA"]), &[], 1000, &mut vars).unwrap();
        assert_eq!(vars.get("au").unwrap(), url);
        assert_eq!(vars.get("au_state").unwrap(), "s 1");
        assert!(compare(&json!("$t"), &json!("eyJh.e30.AA"), &[], 1000, &mut vars).is_ok());
    }

    #[test]
    fn a_slow_scenario_accepts_earlier_times() {
        let mut vars = Vars::new(1000, 50);
        assert!(compare(&json!("@unix:+51"), &json!(1001), &[], 1001, &mut vars).is_ok());
    }
}
