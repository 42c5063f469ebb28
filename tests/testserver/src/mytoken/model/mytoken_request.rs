// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request for a mytoken (MT-22, MT-25, MT-38).

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::mytoken::answer::ApiResult;
use crate::mytoken::body;
use crate::mytoken::model::clause_json::number;
use crate::mytoken::model::clauses::Clause;
use crate::mytoken::model::rotation::Rotation;
use crate::mytoken::model::templates::Templates;
use crate::mytoken::model::{capabilities, hosts};

/// The form in which an answer contains a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenForm {
    /// The JWT.
    Jwt,
    /// A short token.
    Short,
    /// A transfer code.
    Code,
}

/// The requested form, which can depend on the length of the JWT.
#[derive(Debug, Clone, Copy)]
pub struct RequestedForm {
    response_type: TokenForm,
    /// Maximum length of the token; 0 for no limit.
    max_length: i64,
}

impl RequestedForm {
    /// Always the JWT.
    pub const JWT: Self = Self { response_type: TokenForm::Jwt, max_length: 0 };

    /// The form of the answer. `jwt` and `short` are the lengths of the JWT and of a short token.
    #[must_use]
    pub fn choose(&self, jwt: usize, short: usize) -> TokenForm {
        let fits = |length: usize| i64::try_from(length).is_ok_and(|length| length <= self.max_length);
        match self.max_length {
            ..=0 => self.response_type,
            _ if fits(jwt) => TokenForm::Jwt,
            _ if fits(short) => TokenForm::Short,
            _ => TokenForm::Code,
        }
    }
}

/// The common members of a request.
#[derive(Debug, Clone)]
pub struct MytokenRequest {
    pub name: String,
    pub capabilities: Vec<String>,
    pub restrictions: Vec<Clause>,
    pub rotation: Option<Rotation>,
    pub form: RequestedForm,
    pub application_name: String,
    pub strict: bool,
}

/// Reads the members.
///
/// # Errors
/// A member has the wrong type, a time is invalid, or a template is unknown.
pub fn read(members: &Map<String, Value>, templates: &Templates, now: i64, peer: IpAddr) -> ApiResult<MytokenRequest> {
    let response_type = match members.get("response_type").and_then(Value::as_str) {
        Some("short_token") => TokenForm::Short,
        Some("transfer_code") => TokenForm::Code,
        _ => TokenForm::Jwt,
    };
    let mut wanted = MytokenRequest {
        name: body::text(members, "name")?,
        capabilities: templates.capabilities(members.get("capabilities"))?,
        restrictions: templates.restrictions(members.get("restrictions"), now)?,
        rotation: templates.rotation(members.get("rotation"))?,
        form: RequestedForm { response_type, max_length: number(members.get("max_token_len"))?.unwrap_or(0) },
        application_name: body::text(members, "application_name")?,
        strict: members.get("error_on_restrictions") == Some(&Value::Bool(true)),
    };
    include_profiles(&mut wanted, members, templates, now)?;
    for clause in &mut wanted.restrictions {
        if let Some(entries) = &mut clause.hosts {
            hosts::resolve_this(entries, peer);
        }
    }
    Ok(wanted)
}

/// Combines profiles with the members of the request, as the original does (MT-53).
fn include_profiles(
    wanted: &mut MytokenRequest,
    members: &Map<String, Value>,
    templates: &Templates,
    now: i64,
) -> ApiResult<()> {
    let mut profiles = Vec::new();
    for name in capabilities::names(members.get("include")) {
        profiles.push(templates.profile(&name, now)?);
    }
    let rotation = profiles.iter().find_map(|profile| profile.rotation);
    if rotation.is_some() && wanted.rotation.is_some() {
        wanted.capabilities.clear();
        wanted.restrictions.clear();
        wanted.rotation = None;
        return Ok(());
    }
    wanted.rotation = wanted.rotation.or(rotation);
    if let Some(first) = profiles.iter().find(|profile| !profile.restrictions.is_empty()) {
        wanted.restrictions.extend(first.restrictions.iter().cloned());
    }
    for capability in profiles.into_iter().flat_map(|profile| profile.capabilities) {
        if !wanted.capabilities.contains(&capability) {
            wanted.capabilities.push(capability);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wanted(request: &Value) -> ApiResult<MytokenRequest> {
        let members = request.as_object().unwrap();
        read(members, &Templates::default(), 1000, std::net::Ipv4Addr::LOCALHOST.into())
    }

    #[test]
    fn restrictions_may_be_one_clause_a_list_or_null() {
        for (restrictions, expected) in [
            (json!([{"exp": "+1h"}]), json!([{"exp": 4600}])),
            (json!({"exp": 5}), json!([{"exp": 5}])),
            (json!([{}]), json!([])),
            (json!([{"ip": ["192.0.2.1"]}]), json!([])),
            (json!([{"audience": []}]), json!([{}])),
            (json!([{"hosts": ["This"]}]), json!([{"hosts": ["127.0.0.1"]}])),
            (json!(null), json!([])),
        ] {
            assert_eq!(json!(wanted(&json!({"restrictions": restrictions})).unwrap().restrictions), expected);
        }
        for bad in
            [json!([{"exp": 1.5}]), json!([{"scope": ["a"]}]), json!([{"audience": "a"}]), json!("name"), json!(5)]
        {
            assert!(wanted(&json!({"restrictions": bad})).is_err(), "{bad}");
        }
    }

    #[test]
    fn max_token_len_overrides_response_type() {
        let form = |request: Value| wanted(&request).unwrap().form.choose(700, 64);
        assert_eq!(form(json!({})), TokenForm::Jwt);
        assert_eq!(form(json!({"response_type": "auto"})), TokenForm::Jwt);
        assert_eq!(form(json!({"response_type": "short_token"})), TokenForm::Short);
        assert_eq!(form(json!({"response_type": "short_token", "max_token_len": 5000})), TokenForm::Jwt);
        assert_eq!(form(json!({"max_token_len": 64})), TokenForm::Short);
        assert_eq!(form(json!({"max_token_len": 63})), TokenForm::Code);
        assert_eq!(form(json!({"max_token_len": -1})), TokenForm::Jwt);
    }
}
