// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines of a user file: `<issuer> <subject>`.

use crate::identity::Identity;
use crate::map_file::{LineError, Problem, column, is_issuer, split_fields};

const FORM: &str = "a line holds an issuer and a subject";

/// What a user file says about an identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// A line is for the identity.
    pub(super) listed: bool,
    /// How many lines are wrong. They are ignored: no line can remove access.
    pub(super) wrong: usize,
    /// The first wrong line.
    pub(super) first: Option<LineError>,
}

/// Looks for an identity. The lines have the form of those of a map file, without the account.
pub(super) fn find(bytes: &[u8], identity: &Identity) -> Found {
    let mut found = Found::default();
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let listed = match std::str::from_utf8(line) {
            Ok(text) => is_listed(text, identity).map_err(|(offset, problem)| (column(text, offset), problem)),
            Err(_) => Err((1, "this is not UTF-8".to_owned())),
        };
        match listed {
            Ok(listed) => found.listed |= listed,
            Err((column, problem)) => {
                found.wrong += 1;
                found.first.get_or_insert(LineError { line: number + 1, column, problem });
            }
        }
    }
    found
}

/// Whether a line is for the identity. An empty line and a comment are for nobody.
fn is_listed(line: &str, identity: &Identity) -> Result<bool, Problem> {
    let fields = split_fields(line)?;
    let mut fields = fields.iter();
    let Some(issuer) = fields.next() else { return Ok(false) };
    let sub = fields.next().ok_or_else(|| (line.len(), format!("the subject is missing: {FORM}")))?;
    if let Some(third) = fields.next() {
        let problem = format!("a third field: {FORM}; a comment begins with #, a field with blanks has \"quotes\"");
        return Err((third.offset, problem));
    }
    Ok(sub.text == identity.sub && is_issuer(issuer.text, &identity.issuer, &identity.iss))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            issuer: "op".into(),
            iss: "https://op.example.org".into(),
            sub: "s-1".into(),
            scopes: Vec::new(),
            claims: serde_json::Map::new(),
        }
    }

    #[test]
    fn a_line_lists_an_identity_by_name_or_url_of_its_issuer() {
        for text in [
            "op s-1",
            "https://op.example.org s-1",
            "https://op.example.org/\ts-1 # my second account\r\n",
            "\u{feff}# me\n\n\"op\" \"s-1\"\n",
            "egi s-1\nop s-2\nop s-1",
        ] {
            assert_eq!(find(text.as_bytes(), &identity()), Found { listed: true, ..Found::default() }, "{text:?}");
        }
        for text in
            ["", "#op s-1", "op s-2", "op S-1", "OP s-1", "op s-1x", "egi s-1", "https://op.example.org:8443 s-1"]
        {
            assert_eq!(find(text.as_bytes(), &identity()), Found::default(), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_line_lists_nobody_and_the_others_count() {
        for (text, problem) in [
            ("op", "1:3: the subject is missing"),
            ("op s-1 alice", "1:8: a third field"),
            ("op s-1 s-2", "1:8: a third field"),
            ("op \"s-1", "1:4: the quotes are not closed"),
            ("op s-1\0", "1:7: an invisible character (U+0000)"),
            ("op s-1\rop s-1", "1:7: an invisible character (U+000D)"),
            ("op s\u{200b}-1", "1:5: an invisible character (U+200B)"),
        ] {
            let found = find(text.as_bytes(), &identity());
            assert!(!found.listed && found.wrong == 1, "{text:?}: {found:?}");
            assert!(found.first.unwrap().to_string().starts_with(problem), "{text:?}");
            assert!(find(format!("{text}\nop s-1").as_bytes(), &identity()).listed, "{text:?}");
        }
        let latin = find(b"op J\xf6rg\nop s-1\nx\n", &identity());
        assert!(latin.listed && latin.wrong == 2, "{latin:?}");
        assert_eq!(latin.first.unwrap().to_string(), "1:1: this is not UTF-8");
    }

    proptest::proptest! {
        #[test]
        fn no_file_causes_a_panic_or_lists_somebody_by_chance(bytes in proptest::collection::vec(0_u8..=255, 0..80)) {
            let found = find(&bytes, &identity());
            let named = bytes.windows(3).any(|part| part == b"s-1");
            proptest::prop_assert!(!found.listed || named);
        }
    }
}
