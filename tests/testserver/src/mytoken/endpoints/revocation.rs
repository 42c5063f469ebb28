// SPDX-License-Identifier: MIT OR Apache-2.0
//! Revocation (MT-39 to MT-42).

use serde_json::{Map, Value};

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::body::{self, Fields};
use crate::mytoken::credential::cookie;
use crate::mytoken::model::capabilities;
use crate::mytoken::model::codes::SHORTEST_TOKEN;
use crate::mytoken::model::store::{CodeState, Refresh, seal};
use crate::mytoken::server::{RequestContext, Server};
use crate::mytoken::successor::with_update;

/// Deletes the token's cookie.
const CLEAR_COOKIE: &str = "mytoken=; expires=Thu, 01 Jan 1970 00:00:00 GMT; path=/api; HttpOnly; SameSite=Strict";

struct RevocationRequest {
    token: String,
    issuer: String,
    mom_id: String,
    recursive: bool,
}

impl Server {
    pub(crate) fn revocation(&self, context: &RequestContext<'_>) -> ApiResult<Response> {
        let mut asked = self.read_revocation(context)?;
        let from_cookie = asked.token.is_empty().then(|| cookie(context.request)).flatten();
        if let Some(token) = &from_cookie {
            asked.token.clone_from(token);
        }
        if asked.token.is_empty() {
            return Err(ApiError::invalid_request("no token given"));
        }
        if !asked.mom_id.is_empty() {
            return self.revoke_other(context, &asked);
        }
        if let Some(unused) = self.revoke_self(&asked)? {
            let form = [("token", unused.token), ("token_type_hint", "refresh_token".into())]
                .map(|(key, value)| (key.to_owned(), value));
            // The mytoken is revoked whatever the provider answers.
            let _answer = self.upstream(unused.upstream)?.link.revoke(&form);
        }
        let answer = Response::empty(204);
        Ok(if from_cookie.is_some() { answer.with("Set-Cookie", CLEAR_COOKIE) } else { answer })
    }

    fn read_revocation(&self, context: &RequestContext<'_>) -> ApiResult<RevocationRequest> {
        match body::fields(context.request, "api.RevocationRequest")? {
            Fields::Json(members) => Ok(RevocationRequest {
                token: body::text(&members, "token")?,
                issuer: body::text(&members, "oidc_issuer")?,
                mom_id: body::text(&members, "mom_id")?,
                recursive: members.get("recursive") == Some(&Value::Bool(true)),
            }),
            Fields::Form(form) => {
                let value = |name| body::last(&form, name).unwrap_or_default().to_owned();
                let token_only = self.config.quirks.form_revocation_ignores_mom_id;
                Ok(RevocationRequest {
                    token: value("token"),
                    issuer: if token_only { String::new() } else { value("oidc_issuer") },
                    mom_id: if token_only { String::new() } else { value("mom_id") },
                    recursive: matches!(value("recursive").as_str(), "true" | "1" | "on"),
                })
            }
        }
    }

    /// Revokes the given token. An unknown, expired or revoked token is no error. Returns the refresh token if no other
    /// token uses it.
    fn revoke_self(&self, asked: &RevocationRequest) -> ApiResult<Option<Refresh>> {
        let mut guard = self.state();
        let state = &mut *guard;
        if asked.token.len() < SHORTEST_TOKEN {
            let Some(code) = state.codes.remove(&asked.token) else {
                return Ok(None);
            };
            return Ok(match code.state {
                CodeState::Ready { jti, .. } if code.fresh => state.revoke(&jti, true),
                CodeState::Pending(consent) => {
                    state.logins.remove(&consent);
                    None
                }
                _ => None,
            });
        }
        let Ok(presented) = self.verify_signature(state, &asked.token) else {
            return Ok(None);
        };
        if !asked.issuer.is_empty() && asked.issuer != presented.claims.oidc_iss {
            return Err(ApiError::wrong_issuer());
        }
        let Some(token) = state.tokens.get(&presented.claims.jti) else {
            return Ok(None);
        };
        if token.sealed != seal(&presented.jwt) && self.config.quirks.outdated_cannot_be_revoked {
            return Err(ApiError::outdated_jwt());
        }
        Ok(state.revoke(&presented.claims.jti, asked.recursive))
    }

    /// Revokes another token by its `mom_id`, without a request to the provider.
    fn revoke_other(&self, context: &RequestContext<'_>, asked: &RevocationRequest) -> ApiResult<Response> {
        let mut guard = self.state();
        let state = &mut *guard;
        if asked.token.len() < SHORTEST_TOKEN {
            return Err(ApiError::invalid_request("token not valid"));
        }
        let presented = self.verify_token(state, &asked.token, context.now).map_err(|problem| ApiError {
            status: 400,
            error: "invalid_request".into(),
            ..problem
        })?;
        let claims = &presented.claims;
        if !asked.issuer.is_empty() && asked.issuer != claims.oidc_iss {
            return Err(ApiError::wrong_issuer());
        }
        let target = state.by_mom_id(&asked.mom_id).cloned();
        let is_ancestor = target.as_ref().is_some_and(|target| state.is_self_or_ancestor(&claims.jti, target));
        if !is_ancestor && !capabilities::has(&claims.capabilities, "manage_mytokens:revoke") {
            return Err(ApiError::new(
                403,
                "insufficient_capabilities",
                "The provided token is neither a parent of the token to be revoked nor does it have the 'manage_mytokens:revoke' capability",
            ));
        }
        // The user is read from the row. A revoked token has no row.
        let user = state.tokens.get(&claims.jti).map(|token| (token.oidc_sub.clone(), token.oidc_iss.clone()));
        let target = target
            .filter(|target| user.as_ref().is_some_and(|(sub, iss)| *sub == target.oidc_sub && *iss == target.oidc_iss))
            .ok_or_else(|| {
                ApiError::new(403, "invalid_grant", "The provided token cannot be used to revoke this mom_id")
            })?;
        if target.jti == claims.jti {
            if self.config.quirks.own_mom_id_fails {
                return Err(ApiError::internal("Error 1452 (23000): Cannot add or update a child row"));
            }
            state.revoke(&target.jti, asked.recursive);
            return Ok(Response::empty(204));
        }
        let rotates = claims.rotation.is_some_and(|rotation| rotation.on_other)
            && state.tokens.get(&claims.jti).is_some_and(|token| token.seq_no == claims.seq_no);
        self.refuse_short_token(&presented, rotates)?;
        state.revoke(&target.jti, asked.recursive);
        if let Some(token) = state.tokens.get_mut(&claims.jti) {
            token.events.push(context.event("revoked_other_token", format!("mom_id: {}", asked.mom_id)));
        }
        if !rotates {
            return Ok(Response::empty(204));
        }
        let update = self.rotate(state, &presented, context)?;
        Ok(with_update(200, Map::new(), Some(update)))
    }
}
