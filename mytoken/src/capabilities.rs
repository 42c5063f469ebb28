// SPDX-License-Identifier: MIT OR Apache-2.0
//! Capabilities: what a mytoken may be used for, and which capability includes which (MT-22).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::InputError;

/// Get access tokens.
pub const AT: &str = "AT";
/// Create sub-tokens.
pub const CREATE_MYTOKEN: &str = "create_mytoken";
/// Read all information about this token.
pub const TOKENINFO: &str = "tokeninfo";
/// Read this token's claims.
pub const TOKENINFO_INTROSPECT: &str = "tokeninfo:introspect";
/// Read this token's history.
pub const TOKENINFO_HISTORY: &str = "tokeninfo:history";
/// Revoke any mytoken of the same person by its handle.
pub const MANAGE_MYTOKENS_REVOKE: &str = "manage_mytokens:revoke";

/// A set of capabilities without duplicates, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Capabilities(Vec<String>);

impl Capabilities {
    /// The set of these names.
    ///
    /// # Errors
    /// [`InputError::Malformed`] if a name is empty, has an empty segment, or has other characters than letters, digits, `_` and `:`
    /// after an optional `read@`.
    pub fn new<I: IntoIterator<Item = S>, S: Into<String>>(names: I) -> Result<Self, InputError> {
        let mut set = Self::default();
        for name in names {
            let name = name.into();
            if !well_formed(&name) {
                return Err(InputError::Malformed {
                    what: "a capability".to_owned(),
                    reason: "names look like AT, tokeninfo:introspect or read@settings".to_owned(),
                });
            }
            set.insert(name);
        }
        Ok(set)
    }

    /// The set of the names in a blank-separated text.
    ///
    /// # Errors
    /// As [`Capabilities::new`].
    pub fn parse(text: &str) -> Result<Self, InputError> {
        Self::new(text.split_ascii_whitespace())
    }

    fn insert(&mut self, name: String) {
        if !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// Whether the set grants `wanted`: it contains `wanted` itself, or leading segments of it. A `read@` capability grants only `read@`
    /// capabilities.
    #[must_use]
    pub fn has(&self, wanted: &str) -> bool {
        self.0.iter().any(|owned| grants(owned, wanted))
    }

    /// Whether `bound` grants all capabilities of this set.
    #[must_use]
    pub fn within(&self, bound: &Self) -> bool {
        self.0.iter().all(|name| bound.has(name))
    }

    /// The capabilities of this set that `bound` does not grant.
    #[must_use]
    pub fn beyond(&self, bound: &Self) -> Self {
        Self(self.0.iter().filter(|name| !bound.has(name)).cloned().collect())
    }

    /// Whether the set is empty. An empty set is never sent: the server would give a child all capabilities of its parent (MT-22).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// Reads a member of an answer: a list or a blank-separated text; `null` is the empty set. Any name is accepted, because newer servers
/// have further capabilities.
impl<'de> Deserialize<'de> for Capabilities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            List(Vec<String>),
            Text(String),
        }
        let mut set = Self::default();
        match Option::<Form>::deserialize(deserializer)? {
            None => {}
            Some(Form::List(names)) => names.into_iter().for_each(|name| set.insert(name)),
            Some(Form::Text(text)) => text.split_ascii_whitespace().for_each(|name| set.insert(name.to_owned())),
        }
        Ok(set)
    }
}

fn grants(owned: &str, wanted: &str) -> bool {
    let (owned_path, owned_reads) = split(owned);
    let (wanted_path, wanted_reads) = split(wanted);
    if owned_reads && !wanted_reads {
        return false;
    }
    match wanted_path.strip_prefix(owned_path) {
        Some(rest) => !owned_path.is_empty() && (rest.is_empty() || rest.starts_with(':')),
        None => false,
    }
}

fn split(name: &str) -> (&str, bool) {
    name.strip_prefix("read@").map_or((name, false), |path| (path, true))
}

fn well_formed(name: &str) -> bool {
    let (path, _) = split(name);
    path.split(':')
        .all(|segment| !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_capability_grants_its_sub_capabilities() {
        let table = [
            ("settings", "read@settings:grants:ssh", true),
            ("read@settings", "settings:grants", false),
            ("read@settings", "read@settings:email", true),
            ("read@settings:grants", "read@settings:grants:ssh", true),
            ("tokeninfo:history", "tokeninfo", false),
            ("tokeninfo", "tokeninfo:notify", true),
            ("manage_mytokens:notify", "read@manage_mytokens:notify", true),
            ("AT", "ATX", false),
            ("AT", "AT", true),
            ("AT", "at", false),
            ("token", "tokeninfo", false),
            ("read@settings", "settings", false),
            ("settings", "settings", true),
        ];
        for (owned, wanted, expected) in table {
            assert_eq!(Capabilities::parse(owned).unwrap().has(wanted), expected, "{owned} -> {wanted}");
        }
    }

    #[test]
    fn capabilities_outside_a_bound_are_found() {
        let wanted = Capabilities::parse("AT tokeninfo").unwrap();
        let granted = Capabilities::parse("AT tokeninfo:introspect settings").unwrap();
        assert!(!granted.within(&wanted));
        assert_eq!(granted.beyond(&wanted).to_string(), "settings");
        assert!(Capabilities::parse("AT").unwrap().within(&wanted));
    }

    #[test]
    fn malformed_names_are_refused() {
        for bad in ["AT,settings", "read@", "a::b", ":a", "a:", "@name", "read@read@a", "ä"] {
            assert!(Capabilities::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_a_text_and_null_are_read() {
        for (text, expected) in
            [("null", ""), ("[]", ""), (r#"["AT","AT","x y"]"#, "AT x y"), (r#""AT  settings""#, "AT settings")]
        {
            assert_eq!(serde_json::from_str::<Capabilities>(text).unwrap().to_string(), expected, "{text}");
        }
    }

    fn sets() -> impl Strategy<Value = Capabilities> {
        let name = prop::sample::select(vec![
            "AT",
            "create_mytoken",
            "tokeninfo",
            "tokeninfo:introspect",
            "settings",
            "read@settings",
            "settings:grants",
            "read@settings:grants:ssh",
        ]);
        prop::collection::vec(name, 0..5).prop_map(|names| Capabilities::new(names).unwrap())
    }

    proptest! {
        #[test]
        fn within_is_a_preorder(a in sets(), b in sets(), c in sets()) {
            prop_assert!(a.within(&a));
            if a.within(&b) && b.within(&c) {
                prop_assert!(a.within(&c), "{a} / {b} / {c}");
            }
            prop_assert_eq!(a.within(&b), a.beyond(&b).is_empty());
        }

        #[test]
        fn a_set_survives_a_round_trip(a in sets()) {
            prop_assert_eq!(serde_json::from_str::<Capabilities>(&serde_json::to_string(&a).unwrap()).unwrap(), a.clone());
            prop_assert_eq!(Capabilities::parse(&a.to_string()).unwrap(), a);
        }

        #[test]
        fn arbitrary_text_never_panics(a in "\\PC{0,30}", b in "\\PC{0,30}") {
            prop_assert!(!grants(&a, &b) || b.contains(split(&a).0), "{a} grants {b}");
            if let Ok(set) = Capabilities::parse(&a) {
                prop_assert!(set.iter().all(|name| well_formed(name) && set.has(name)) && set.within(&set));
            }
        }
    }
}
