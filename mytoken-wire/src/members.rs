// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the members of a JSON object one by one. Each structure with a derived reader brings several kilobytes of code of its own, and so
//! does `serde_json`'s reader: those of the messages that the Slurm plugin reads were a tenth of the plugin. So it reads them from a
//! [`Document`]. The agent, which needs `serde_json` for other messages, reads the same ones from its [`Value`] by the same code.
//!
//! A member that is missing and one that is `null` are the same.

use std::borrow::Cow;
use std::fmt;

use hifijson::num::Lex as _;
use hifijson::str::LexAlloc as _;
use hifijson::token::Lex as _;
use hifijson::{Error, Expect, SliceLexer};
use serde_json::Value;

/// A message does not have the form that it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member is missing or has another type")
    }
}

impl std::error::Error for Malformed {}

/// A JSON value.
pub(crate) trait Json: Sized {
    /// A member of an object that may be missing.
    fn member(&self, name: &str) -> Option<&Self>;
    /// A text.
    fn as_text(&self) -> Option<&str>;
    /// A whole number of 64 bits without a sign.
    fn as_whole(&self) -> Option<u64>;
    /// A truth value.
    fn as_flag(&self) -> Option<bool>;
    /// The elements of a list.
    fn as_list(&self) -> Option<&[Self]>;
}

/// A value that borrows from its text.
#[derive(Debug)]
pub enum Document<'t> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number; `None` if it is no whole number of 64 bits without a sign.
    Number(Option<u64>),
    /// A text.
    String(Cow<'t, str>),
    /// A list.
    Array(Vec<Self>),
    /// Names and values.
    Object(Vec<(Cow<'t, str>, Self)>),
}

/// Nested values deeper than this are not read, as by `serde_json`.
const DEPTH: usize = 128;

/// Reads a JSON text.
pub(crate) fn parse(text: &[u8]) -> Result<Document<'_>, Malformed> {
    SliceLexer::new(text)
        .exactly_one(SliceLexer::ws_peek, |next, lexer| parse_value(DEPTH, next, lexer))
        .map_err(|_: Error| Malformed)
}

/// Reads a value that begins with `next`. The lexer's own function makes strings of numbers.
fn parse_value<'t>(depth: usize, next: u8, lexer: &mut SliceLexer<'t>) -> Result<Document<'t>, Error> {
    let depth = depth.checked_sub(1).ok_or(Error::Depth)?;
    match next {
        b'"' => Ok(Document::String(lexer.discarded().str_string()?)),
        b'[' => {
            let mut list = Vec::new();
            lexer.discarded().seq(b']', SliceLexer::ws_peek, |next, lexer| {
                list.push(parse_value(depth, next, lexer)?);
                Ok::<_, Error>(())
            })?;
            Ok(Document::Array(list))
        }
        b'{' => {
            let mut members = Vec::new();
            lexer.discarded().seq(b'}', SliceLexer::ws_peek, |next, lexer| {
                lexer.expect(|_| Some(next), b'"').ok_or(Expect::String)?;
                let name = lexer.str_string()?;
                lexer.expect(SliceLexer::ws_peek, b':').ok_or(Expect::Colon)?;
                let next = lexer.ws_peek().ok_or(Expect::Value)?;
                members.push((name, parse_value(depth, next, lexer)?));
                Ok::<_, Error>(())
            })?;
            Ok(Document::Object(members))
        }
        b'-' | b'0'..=b'9' => {
            let text = lexer.as_slice();
            lexer.num_ignore().validate()?;
            let digits = text.get(..text.len().saturating_sub(lexer.as_slice().len())).unwrap_or_default();
            Ok(Document::Number(std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok())))
        }
        _ => Ok(lexer.null_or_bool().ok_or(Expect::Value)?.map_or(Document::Null, Document::Bool)),
    }
}

impl Json for Document<'_> {
    fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        // Of two members with one name `serde_json` takes the last.
        members
            .iter()
            .rfind(|(key, _)| key == name)
            .map(|(_, value)| value)
            .filter(|value| !matches!(value, Self::Null))
    }

    fn as_text(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    fn as_whole(&self) -> Option<u64> {
        if let Self::Number(number) = self { *number } else { None }
    }

    fn as_flag(&self) -> Option<bool> {
        if let Self::Bool(flag) = self { Some(*flag) } else { None }
    }

    fn as_list(&self) -> Option<&[Self]> {
        if let Self::Array(list) = self { Some(list) } else { None }
    }
}

impl Json for Value {
    fn member(&self, name: &str) -> Option<&Self> {
        self.get(name).filter(|value| !value.is_null())
    }

    fn as_text(&self) -> Option<&str> {
        self.as_str()
    }

    fn as_whole(&self) -> Option<u64> {
        self.as_u64()
    }

    fn as_flag(&self) -> Option<bool> {
        self.as_bool()
    }

    fn as_list(&self) -> Option<&[Self]> {
        self.as_array().map(Vec::as_slice)
    }
}

/// A text that may be missing.
pub(crate) fn text<J: Json>(object: &J, name: &str) -> Result<Option<String>, Malformed> {
    object.member(name).map(|value| value.as_text().map(str::to_owned).ok_or(Malformed)).transpose()
}

