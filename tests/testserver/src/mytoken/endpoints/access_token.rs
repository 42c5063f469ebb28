// SPDX-License-Identifier: MIT OR Apache-2.0
//! The access token endpoint (MT-09 to MT-14).

use serde_json::{Map, Value, json};

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::body::{self, Fields};
use crate::mytoken::credential::PresentedMytoken;
use crate::mytoken::model::clauses::Use;
use crate::mytoken::model::store::{Refresh, seal};
use crate::mytoken::model::token_answer::TokenAnswer;
use crate::mytoken::server::{RequestContext, Server};
use crate::mytoken::successor::with_update;

/// A request, from JSON or a form.
struct AccessTokenRequest {
    token: Option<Value>,
    issuer: String,
    scope: String,
    audience: Vec<String>,
}

/// What follows from the checks, before the provider is asked.
struct CheckedRequest {
    presented: PresentedMytoken,
    key: Option<String>,
    refresh: Refresh,
    number: u64,
    scope: String,
    audience: Vec<String>,
}

impl Server {
    pub(crate) fn access_token(&self, context: &RequestContext<'_>, unusable: bool) -> ApiResult<Response> {
        let asked = self.read_access_request(context)?;
        let plan = self.plan(context, &asked)?;
        let mut form = vec![
            ("grant_type".to_owned(), "refresh_token".to_owned()),
            ("refresh_token".to_owned(), plan.refresh.token.clone()),
            ("scope".to_owned(), plan.scope.clone()),
        ];
        form.extend(plan.audience.iter().map(|audience| ("resource".to_owned(), audience.clone())));
        let upstream = self.upstream(plan.refresh.upstream)?;
        // The lock is not held here: the provider may be slow, and parallel uses really overlap in the original
        // (MT-16).
        // MT-13: no answer is a 500, and nothing is counted.
        let answer = upstream
            .link
            .token(&form)
            .map_err(|reason| ApiError::internal(format!("Post \"{}\": {reason}", upstream.info.issuer)))?;
        let granted = if unusable { TokenAnswer::default() } else { TokenAnswer::read(&answer)? };
        if granted.access_token.is_empty() && !self.config.quirks.empty_access_token {
            return Err(ApiError::new(555, "oidc_error", "the provider gave no access token"));
        }
        self.hand_out(context, &plan, &granted)
    }

