// SPDX-License-Identifier: MIT OR Apache-2.0
//! Variables of a scenario, and their replacement in requests.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// Values by name, and the start time of the scenario.
#[derive(Debug, Clone)]
pub(super) struct Vars {
    values: HashMap<String, String>,
    /// Start of the scenario in Unix seconds.
    pub t0: i64,
    /// Seconds that the original takes for the scenario. The times of a faster server may be earlier by that much.
    pub slow: i64,
}

impl Vars {
    pub(super) fn new(t0: i64, slow: i64) -> Self {
        Self { values: HashMap::new(), t0, slow }
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.values.insert(name.to_owned(), value.into());
    }

    pub(super) fn get(&self, name: &str) -> Result<&str, String> {
        self.values.get(name).map(String::as_str).ok_or_else(|| format!("the variable {name} is not set"))
    }

    /// A text with `${name}` replaced.
    pub(super) fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, from)) = rest.split_once("${") {
            let (name, after) = from.split_once('}').ok_or_else(|| format!("a brace is missing in {text}"))?;
            filled.push_str(before);
            filled.push_str(self.get(name)?);
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// A text of a request with its variables replaced: `$name` as the whole text, `${name}` inside.
    pub(super) fn text(&self, text: &str) -> Result<String, String> {
        match variable_name(text) {
            Some(name) => self.get(name).map(str::to_owned),
            None => self.fill(text),
        }
    }

    /// A value of a request with its variables replaced. Keys are unchanged.
    pub(super) fn value(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix("@unix:") {
                Some(offset) => json!(self.t0 + number(offset)?),
                None => Value::String(self.text(text)?),
            },
            Value::Array(list) => Value::Array(list.iter().map(|item| self.value(item)).collect::<Result<_, _>>()?),
            Value::Object(members) => Value::Object(self.members(members)?),
            other => other.clone(),
        })
    }

    /// The members of an object in a request, with their variables replaced.
    pub(super) fn members(&self, members: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        members.iter().map(|(key, value)| Ok((key.clone(), self.value(value)?))).collect()
    }
}

/// The name in `$name`, if that is the whole text.
pub(super) fn variable_name(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    (!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then_some(name)
}

/// A number with a sign.
pub(super) fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_in_requests_are_replaced() {
        let mut vars = Vars::new(1000, 0);
        vars.set("mt", "TOKEN");
        vars.set("issuer", "http://h");
        let request = json!({"${mt}": ["$mt", "Bearer ${mt}", "$ 5", "@unix:+3600", "@unix:-10", "@nope", 7]});
        let filled = vars.value(&request).unwrap();
        assert_eq!(filled, json!({"${mt}": ["TOKEN", "Bearer TOKEN", "$ 5", 4600, 990, "@nope", 7]}));
        assert!(vars.value(&json!("$unknown")).is_err());
        assert!(vars.value(&json!("${unknown}")).is_err());
    }
}
