// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which capabilities include others (MT-22). Written from the behaviour of the original, not from the code of our
//! client: the test server must not share the client's bugs.

use serde_json::Value;

/// Capabilities of a login that asks for none.
pub const DEFAULT: [&str; 2] = ["AT", "tokeninfo"];

/// All capabilities of this server, without their `read@` forms.
const KNOWN: [&str; 16] = [
    "AT",
    "create_mytoken",
    "tokeninfo",
    "tokeninfo:introspect",
    "tokeninfo:history",
    "tokeninfo:subtokens",
    "tokeninfo:notify",
    "manage_mytokens",
    "manage_mytokens:list",
    "manage_mytokens:revoke",
    "manage_mytokens:history",
    "manage_mytokens:notify",
    "settings",
    "settings:grants",
    "settings:grants:ssh",
    "settings:email",
];

/// Capabilities that have a `read@` form.
const READABLE: [&str; 5] =
    ["manage_mytokens:notify", "settings", "settings:grants", "settings:grants:ssh", "settings:email"];

/// Whether the name is one of this server's capabilities.
#[must_use]
pub fn is_known(name: &str) -> bool {
    match name.strip_prefix("read@") {
        Some(path) => READABLE.contains(&path),
        None => KNOWN.contains(&name),
    }
}

/// Whether one owned capability grants the wanted one.
fn covers(owned: &str, wanted: &str) -> bool {
    let (owned_path, read_only) = match owned.strip_prefix("read@") {
        Some(path) => (path, true),
        None => (owned, false),
    };
    let (wanted_path, wants_read) = match wanted.strip_prefix("read@") {
        Some(path) => (path, true),
        None => (wanted, false),
    };
    if read_only && !wants_read {
        return false;
    }
    wanted_path.strip_prefix(owned_path).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// Whether the owned capabilities grant the wanted one.
#[must_use]
pub fn has(owned: &[String], wanted: &str) -> bool {
    owned.iter().any(|capability| covers(capability, wanted))
}

/// The capabilities of a child. A request without capabilities gets all of the parent's. Otherwise the child gets the
/// requested ones that the parent has, in the order of the request.
#[must_use]
pub fn inherit(parent: &[String], wanted: &[String]) -> Vec<String> {
    if wanted.is_empty() {
        return parent.to_vec();
    }
    let mut given: Vec<String> = Vec::new();
    for capability in wanted {
        if has(parent, capability) && !given.contains(capability) {
            given.push(capability.clone());
        }
    }
    given
}

/// The words of a `capabilities` member, which may be an array or a blank-separated string; names of templates still
/// carry their `@`. A number counts as a word, as in the original.
#[must_use]
pub fn names(value: Option<&Value>) -> Vec<String> {
    let of_string = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => of_string(text),
        Some(Value::Array(list)) => list
            .iter()
            .flat_map(|item| match item {
                // `null` stays as a word: without it the list could be empty, which would grant everything.
                Value::Null => vec![String::from("null")],
                Value::String(text) => vec![text.clone()],
                other => vec![other.to_string()],
            })
            .collect(),
        Some(other) => of_string(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_grants_its_sub_capabilities() {
        for (owned, wanted, expected) in [
            ("settings", "read@settings:grants:ssh", true),
            ("read@settings", "settings:grants", false),
            ("read@settings", "read@settings:email", true),
            ("read@settings:grants", "read@settings:grants:ssh", true),
            ("tokeninfo:history", "tokeninfo", false),
            ("tokeninfo", "tokeninfo:notify", true),
            ("manage_mytokens:notify", "read@manage_mytokens:notify", true),
            ("AT", "ATX", false),
            ("AT", "AT", true),
        ] {
            assert_eq!(has(&[owned.to_owned()], wanted), expected, "{owned} -> {wanted}");
        }
    }

    #[test]
    fn a_child_gets_the_requested_capabilities_that_its_parent_has() {
        let parent: Vec<String> = ["AT", "tokeninfo:introspect", "settings"].map(String::from).into();
        let wanted: Vec<String> = ["settings:x", "AT", "tokeninfo", "AT", "frobnicate"].map(String::from).into();
        assert_eq!(inherit(&parent, &wanted), ["settings:x", "AT"]);
        assert_eq!(inherit(&parent, &[]), parent);
    }
}
