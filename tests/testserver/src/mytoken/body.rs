// SPDX-License-Identifier: MIT OR Apache-2.0
//! Request bodies (MT-05). The error texts resemble those of the original's decoders; clients must not rely on them.

use serde_json::{Map, Value};

use crate::http::Request;
use crate::mytoken::answer::{ApiError, ApiResult};

/// The body of an endpoint that accepts JSON and forms.
pub enum Fields {
    /// The members of a JSON object.
    Json(Map<String, Value>),
    /// The pairs of a form; the last value of a key counts.
    Form(Vec<(String, String)>),
}

/// Reads a JSON body. The content type is ignored.
///
/// # Errors
/// The body is not JSON or not an object.
pub fn json(request: &Request, go_type: &str) -> ApiResult<Map<String, Value>> {
    match parse(&request.body)? {
        Value::Object(members) => Ok(members),
        Value::Null => Ok(Map::new()),
        other => Err(type_mismatch(&other, &format!("Go value of type {go_type}"))),
    }
}

/// Reads a body of one of the accepted content types.
///
/// # Errors
/// The content type is unknown or the body does not match it.
pub fn fields(request: &Request, go_type: &str) -> ApiResult<Fields> {
    let content_type = request.header("Content-Type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media_type.ends_with("json") {
        return json(request, go_type).map(Fields::Json);
    }
    if media_type == "application/x-www-form-urlencoded" {
        let pairs = url::form_urlencoded::parse(&request.body);
        return Ok(Fields::Form(pairs.into_owned().collect()));
    }
    Err(ApiError::invalid_request("Unprocessable Entity"))
}

fn parse(body: &[u8]) -> ApiResult<Value> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_eof() {
            return ApiError::invalid_request("unexpected end of JSON input");
        }
        let text = String::from_utf8_lossy(body);
        let first = text.trim_start().chars().next().unwrap_or(' ');
        ApiError::invalid_request(format!("invalid character '{first}' looking for beginning of value"))
    })
}

/// The error of Go's JSON decoder for a value of the wrong type.
#[must_use]
pub fn type_mismatch(value: &Value, into: &str) -> ApiError {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    ApiError::invalid_request(format!("json: cannot unmarshal {kind} into {into}"))
}

/// A string member. If it is absent or `null`, the string is empty.
///
/// # Errors
/// The member has another type.
pub fn text(members: &Map<String, Value>, name: &str) -> ApiResult<String> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(type_mismatch(other, &format!("Go struct field {name} of type string"))),
    }
}

/// The last value of a form's key.
#[must_use]
pub fn last<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The value of a query's key.
#[must_use]
pub fn query(request: &Request, name: &str) -> Option<String> {
    let pairs = url::form_urlencoded::parse(request.query.as_deref()?.as_bytes());
    pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(content_type: Option<&str>, body: &str) -> Request {
        Request {
            method: "POST".into(),
            path: "/".into(),
            query: None,
            headers: content_type.map(|value| ("content-type".into(), value.into())).into_iter().collect(),
            body: body.into(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        }
    }

    #[test]
    fn the_content_type_chooses_the_parser() {
        for (content_type, json) in [
            (Some("application/json"), Some(true)),
            (Some("application/json; charset=utf-8"), Some(true)),
            (Some("application/vnd.api+json"), Some(true)),
            (Some("application/x-www-form-urlencoded"), Some(false)),
            (Some("text/plain"), None),
            (None, None),
        ] {
            let seen = fields(&request(content_type, "{}"), "T").ok().map(|fields| matches!(fields, Fields::Json(_)));
            assert_eq!(seen, json, "{content_type:?}");
        }
    }

    #[test]
    fn malformed_json_gives_the_error_texts_of_go() {
        let description = |body| json(&request(None, body), "T").unwrap_err().description.unwrap();
        assert_eq!(description(""), "unexpected end of JSON input");
        assert_eq!(description("{\"a\":"), "unexpected end of JSON input");
        assert_eq!(description("hello"), "invalid character 'h' looking for beginning of value");
        assert_eq!(description("[]"), "json: cannot unmarshal array into Go value of type T");
    }
}
