// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of words: scopes and audiences, separated by blanks.

/// Scopes that the server (MT-11) or the provider adds. Resource servers ignore them, so they do not make a token broader.
pub const HARMLESS_SCOPES: [&str; 2] = ["openid", "offline_access"];

/// Replaces runs of white space by single blanks.
#[must_use]
pub fn single_blanks(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether these are the same words, in whatever order and however often.
#[must_use]
pub fn same_set(asked: &str, granted: &[String]) -> bool {
    let mut asked: Vec<&str> = asked.split_ascii_whitespace().collect();
    let mut granted: Vec<&str> = granted.iter().map(String::as_str).collect();
    for set in [&mut asked, &mut granted] {
        set.sort_unstable();
        set.dedup();
    }
    asked == granted
}

/// A granted scope that was not asked for, and makes the token broader.
pub fn broader_scope<'a>(asked: &str, granted: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let is_asked = |scope: &str| asked.split_ascii_whitespace().any(|one| one == scope);
    granted.into_iter().find(|scope| !scope.is_empty() && !is_asked(scope) && !HARMLESS_SCOPES.contains(scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_number_and_blanks_do_not_matter() {
        let granted = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (asked, words, expected) in [
            ("a b", &["b", "a", "b"][..], true),
            (" a  b a", &["a", "b"], true),
            ("a", &["a", "b"], false),
            ("a b", &["a"], false),
            ("", &[], true),
        ] {
            assert_eq!(same_set(asked, &granted(words)), expected, "{asked} {words:?}");
        }
        assert_eq!(single_blanks(" a \t b\n"), "a b");
    }

    #[test]
    fn scopes_that_providers_add_make_no_token_broader() {
        assert_eq!(broader_scope("a b", ["openid", "", "b", "offline_access"]), None);
        assert_eq!(broader_scope("a b", ["a", "c", "d"]), Some("c"));
        assert_eq!(broader_scope("ab", ["a"]), Some("a"));
    }
}
