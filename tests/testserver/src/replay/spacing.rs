// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes JSON as the recorder of the captures did: with a space after each colon and comma. The original compares
//! clauses by their text, so the spacing of a request matters (MT-26).

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// The text of a value.
pub(super) fn spaced(value: &Value) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, Spaced)).map_err(|error| error.to_string())?;
    Ok(text)
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_space_follows_each_colon_and_comma() {
        let text = spaced(&json!({"a": [1, "x:y,z"], "b": {}, "c": []})).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), r#"{"a": [1, "x:y,z"], "b": {}, "c": []}"#);
    }
}