    fn read_access_request(&self, context: &RequestContext<'_>) -> ApiResult<AccessTokenRequest> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        match body::fields(context.request, "pkg.AccessTokenRequest")? {
            Fields::Json(members) => {
                grant(members.get("grant_type").filter(|grant| !grant.is_null()), "")?;
                Ok(AccessTokenRequest {
                    token: either(members.get("mytoken"), members.get("refresh_token")),
                    issuer: body::text(&members, "oidc_issuer")?,
                    scope: body::text(&members, "scope")?,
                    audience: words(&body::text(&members, "audience")?),
                })
            }
            Fields::Form(form) => {
                let value = |name| body::last(&form, name).map(|text| json!(text));
                let decode = "failed to decode: schema: error converting value for";
                grant(value("grant_type").as_ref(), &format!("{decode} \"grant_type\". Details: "))?;
                if body::last(&form, "mytoken") == Some("") && self.config.quirks.empty_token_is_error {
                    return Err(ApiError::request(format!("{decode} \"mytoken\". Details: token not valid")));
                }
                Ok(AccessTokenRequest {
                    token: either(value("mytoken").as_ref(), value("refresh_token").as_ref()),
                    issuer: body::last(&form, "issuer").unwrap_or_default().to_owned(),
                    scope: body::last(&form, "scope").unwrap_or_default().to_owned(),
                    audience: words(body::last(&form, "audience").unwrap_or_default()),
                })
            }
        }
    }

    /// All checks, in the order of the original.
    fn plan(&self, context: &RequestContext<'_>, asked: &AccessTokenRequest) -> ApiResult<CheckedRequest> {
        let credential = self.credential(asked.token.as_ref(), false, context.request)?;
        let mut state = self.state();
        let presented = self.present(&state, &credential, context.now)?;
        let token = state.live(&presented.claims, context.now)?.clone();
        Self::require(&presented, "AT")?;
        let wanted = Use::AccessToken { scope: &asked.scope, audience: &asked.audience };
        let clause = self.clause(&presented, &token, wanted, context)?;
        if !asked.issuer.is_empty() && asked.issuer != presented.claims.oidc_iss {
            return Err(ApiError::issuer());
        }
        let refresh =
            state.refresh.get(&token.refresh).cloned().ok_or_else(|| ApiError::token("no refresh token attached"))?;
        if token.sealed != seal(&presented.jwt) {
            return Err(ApiError::sealed());
        }
        let obeys = clause.is_some() || !self.config.quirks.unrestricted_ignores_request;
        let mut scope = if obeys { asked.scope.clone() } else { String::new() };
        if scope.is_empty() {
            scope = match &clause {
                Some(clause) if !clause.scope.is_empty() => clause.scope.clone(),
                _ => self.upstream(refresh.upstream)?.info.scopes.join(" "),
            };
        }
        if !scope.split_whitespace().any(|one| one == "offline_access") {
            scope.push_str(" offline_access");
        }
        let mut audience = if obeys { asked.audience.clone() } else { Vec::new() };
        if let (true, false, Some(clause)) = (audience.is_empty(), self.config.quirks.no_default_audience, &clause) {
            audience = clause.audience.clone().unwrap_or_default();
        }
        let key = clause.map(|clause| clause.key());
        Ok(CheckedRequest { presented, key, refresh, number: token.refresh, scope, audience })
    }

    /// Counts the use, rotates the token and answers.
    fn hand_out(
        &self,
        context: &RequestContext<'_>,
        plan: &CheckedRequest,
        granted: &TokenAnswer,
    ) -> ApiResult<Response> {
        let claims = &plan.presented.claims;
        let rotates = claims.rotation.is_some_and(|rotation| rotation.on_at);
        self.refuse_short(&plan.presented, rotates)?;
        let mut state = self.state();
        if let (Some(new), Some(refresh)) = (&granted.refresh_token, state.refresh.get_mut(&plan.number)) {
            refresh.token.clone_from(new);
        }
        let mut update = None;
        if let Some(token) = state.tokens.get_mut(&claims.jti) {
            if let Some(key) = &plan.key {
                token.used.entry(key.clone()).or_default().at += 1;
            }
            token.events.push(context.event("AT_created", "Used grant_type mytoken"));
            if rotates {
                update = Some(self.rotate(&mut state, &plan.presented, context)?);
            }
        }
        let mut members = Map::new();
        members.insert("access_token".into(), json!(granted.access_token));
        members.insert("token_type".into(), json!(granted.token_type));
        members.insert("expires_in".into(), json!(granted.expires_in));
        members.insert("scope".into(), json!(granted.scope.as_ref().unwrap_or(&plan.scope)));
        if let Some(audience) = granted.audience().filter(|audience| !audience.is_empty()) {
            members.insert("audience".into(), json!(audience));
        }
        Ok(with_update(200, members, update))
    }
}

/// The member `mytoken` if present, else its alias.
fn either(mytoken: Option<&Value>, alias: Option<&Value>) -> Option<Value> {
    mytoken.or(alias).cloned()
}

/// Checks the grant type: an unknown one is another error than a known one of another endpoint.
fn grant(value: Option<&Value>, prefix: &str) -> ApiResult<()> {
    const KNOWN: [&str; 6] = ["mytoken", "oidc_flow", "polling_code", "transfer_code", "ssh", "refresh_token"];
    match value {
        None => Err(ApiError::grant_type()),
        Some(Value::String(grant)) if matches!(grant.as_str(), "mytoken" | "refresh_token") => Ok(()),
        Some(Value::String(grant)) if KNOWN.contains(&grant.as_str()) => Err(ApiError::grant_type()),
        Some(Value::String(grant)) => {
            Err(ApiError::request(format!("{prefix}value '{grant}' not valid for GrantType")))
        }
        Some(other) => Err(body::type_mismatch(other, "Go value of type string")),
    }
}
