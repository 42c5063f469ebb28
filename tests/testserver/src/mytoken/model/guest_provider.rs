// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server's own provider for guests (MT-54): its token endpoint.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use sha3::{Digest, Sha3_256};

use crate::http::Response;
use crate::locked;
use crate::mytoken::body;
use crate::mytoken::model::codes;
use crate::mytoken::model::upstream::Upstream;
use crate::provider::link::{ProviderInfo, TokenEndpoint};

/// Path of the provider below the instance.
pub(crate) const PATH: &str = "/api/v0/guests";

/// Its entry in the list of providers.
pub(crate) fn upstream(issuer: &str) -> Upstream {
    let own = format!("{issuer}{PATH}");
    Upstream {
        name: "Guest Mode".into(),
        info: ProviderInfo {
            authorization_endpoint: format!("{own}/auth"),
            issuer: own,
            client_id: "guest".into(),
            scopes: vec!["openid".into()],
        },
        link: Arc::new(GuestProvider::default()),
    }
}

/// Codes are the guest's address in base64url: guests have no secrets.
#[derive(Default)]
struct GuestProvider {
    refresh: Mutex<HashSet<String>>,
}

impl TokenEndpoint for GuestProvider {
    fn token(&self, form: &[(String, String)]) -> Result<Response, String> {
        let bad = || Ok(Response::json(400, &json!({"error": "invalid_grant"})));
        let random = || codes::opaque::<48>().map_err(|problem| problem.description.unwrap_or_default());
        let mut known = locked(&self.refresh);
        let mut answer = json!({"access_token": random()?, "expires_in": 600, "scope": "openid"});
        let Some(members) = answer.as_object_mut() else { return bad() };
        match body::last(form, "grant_type") {
            Some("authorization_code") => {
                let code = body::last(form, "code").and_then(|code| URL_SAFE_NO_PAD.decode(code).ok());
                let Some(address) = code.and_then(|code| String::from_utf8(code).ok()) else { return bad() };
                let subject = format!("guest-{}", STANDARD.encode(Sha3_256::digest(address)));
                let id_token = URL_SAFE_NO_PAD.encode(json!({"sub": subject}).to_string());
                let refresh = random()?;
                known.insert(refresh.clone());
                members.insert("refresh_token".into(), json!(refresh));
                members.insert("id_token".into(), json!(format!("e30.{id_token}.")));
            }
            Some("refresh_token") if body::last(form, "refresh_token").is_some_and(|token| known.contains(token)) => {}
            _ => return bad(),
        }
        Ok(Response::json(200, &answer))
    }

    fn revoke(&self, form: &[(String, String)]) -> Result<Response, String> {
        let mut known = locked(&self.refresh);
        if let Some(token) = body::last(form, "token") {
            known.remove(token);
        }
        Ok(Response::empty(200))
    }
}
