// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a claim is: its name, or a JSON pointer.

use serde_json::{Map, Value};

/// Where a claim is: its name (`wlcg.groups`), or a JSON pointer (RFC 6901), which begins with a slash
/// (`/realm_access/roles`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath {
    text: String,
    /// Name of the claim.
    claim: String,
    /// Members and list positions inside the claim.
    inside: Vec<String>,
}

impl ClaimPath {
    /// Reads a path.
    ///
    /// # Errors
    /// A sentence for the administrator when the claim has no name, or the pointer has a `~` that is neither `~0` nor
    /// `~1`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (claim, inside) = match text.strip_prefix('/') {
            None => (text.to_owned(), Vec::new()),
            Some(pointer) => {
                let mut steps = pointer.split('/').map(unescape);
                let claim = steps.next().unwrap_or_else(|| Ok(String::new()));
                let fault = |()| format!("in the JSON pointer \"{text}\" each ~ must be ~0 (for ~) or ~1 (for /)");
                (claim.map_err(fault)?, steps.collect::<Result<Vec<_>, _>>().map_err(fault)?)
            }
        };
        if claim.is_empty() {
            return Err(format!("\"{text}\" names no claim"));
        }
        Ok(Self { text: text.to_owned(), claim, inside })
    }

    /// The whole claim of this name.
    pub(super) fn named(claim: &str) -> Self {
        Self { text: claim.to_owned(), claim: claim.to_owned(), inside: Vec::new() }
    }

    /// Name of the claim, without the rest of a pointer.
    #[must_use]
    pub fn claim(&self) -> &str {
        &self.claim
    }

    /// Whether it is the whole claim of this name.
    #[must_use]
    pub fn is(&self, claim: &str) -> bool {
        self.claim == claim && self.inside.is_empty()
    }

    /// The value at this place. Names are compared byte for byte.
    #[must_use]
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        self.inside.iter().try_fold(claims.get(&self.claim)?, |value, step| match value {
            Value::Object(members) => members.get(step),
            Value::Array(values) => values.get(position(step)?),
            _ => None,
        })
    }
}

/// A step of a JSON pointer, decoded (RFC 6901 4).
fn unescape(step: &str) -> Result<String, ()> {
    let mut parts = step.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (letter, rest) = match (part.strip_prefix('0'), part.strip_prefix('1')) {
            (Some(rest), _) => ('~', rest),
            (_, Some(rest)) => ('/', rest),
            _ => return Err(()),
        };
        text.push(letter);
        text.push_str(rest);
    }
    Ok(text)
}

/// A position in a list: digits without leading zeros.
fn position(step: &str) -> Option<usize> {
    let digits = step.bytes().all(|byte| byte.is_ascii_digit()) && (step == "0" || !step.starts_with('0'));
    step.parse().ok().filter(|_| digits)
}

impl std::fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_claim_and_a_pointer_goes_into_it() {
        let claims = r#"{"a":1,"a.b":2,"a/b":3,"o":{"p":{"q":4},"m~n":5,"":6,"0":7},"l":["x",{"y":8}],"~1":9}"#;
        let claims: Map<String, Value> = serde_json::from_str(claims).unwrap();
        for (text, expected) in [
            ("a", Some(1)),
            ("/a", Some(1)),
            ("a.b", Some(2)),
            ("a/b", Some(3)),
            ("/a~1b", Some(3)),
            ("/o/p/q", Some(4)),
            ("/o/m~0n", Some(5)),
            ("/o/", Some(6)),
            ("/o/0", Some(7)),
            ("/l/1/y", Some(8)),
            ("~1", Some(9)),
            ("/~01", Some(9)),
            ("/a/b", None),
            ("o/p/q", None),
            ("/o/P/q", None),
            ("/l/01/y", None),
            ("/l/+1/y", None),
            ("/l/-/y", None),
            ("/l/2", None),
            ("/a/0", None),
        ] {
            let found = ClaimPath::parse(text).unwrap().find(&claims).and_then(Value::as_i64);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn malformed_paths_are_refused() {
        for text in ["", "/", "//a", "/a~", "/a~2", "/a/~x"] {
            assert!(ClaimPath::parse(text).is_err(), "{text}");
        }
        assert!(ClaimPath::parse("/email_verified").unwrap().is("email_verified"));
        assert!(!ClaimPath::parse("/email_verified/0").unwrap().is("email_verified"));
    }
}
