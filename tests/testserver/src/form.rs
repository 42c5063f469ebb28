// SPDX-License-Identifier: MIT OR Apache-2.0
//! Forms: `application/x-www-form-urlencoded` bodies and queries as lists of pairs.

use url::form_urlencoded;

/// Pairs in the order of the request. The same key may occur several times.
pub type Form = [(String, String)];

/// Decodes a body or a query.
#[must_use]
pub fn decode(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

/// Encodes pairs.
#[must_use]
pub fn encode(form: &Form) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

/// The first value of a key.
#[must_use]
pub fn first<'a>(form: &'a Form, key: &str) -> Option<&'a str> {
    form.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// All values of a key.
#[must_use]
pub fn all<'a>(form: &'a Form, key: &str) -> Vec<&'a str> {
    form.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect()
}
