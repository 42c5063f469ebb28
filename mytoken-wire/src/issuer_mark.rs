// SPDX-License-Identifier: MIT OR Apache-2.0
//! `@at:NAME:TOKEN`: an access token of the provider that the site calls NAME. An opaque token does not say whose it is, and must be sent
//! to no other provider.

/// The begin of such a text. A piece of a long token begins with `@` and a digit.
const BEGIN: &str = "@at:";

/// Whether a text begins like one with a mark.
#[must_use]
pub fn is_marked(text: &[u8]) -> bool {
    text.starts_with(BEGIN.as_bytes())
}

/// The name of the provider, and the token; `None`: there is no mark. A name with a colon cannot be given.
#[must_use]
pub fn split(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix(BEGIN)?.split_once(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_the_provider() {
        for (text, parts) in [
            ("@at:op:token", Some(("op", "token"))),
            ("@at:op:to:ken", Some(("op", "to:ken"))),
            ("@at::token", Some(("", "token"))),
            ("@at:op:", Some(("op", ""))),
            ("@at:op", None),
            ("@AT:op:token", None),
            ("@1/3:@at:op:token", None),
            ("at:op:token", None),
            ("", None),
        ] {
            assert_eq!(split(text), parts, "{text}");
            assert!(parts.is_none() || is_marked(text.as_bytes()), "{text}");
        }
        assert!(!is_marked(b"@1/3:x"));
    }
}
