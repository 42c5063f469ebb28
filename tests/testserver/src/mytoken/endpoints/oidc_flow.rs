// SPDX-License-Identifier: MIT OR Apache-2.0
//! The start of a login (MT-26, MT-32).

use serde_json::{Map, Value, json};

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::body;
use crate::mytoken::model::clauses::without_duplicates;
use crate::mytoken::model::codes::{self, CODE_LENGTH, CODE_LIFETIME};
use crate::mytoken::model::mytoken_request;
use crate::mytoken::model::store::{CodeRecord, CodeState, PendingLogin};
use crate::mytoken::server::{RequestContext, Server};

/// The polling interval in the answer, in seconds.
const INTERVAL: i64 = 5;

impl Server {
    pub(crate) fn start_login(
        &self,
        context: &RequestContext<'_>,
        members: &Map<String, Value>,
    ) -> ApiResult<Response> {
        match members.get("oidc_flow") {
            None | Some(Value::Null) => {}
            Some(Value::String(flow)) if flow == "authorization_code" => {}
            Some(Value::String(flow)) => {
                return Err(ApiError::invalid_request(format!("value '{flow}' not valid for OIDCFlow")));
            }
            Some(other) => return Err(body::type_mismatch(other, "Go value of type string")),
        }
        let mut state = self.state();
        state.remove_expired(context.now);
        let mut wanted = mytoken_request::read(members, &state.templates, context.now, context.request.peer)?;
        wanted.restrictions = without_duplicates(wanted.restrictions);
        let upstream = self.find_upstream(&body::text(members, "oidc_issuer")?)?;
        let expired = |exp: i64| exp != 0 && exp < context.now;
        if !wanted.restrictions.is_empty() && wanted.restrictions.iter().all(|clause| expired(clause.exp)) {
            return Err(ApiError::invalid_request("token would already be expired"));
        }
        let web = body::text(members, "client_type")? == "web";
        let redirect_uri = body::text(members, "redirect_uri")?;
        if web && redirect_uri.is_empty() {
            return Err(ApiError::invalid_request("parameter redirect_uri must be given for client_type=web"));
        }
        let consent_code = codes::letters(CODE_LENGTH)?;
        let polling_code = if web { None } else { Some(codes::letters(CODE_LENGTH)?) };
        let expires = context.now + CODE_LIFETIME;
        if let Some(code) = &polling_code {
            let pending = CodeState::Pending(consent_code.clone());
            state.codes.insert(code.clone(), CodeRecord { state: pending, expires, fresh: true });
        }
        let login = PendingLogin {
            upstream,
            wanted,
            polling_code: polling_code.clone(),
            redirect_uri: web.then_some(redirect_uri),
            state: codes::opaque::<24>()?,
            verifier: codes::opaque::<32>()?,
            expires,
        };
        let consent_uri = format!("{}/c/{consent_code}", self.config.issuer);
        state.logins.insert(consent_code, login);
        let mut answer = Map::new();
        answer.insert("consent_uri".into(), json!(consent_uri));
        if let Some(code) = polling_code {
            answer.insert("polling_code".into(), json!(code));
            answer.insert("expires_in".into(), json!(CODE_LIFETIME));
            answer.insert("interval".into(), json!(INTERVAL));
        }
        Ok(Response::json(200, &Value::Object(answer)))
    }

    /// The index of the provider with this issuer URL; a trailing slash is ignored (MT-32).
    pub(crate) fn find_upstream(&self, issuer: &str) -> ApiResult<usize> {
        let trimmed = issuer.trim_end_matches('/');
        self.upstreams
            .iter()
            .position(|upstream| !trimmed.is_empty() && upstream.info.issuer.trim_end_matches('/') == trimmed)
            .ok_or_else(ApiError::unsupported_issuer)
    }
}
