// SPDX-License-Identifier: MIT OR Apache-2.0
//! The texts of claims, and the values that cannot be used.

use serde_json::Value;

use super::claim_path::ClaimPath;
use crate::identity::Identity;

/// How many unusable values an explanation shows.
const SHOWN: usize = 16;

/// Values of a token that a rule cannot use. They meet no requirement, and the login goes on: real tokens have them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    shown: Vec<String>,
    more: usize,
}

impl Skipped {
    /// Adds a value and why it is not used.
    pub(super) fn add(&mut self, text: String) {
        if self.shown.contains(&text) {
            return;
        }
        if self.shown.len() < SHOWN {
            self.shown.push(text);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// A sentence for each value, in the order in which they were found.
    pub(super) fn sentences(self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("{} more values that are not used", self.more));
        self.shown.into_iter().chain(more).collect()
    }
}

/// The texts of these claims. A claim is one text, or a list of texts.
pub(super) fn texts<'a>(identity: &'a Identity, paths: &[ClaimPath], skipped: &mut Skipped) -> Vec<&'a str> {
    let mut found = Vec::new();
    for path in paths {
        let values = match path.find(&identity.claims) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        for value in values {
            match value {
                Value::String(text) => found.push(text.as_str()),
                other => skipped.add(format!("{path}: {} is not text", kind(other))),
            }
        }
    }
    found
}

/// As [`texts`]. A claim that is one text is taken as words with blanks between them.
pub(super) fn words<'a>(identity: &'a Identity, paths: &[ClaimPath], skipped: &mut Skipped) -> Vec<&'a str> {
    let mut found = Vec::new();
    for path in paths {
        match path.find(&identity.claims) {
            Some(Value::String(text)) => found.extend(text.split_whitespace()),
            _ => found.extend(texts(identity, std::slice::from_ref(path), skipped)),
        }
    }
    found
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_shows_a_few_values_and_counts_the_rest() {
        let mut skipped = Skipped::default();
        for number in 0..SHOWN + 4 {
            skipped.add(number.to_string());
            skipped.add("0".to_owned());
        }
        let sentences = skipped.sentences();
        assert_eq!((sentences.len(), sentences.first().unwrap().as_str()), (SHOWN + 1, "0"));
        assert_eq!(sentences.last().unwrap(), "4 more values that are not used");
    }
}
