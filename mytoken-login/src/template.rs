// SPDX-License-Identifier: MIT OR Apache-2.0
//! Account templates: literal text and claims in braces, `"{preferred_username}"`, `"hpc_{sub}"`.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A template, parsed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Claim(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence when braces do not match, a claim has no name, or no claim is used: such a rule would let everybody in.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, tail)) = rest.split_once('{') {
            push_literal(&mut parts, literal, text)?;
            let (claim, tail) = tail.split_once('}').ok_or_else(|| format!("a brace stays open in \"{text}\""))?;
            if claim.is_empty() || claim.contains('{') {
                return Err(format!("a claim has no name in \"{text}\""));
            }
            parts.push(Part::Claim(claim.to_owned()));
            rest = tail;
        }
        push_literal(&mut parts, rest, text)?;
        if parts.iter().any(|part| matches!(part, Part::Claim(_))) {
            Ok(Self { text: text.to_owned(), parts })
        } else {
            Err(format!("the template \"{text}\" uses no claim; it would map every identity to one account"))
        }
    }

    /// Fills in the claims. Only text fits: a number, a list or an empty string is as good as absent.
    ///
    /// # Errors
    /// The name of the claim that is missing.
    pub fn fill(&self, claims: &Map<String, Value>) -> Result<String, String> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => filled.push_str(text),
                Part::Claim(name) => match claims.get(name) {
                    Some(Value::String(value)) if !value.is_empty() => filled.push_str(value),
                    _ => return Err(name.clone()),
                },
            }
        }
        Ok(filled)
    }
}

fn push_literal(parts: &mut Vec<Part>, literal: &str, whole: &str) -> Result<(), String> {
    if literal.contains('}') {
        return Err(format!("a brace is closed that was not opened in \"{whole}\""));
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.to_owned()));
    }
    Ok(())
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Template {
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
        let template = Template::parse("hpc_{sub}-{org}").unwrap();
        assert_eq!(template.fill(&claims(r#"{"sub":"a1","org":"x"}"#)).unwrap(), "hpc_a1-x");
        assert_eq!(Template::parse("{sub}-hpc").unwrap().fill(&claims(r#"{"sub":"a1"}"#)).unwrap(), "a1-hpc");
    }

    #[test]
    fn only_text_fits() {
        let template = Template::parse("{sub}").unwrap();
        for json in ["{}", r#"{"sub":""}"#, r#"{"sub":7}"#, r#"{"sub":["a"]}"#, r#"{"sub":null}"#] {
            assert_eq!(template.fill(&claims(json)).unwrap_err(), "sub", "{json}");
        }
    }

    #[test]
    fn a_value_with_braces_is_not_a_template() {
        let template = Template::parse("{sub}").unwrap();
        assert_eq!(template.fill(&claims(r#"{"sub":"{org}","org":"root"}"#)).unwrap(), "{org}");
    }

    #[test]
    fn bad_templates_are_refused() {
        for text in ["", "alice", "{", "}", "{}", "a{b", "a}b{c}", "{a{b}}", "{a}b}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
