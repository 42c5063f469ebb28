// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the members of a JSON object one by one. Each structure with a derived reader brings several kilobytes of code of its own; those of
//! the messages that the Slurm plugin reads were a tenth of the plugin. They are read from a [`Value`] instead, whose reader exists once.
//!
//! A member that is missing and one that is `null` are the same.

use std::fmt;

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

/// A member that may be missing.
pub(crate) fn member<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// A text that may be missing.
pub(crate) fn text(object: &Value, name: &str) -> Result<Option<String>, Malformed> {
    member(object, name).map(|value| value.as_str().map(str::to_owned).ok_or(Malformed)).transpose()
}

/// A number that may be missing.
pub(crate) fn number(object: &Value, name: &str) -> Result<Option<u64>, Malformed> {
    member(object, name).map(|value| value.as_u64().ok_or(Malformed)).transpose()
}

/// A number of 32 bits that may be missing.
pub(crate) fn short_number(object: &Value, name: &str) -> Result<Option<u32>, Malformed> {
    number(object, name)?.map(u32::try_from).transpose().map_err(|_| Malformed)
}

/// A truth value; false if it is missing.
pub(crate) fn flag(object: &Value, name: &str) -> Result<bool, Malformed> {
    member(object, name).map_or(Ok(false), |value| value.as_bool().ok_or(Malformed))
}

/// A list; empty if it is missing.
pub(crate) fn list<'v>(object: &'v Value, name: &str) -> Result<&'v [Value], Malformed> {
    member(object, name).map_or(Ok(&[]), |value| value.as_array().map(Vec::as_slice).ok_or(Malformed))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_member_is_there_or_missing_or_malformed() {
        let object = json!({"text": "x", "number": 4_294_967_296_u64, "flag": true, "list": [1], "null": null});
        assert_eq!(text(&object, "text"), Ok(Some("x".to_owned())));
        assert_eq!(number(&object, "number"), Ok(Some(4_294_967_296)));
        assert_eq!(short_number(&object, "number"), Err(Malformed), "it needs 33 bits");
        assert_eq!(flag(&object, "flag"), Ok(true));
        assert_eq!(list(&object, "list").map(<[Value]>::len), Ok(1));
        for name in ["null", "missing"] {
            assert_eq!((text(&object, name), number(&object, name)), (Ok(None), Ok(None)));
            assert_eq!((flag(&object, name), list(&object, name).map(<[Value]>::len)), (Ok(false), Ok(0)));
        }
        assert_eq!((text(&object, "list"), number(&object, "text")), (Err(Malformed), Err(Malformed)));
        assert_eq!(
            (flag(&object, "number"), list(&object, "flag").map(<[Value]>::len)),
            (Err(Malformed), Err(Malformed))
        );
        for number_of in ["-1", "1.0", "1e3", "18446744073709551616", "true"] {
            let object: Value = serde_json::from_str(&format!("{{\"n\":{number_of}}}")).unwrap();
            assert_eq!(number(&object, "n"), Err(Malformed), "{number_of}");
        }
        assert_eq!(text(&json!(["text"]), "text"), Ok(None), "a list has no members");
    }
}
