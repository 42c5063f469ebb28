// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths of the endpoints, and their names in the journal and in faults.

use crate::mytoken::model::guest_provider;

/// Pairs of a path prefix and the endpoint's name in the journal and in faults. The first match counts.
pub(crate) const ENDPOINTS: [(&str, &str); 13] = [
    ("/.well-known/mytoken-configuration", "discovery"),
    ("/.well-known/openid-configuration", "discovery"),
    ("/jwks", "jwks"),
    ("/api/v0/token/access", "access_token"),
    ("/api/v0/token/my", "mytoken"),
    ("/api/v0/token/revoke", "revocation"),
    ("/api/v0/token/transfer", "transfer"),
    ("/api/v0/tokeninfo", "tokeninfo"),
    ("/api/v0/settings", "settings"),
    ("/api/v0/pt", "profiles"),
    (guest_provider::PATH, "guests"),
    ("/c", "consent"),
    ("/redirect", "redirect"),
];

/// Whether a fault can be set for an endpoint of this name.
pub(crate) fn is_endpoint(name: &str) -> bool {
    ENDPOINTS.iter().any(|(_, known)| *known == name)
}

/// The name of the endpoint at a path; `other` if there is none.
pub(crate) fn endpoint_name(path: &str) -> &'static str {
    ENDPOINTS.iter().find(|(prefix, _)| below(path, prefix).is_some()).map_or("other", |(_, name)| name)
}

/// The rest of the path after the prefix: empty, or starting with a slash. `None` if the path is not below the prefix.
pub(crate) fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = path.split_at_checked(prefix.len())?;
    (head.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('/'))).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_map_to_endpoint_names() {
        for (path, name) in [
            ("/api/v0/token/my", "mytoken"),
            ("/API/v0/token/MY/", "mytoken"),
            ("/api/v0/token/mytoken", "other"),
            ("/c/abcdefgh", "consent"),
            ("/calendars/x", "other"),
            ("//jwks", "other"),
        ] {
            assert_eq!(endpoint_name(path), name, "{path}");
        }
    }
}
