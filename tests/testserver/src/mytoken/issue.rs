// SPDX-License-Identifier: MIT OR Apache-2.0
//! Issues mytokens, in the requested form.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::mytoken::answer::ApiResult;
use crate::mytoken::model::clauses::{earliest_nbf, latest_exp};
use crate::mytoken::model::codes::{self, CODE_LIFETIME, SHORT_LENGTH};
use crate::mytoken::model::jwt::{MytokenClaims, subject};
use crate::mytoken::model::mytoken_request::{MytokenRequest, RequestedForm, TokenForm};
use crate::mytoken::model::store::{HistoryEvent, ServerState, ShortToken, TokenRow, seal};
use crate::mytoken::server::{RequestContext, Server};
use crate::mytoken::successor::token_members;

/// The origin of a new token: the user at the provider, the refresh token and the parent.
pub(crate) struct Origin {
    pub oidc_sub: String,
    pub oidc_iss: String,
    pub auth_time: i64,
    pub refresh: u64,
    pub parent: Option<String>,
}

impl Server {
    /// Creates a token and stores its row.
    pub(crate) fn create(
        &self,
        state: &mut ServerState,
        context: &RequestContext<'_>,
        wanted: &MytokenRequest,
        origin: Origin,
        events: Vec<HistoryEvent>,
    ) -> ApiResult<(MytokenClaims, String)> {
        let exp = latest_exp(&wanted.restrictions);
        let claims = MytokenClaims {
            ver: "0.7".into(),
            token_type: "mytoken".into(),
            iss: self.config.issuer.clone(),
            sub: subject(&origin.oidc_sub, &origin.oidc_iss),
            exp: (exp != 0).then_some(exp),
            nbf: earliest_nbf(&wanted.restrictions).max(context.now),
            iat: context.now,
            auth_time: origin.auth_time,
            jti: codes::uuid()?,
            seq_no: 1,
            name: wanted.name.clone(),
            aud: self.config.issuer.clone(),
            oidc_sub: origin.oidc_sub,
            oidc_iss: origin.oidc_iss,
            restrictions: wanted.restrictions.clone(),
            capabilities: wanted.capabilities.clone(),
            rotation: wanted.rotation,
        };
        let jwt = self.key.sign(&claims)?;
        let token = TokenRow {
            jti: claims.jti.clone(),
            mom_id: codes::mom_id(&claims.jti),
            row: state.next_number(),
            parent: origin.parent,
            refresh: origin.refresh,
            name: wanted.name.clone(),
            created: context.now,
            ip: context.ip(),
            exp,
            seq_no: 1,
            renewed: context.now,
            sealed: seal(&jwt),
            rotation: wanted.rotation,
            oidc_sub: claims.oidc_sub.clone(),
            oidc_iss: claims.oidc_iss.clone(),
            used: HashMap::new(),
            events,
        };
        state.tokens.insert(token.jti.clone(), token);
        Ok((claims, jwt))
    }

    /// The members of an answer with the token in the requested form.
    pub(crate) fn in_requested_form(
        &self,
        state: &mut ServerState,
        claims: &MytokenClaims,
        jwt: &str,
        form: RequestedForm,
        now: i64,
    ) -> ApiResult<Map<String, Value>> {
        let mut members = token_members(claims, now);
        match form.choose(jwt.len(), SHORT_LENGTH) {
            TokenForm::Jwt => {
                members.insert("mytoken".into(), json!(jwt));
                members.insert("mytoken_type".into(), json!("token"));
            }
            TokenForm::Short => {
                let short = codes::letters(SHORT_LENGTH)?;
                state.shorts.insert(short.clone(), ShortToken { jwt: jwt.to_owned(), jti: claims.jti.clone() });
                members.insert("mytoken".into(), json!(short));
                members.insert("mytoken_type".into(), json!("short_token"));
            }
            TokenForm::Code => {
                let code = state.add_code(jwt.to_owned(), claims.jti.clone(), true, now)?;
                members.insert("transfer_code".into(), json!(code));
                members.insert("mytoken_type".into(), json!("transfer_code"));
                members.insert("expires_in".into(), json!(CODE_LIFETIME));
            }
        }
        Ok(members)
    }
}
