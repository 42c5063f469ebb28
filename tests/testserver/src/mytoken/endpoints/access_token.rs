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

/// A request that passed all checks, with what is sent to the provider.
struct CheckedRequest {
    presented: PresentedMytoken,
    /// Key of the clause that is charged.
    clause_key: Option<String>,
    refresh: Refresh,
    /// Number of that refresh token.
    refresh_number: u64,
    scope: String,
    audience: Vec<String>,
}

impl Server {
    pub(crate) fn access_token(&self, context: &RequestContext<'_>, empty_token: bool) -> ApiResult<Response> {
        let asked = self.read_access_request(context)?;
        let checked = self.check_request(context, &asked)?;
        let mut form = vec![
            ("grant_type".to_owned(), "refresh_token".to_owned()),
            ("refresh_token".to_owned(), checked.refresh.token.clone()),
            ("scope".to_owned(), checked.scope.clone()),
        ];
        form.extend(checked.audience.iter().map(|audience| ("resource".to_owned(), audience.clone())));
        let upstream = self.upstream(checked.refresh.upstream)?;
        // The lock is not held here: the provider may be slow, and in the original parallel uses overlap (MT-16).
        // Without an answer the server returns 500 and counts nothing (MT-13).
        let answer = upstream
            .link
            .token(&form)
            .map_err(|reason| ApiError::internal(format!("Post \"{}\": {reason}", upstream.info.issuer)))?;
        let granted = if empty_token { TokenAnswer::default() } else { TokenAnswer::read(&answer)? };
        if granted.access_token.is_empty() && !self.config.quirks.empty_access_token {
            return Err(ApiError::new(555, "oidc_error", "the provider gave no access token"));
        }
        self.issue_access_token(context, &checked, &granted)
    }

    fn read_access_request(&self, context: &RequestContext<'_>) -> ApiResult<AccessTokenRequest> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        match body::fields(context.request, "pkg.AccessTokenRequest")? {
            Fields::Json(members) => {
                check_grant_type(members.get("grant_type").filter(|grant| !grant.is_null()), "")?;
                Ok(AccessTokenRequest {
                    token: member_or_alias(members.get("mytoken"), members.get("refresh_token")),
                    issuer: body::text(&members, "oidc_issuer")?,
                    scope: body::text(&members, "scope")?,
                    audience: words(&body::text(&members, "audience")?),
                })
            }
            Fields::Form(form) => {
                let value = |name| body::last(&form, name).map(|text| json!(text));
                let decode = "failed to decode: schema: error converting value for";
                check_grant_type(value("grant_type").as_ref(), &format!("{decode} \"grant_type\". Details: "))?;
                if body::last(&form, "mytoken") == Some("") && self.config.quirks.empty_token_is_error {
                    return Err(ApiError::invalid_request(format!("{decode} \"mytoken\". Details: token not valid")));
                }
                Ok(AccessTokenRequest {
                    token: member_or_alias(value("mytoken").as_ref(), value("refresh_token").as_ref()),
                    issuer: body::last(&form, "issuer").unwrap_or_default().to_owned(),
                    scope: body::last(&form, "scope").unwrap_or_default().to_owned(),
                    audience: words(body::last(&form, "audience").unwrap_or_default()),
                })
            }
        }
    }

    /// All checks, in the order of the original.
    fn check_request(&self, context: &RequestContext<'_>, asked: &AccessTokenRequest) -> ApiResult<CheckedRequest> {
        let credential = self.credential(asked.token.as_ref(), false, context.request)?;
        let mut state = self.state();
        let presented = self.verify_token(&state, &credential, context.now)?;
        let token = state.live_row(&presented.claims, context.now)?.clone();
        Self::require_capability(&presented, "AT")?;
        let wanted = Use::AccessToken { scope: &asked.scope, audience: &asked.audience };
        let clause = self.select_clause(&presented, &token, wanted, context)?;
        if !asked.issuer.is_empty() && asked.issuer != presented.claims.oidc_iss {
            return Err(ApiError::wrong_issuer());
        }
        let refresh = state
            .refresh
            .get(&token.refresh)
            .cloned()
            .ok_or_else(|| ApiError::invalid_token("no refresh token attached"))?;
        if token.sealed != seal(&presented.jwt) {
            return Err(ApiError::outdated_jwt());
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
        let clause_key = clause.map(|clause| clause.key());
        Ok(CheckedRequest { presented, clause_key, refresh, refresh_number: token.refresh, scope, audience })
    }

    /// Counts the use, rotates the token and answers.
    fn issue_access_token(
        &self,
        context: &RequestContext<'_>,
        checked: &CheckedRequest,
        granted: &TokenAnswer,
    ) -> ApiResult<Response> {
        let claims = &checked.presented.claims;
        let rotates = claims.rotation.is_some_and(|rotation| rotation.on_at);
        self.refuse_short_token(&checked.presented, rotates)?;
        let mut state = self.state();
        if let (Some(new), Some(refresh)) = (&granted.refresh_token, state.refresh.get_mut(&checked.refresh_number)) {
            refresh.token.clone_from(new);
        }
        let mut update = None;
        if let Some(token) = state.tokens.get_mut(&claims.jti) {
            if let Some(key) = &checked.clause_key {
                token.used.entry(key.clone()).or_default().at += 1;
            }
            token.events.push(context.event("AT_created", "Used grant_type mytoken"));
            if rotates {
                update = Some(self.rotate(&mut state, &checked.presented, context)?);
            }
        }
        let mut members = Map::new();
        members.insert("access_token".into(), json!(granted.access_token));
        members.insert("token_type".into(), json!(granted.token_type));
        members.insert("expires_in".into(), json!(granted.expires_in));
        members.insert("scope".into(), json!(granted.scope.as_ref().unwrap_or(&checked.scope)));
        if let Some(audience) = granted.audience().filter(|audience| !audience.is_empty()) {
            members.insert("audience".into(), json!(audience));
        }
        Ok(with_update(200, members, update))
    }
}

/// The member `mytoken` if present, else its alias.
fn member_or_alias(mytoken: Option<&Value>, alias: Option<&Value>) -> Option<Value> {
    mytoken.or(alias).cloned()
}

/// Checks the grant type. An unknown grant type and one of another endpoint give different errors.
fn check_grant_type(value: Option<&Value>, prefix: &str) -> ApiResult<()> {
    const KNOWN: [&str; 6] = ["mytoken", "oidc_flow", "polling_code", "transfer_code", "ssh", "refresh_token"];
    match value {
        None => Err(ApiError::unsupported_grant_type()),
        Some(Value::String(grant)) if matches!(grant.as_str(), "mytoken" | "refresh_token") => Ok(()),
        Some(Value::String(grant)) if KNOWN.contains(&grant.as_str()) => Err(ApiError::unsupported_grant_type()),
        Some(Value::String(grant)) => {
            Err(ApiError::invalid_request(format!("{prefix}value '{grant}' not valid for GrantType")))
        }
        Some(other) => Err(body::type_mismatch(other, "Go value of type string")),
    }
}
