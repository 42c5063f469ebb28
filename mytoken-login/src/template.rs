// SPDX-License-Identifier: MIT OR Apache-2.0
//! Account templates: literal text, and claims in braces: `"{preferred_username}"`, `"hpc_{sub}"`.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A template of an account name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountTemplate {
    text: String,
    parts: Vec<Part>,
}

/// A claim that a template needs is missing, or not text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingClaim(
    /// Name of the claim.
    pub String,
);

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text.
    Literal(String),
    /// A name in braces.
    Name(String),
}

impl AccountTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence for the administrator when braces do not match, a claim has no name, or the template uses no claim: such a rule would
    /// give everybody the account.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = split(text, "claim")?;
        if parts.iter().any(|part| matches!(part, Part::Name(_))) {
            Ok(Self { text: text.to_owned(), parts })
        } else {
            Err(format!("the template \"{text}\" uses no claim; it would map every identity to one account"))
        }
    }

    /// The names of its claims.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// Fills in the claims. A claim that is not text, or is empty, counts as missing.
    ///
    /// # Errors
    /// The first missing claim.
    pub fn fill(&self, claims: &Map<String, Value>) -> Result<String, MissingClaim> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => filled.push_str(text),
                Part::Name(name) => match claims.get(name) {
                    Some(Value::String(value)) if !value.is_empty() => filled.push_str(value),
                    _ => return Err(MissingClaim(name.clone())),
                },
            }
        }
        Ok(filled)
    }
}

/// Splits a template. `what`: what the names in its braces are.
pub(crate) fn split(text: &str, what: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((literal, tail)) = rest.split_once('{') {
        push_literal(&mut parts, literal, text)?;
        let (name, tail) = tail.split_once('}').ok_or_else(|| format!("a brace is not closed in \"{text}\""))?;
        if name.is_empty() || name.contains('{') {
            return Err(format!("a {what} has no name in \"{text}\""));
        }
        parts.push(Part::Name(name.to_owned()));
        rest = tail;
    }
    push_literal(&mut parts, rest, text)?;
    Ok(parts)
}

fn push_literal(parts: &mut Vec<Part>, literal: &str, whole: &str) -> Result<(), String> {
    if literal.contains('}') {
        return Err(format!("a brace is not opened in \"{whole}\""));
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.to_owned()));
    }
    Ok(())
}

impl std::fmt::Display for AccountTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for AccountTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Map<String, Value> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn claims_are_filled_in() {
        let template = AccountTemplate::parse("hpc_{sub}-{org}").unwrap();
        assert_eq!(template.fill(&claims(r#"{"sub":"a1","org":"x"}"#)).unwrap(), "hpc_a1-x");
        assert_eq!(AccountTemplate::parse("{sub}-hpc").unwrap().fill(&claims(r#"{"sub":"a1"}"#)).unwrap(), "a1-hpc");
    }

    #[test]
    fn a_claim_that_is_not_text_counts_as_missing() {
        let template = AccountTemplate::parse("{sub}").unwrap();
        for json in ["{}", r#"{"sub":""}"#, r#"{"sub":7}"#, r#"{"sub":["a"]}"#, r#"{"sub":null}"#] {
            assert_eq!(template.fill(&claims(json)).unwrap_err(), MissingClaim("sub".to_owned()), "{json}");
        }
    }

    #[test]
    fn braces_in_a_claim_are_not_expanded() {
        let template = AccountTemplate::parse("{sub}").unwrap();
        assert_eq!(template.fill(&claims(r#"{"sub":"{org}","org":"root"}"#)).unwrap(), "{org}");
    }

    #[test]
    fn malformed_templates_are_refused() {
        for text in ["", "alice", "{", "}", "{}", "a{b", "a}b{c}", "{a{b}}", "{a}b}"] {
            assert!(AccountTemplate::parse(text).is_err(), "{text}");
        }
    }
}