/// A number that may be missing.
pub(crate) fn number<J: Json>(object: &J, name: &str) -> Result<Option<u64>, Malformed> {
    object.member(name).map(|value| value.as_whole().ok_or(Malformed)).transpose()
}

/// A number of 32 bits that may be missing.
pub(crate) fn short_number<J: Json>(object: &J, name: &str) -> Result<Option<u32>, Malformed> {
    number(object, name)?.map(u32::try_from).transpose().map_err(|_| Malformed)
}

/// A truth value; false if it is missing.
pub(crate) fn flag<J: Json>(object: &J, name: &str) -> Result<bool, Malformed> {
    object.member(name).map_or(Ok(false), |value| value.as_flag().ok_or(Malformed))
}

/// A list; empty if it is missing.
pub(crate) fn list<'v, J: Json>(object: &'v J, name: &str) -> Result<&'v [J], Malformed> {
    object.member(name).map_or(Ok(&[]), |value| value.as_list().ok_or(Malformed))
}

/// Whether both readers see the same in `text`. For tests and a fuzz target.
#[cfg(any(test, fuzzing))]
#[must_use]
pub fn is_read_alike(text: &[u8]) -> bool {
    fn same(own: &Document<'_>, other: &Value) -> bool {
        match (own, other) {
            (Document::Null, Value::Null) => true,
            (Document::Bool(own), Value::Bool(other)) => own == other,
            (Document::Number(_), Value::Number(_)) => own.as_whole() == other.as_whole(),
            (Document::String(own), Value::String(other)) => own == other,
            (Document::Array(own), Value::Array(other)) => {
                own.len() == other.len() && own.iter().zip(other).all(|(own, other)| same(own, other))
            }
            (Document::Object(members), Value::Object(others)) => {
                let is_known = |(name, _): &(Cow<'_, str>, Document<'_>)| others.contains_key(name.as_ref());
                let is_same = |(name, other): (&String, &Value)| match own.member(name) {
                    Some(own) => same(own, other),
                    None => other.is_null(),
                };
                members.iter().all(is_known) && others.iter().all(is_same)
            }
            _ => false,
        }
    }
    match (parse(text), serde_json::from_slice::<Value>(text)) {
        (Ok(own), Ok(other)) => same(&own, &other),
        (Err(Malformed), Err(_)) => true,
        // A `Value` keeps such a number as a float; nothing here reads one. And it counts the depth of values that have members only.
        (Ok(_), Err(error)) => {
            let error = error.to_string();
            error.starts_with("number out of range") || error.starts_with("recursion limit exceeded")
        }
        (Err(Malformed), Ok(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads<J: Json>(object: &J) {
        assert_eq!(text(object, "text"), Ok(Some("x\u{e9}\n".to_owned())));
        assert_eq!(number(object, "number"), Ok(Some(4_294_967_296)));
        assert_eq!(short_number(object, "number"), Err(Malformed), "it needs 33 bits");
        assert_eq!(flag(object, "flag"), Ok(true), "the last one of this name");
        assert_eq!(list(object, "list").map(<[J]>::len), Ok(1));
        for name in ["null", "missing"] {
            assert_eq!((text(object, name), number(object, name)), (Ok(None), Ok(None)));
            assert_eq!((flag(object, name), list(object, name).map(<[J]>::len)), (Ok(false), Ok(0)));
        }
        assert_eq!((text(object, "list"), number(object, "text")), (Err(Malformed), Err(Malformed)));
        assert_eq!((flag(object, "number"), list(object, "flag").map(<[J]>::len)), (Err(Malformed), Err(Malformed)));
        for wrong in ["negative", "fraction", "power", "large", "flag"] {
            assert_eq!(number(object, wrong), Err(Malformed), "{wrong}");
        }
        assert!(object.member("list").is_some_and(|list| list.member("text").is_none()), "a list has no members");
    }

    #[test]
    fn a_member_is_there_or_missing_or_malformed_for_both_readers() {
        let object = r#"{"text":"x\u00e9\n", "number":4294967296, "flag":false, "list":[1], "null":null, "flag":true,
            "negative":-1, "fraction":1.0, "power":1e3, "large":18446744073709551616}"#;
        reads(&parse(object.as_bytes()).unwrap());
        reads(&serde_json::from_str::<Value>(object).unwrap());
    }

    #[test]
    fn both_readers_accept_the_same_texts() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let (deep, deeper) = (nested(127), nested(128));
        for text in [
            "",
            " ",
            "{}",
            " { } ",
            "{} x",
            "{,}",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "[1,]",
            "nul",
            "true",
            "truex",
            "01",
            "-0",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+5",
            "1e999",
            "+1",
            "NaN",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\u{1}\"",
            "\"\t\"",
            "\"a",
            "\u{feff}{}",
            "{\"a\":null,\"a\":2}",
            "{\"\\u0061\":1,\"a\":null}",
            "[[[]],{\"x\":[{}]}]",
            deep.as_str(),
            deeper.as_str(),
        ] {
            assert!(is_read_alike(text.as_bytes()), "{text}");
        }
        assert!(is_read_alike(b"\"\xff\"") && is_read_alike(b"{\"\xc3\":1}"));
        assert!(parse(nested(100_000).as_bytes()).is_err());
    }
}
