// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drops equal clauses of one request as the original does (MT-26): it compares the compact text of a clause with the
//! unchanged text of the earlier ones. So a clause is dropped if an equal one without blanks precedes it, and stays if
//! the earlier one has blanks.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct RawRequest<'a> {
    #[serde(borrow)]
    restrictions: Option<&'a RawValue>,
}

/// Removes from a request the clauses that the original drops. `body` is the text of the request.
#[must_use]
pub fn drop_repeated(mut members: Map<String, Value>, body: &[u8]) -> Map<String, Value> {
    if let Some(Value::Array(clauses)) = members.get_mut("restrictions") {
        let mut keep = find_repeated(body).into_iter().map(|repeated| !repeated);
        clauses.retain(|_| keep.next().unwrap_or(true));
    }
    members
}

/// For each clause of the request: whether it repeats an earlier one.
fn find_repeated(body: &[u8]) -> Vec<bool> {
    let restrictions = serde_json::from_slice::<RawRequest<'_>>(body).ok().and_then(|request| request.restrictions);
    let clauses = restrictions.and_then(|list| serde_json::from_str::<Vec<&RawValue>>(list.get()).ok());
    let mut earlier: Vec<&str> = Vec::new();
    let mut repeated = Vec::new();
    for clause in clauses.unwrap_or_default() {
        let is_object = clause.get().starts_with('{');
        repeated.push(is_object && earlier.contains(&compact(clause.get()).as_str()));
        earlier.push(clause.get());
    }
    repeated
}

/// JSON without the blanks between its parts.
fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for letter in json.chars() {
        if in_string {
            in_string = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
        } else if letter.is_ascii_whitespace() {
            continue;
        } else {
            in_string = letter == '"';
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clause_is_dropped_if_an_equal_one_precedes_it_without_blanks() {
        for (restrictions, remaining) in [
            (r#"[{"scope":"a"},{"scope":"a"}]"#, 1),
            (r#"[{"scope": "a"}, {"scope": "a"}]"#, 2),
            (r#"[{"scope":"a"}, {"scope": "a"}]"#, 1),
            (r#"[{"scope": "a"}, {"scope":"a"}]"#, 2),
            (r#"[{"scope": "a"}, {"scope":"a"}, {"scope":"a"}]"#, 2),
            (r#"[ {"scope":"a"} , {"scope":"b"} ]"#, 2),
            (r#"[{"scope":"a b"},{"scope":"ab"}]"#, 2),
            (r#"[{"scope":"a\" b"},{"scope" : "a\" b"}]"#, 1),
            (r#"["name","name"]"#, 2),
            (r#"{"scope":"a"}"#, 1),
        ] {
            let body = format!(r#"{{"grant_type": "mytoken", "restrictions": {restrictions}}}"#);
            let members = drop_repeated(serde_json::from_str(&body).unwrap(), body.as_bytes());
            assert_eq!(members["restrictions"].as_array().map_or(1, Vec::len), remaining, "{restrictions}");
        }
    }

    #[test]
    fn a_request_without_a_list_of_clauses_is_unchanged() {
        for body in [r#"{"a":1}"#, r#"{"restrictions":null}"#, r#"{"restrictions":"@name"}"#] {
            let members: Map<String, Value> = serde_json::from_str(body).unwrap();
            assert_eq!(drop_repeated(members.clone(), body.as_bytes()), members);
        }
    }
}
