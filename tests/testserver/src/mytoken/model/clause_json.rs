// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a clause from JSON and checks the types of its members.

use serde_json::{Map, Value};

use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::body;
use crate::mytoken::model::clauses::Clause;
use crate::mytoken::model::times;

/// A clause of a request. With `now` its times may be strings; without it (consent page) only integers are accepted.
///
/// # Errors
/// A member has the wrong type, or a time is invalid.
pub fn clause(members: &Map<String, Value>, now: Option<i64>) -> ApiResult<Clause> {
    let scope = match members.get("scope") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(scope)) => scope.clone(),
        Some(other) => return Err(member_mismatch(other, "scope", "string")),
    };
    Ok(Clause {
        nbf: time(members, "nbf", now)?,
        exp: time(members, "exp", now)?,
        scope,
        audience: list(members, "audience")?,
        hosts: list(members, "hosts")?,
        geoip_allow: list(members, "geoip_allow")?,
        geoip_disallow: list(members, "geoip_disallow")?,
        usages_at: number(members.get("usages_AT"))?,
        usages_other: number(members.get("usages_other"))?,
    })
}

fn member_mismatch(value: &Value, name: &str, wanted: &str) -> ApiError {
    body::type_mismatch(value, &format!("Go struct field restrictionWT.Restriction.{name} of type {wanted}"))
}

fn time(members: &Map<String, Value>, name: &str, now: Option<i64>) -> ApiResult<i64> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(0),
        Some(Value::String(text)) => match now {
            Some(now) => times::resolve(text, now).map_err(ApiError::invalid_request),
            None => Err(member_mismatch(&Value::String(text.clone()), name, "unixtime.UnixTime")),
        },
        Some(value) => value.as_i64().ok_or_else(|| body::type_mismatch(value, "Go value of type string")),
    }
}

fn list(members: &Map<String, Value>, name: &str) -> ApiResult<Option<Vec<String>>> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            serde_json::from_value(value.clone()).map(Some).map_err(|_| member_mismatch(value, name, "[]string"))
        }
    }
}

/// An integer member; `None` if it is absent or `null`.
///
/// # Errors
/// The member has another type.
pub fn number(value: Option<&Value>) -> ApiResult<Option<i64>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_i64().map(Some).ok_or_else(|| body::type_mismatch(value, "Go struct field of type int64"))
        }
    }
}
