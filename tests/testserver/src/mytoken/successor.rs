// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers with tokens in them, and the successors of rotating tokens (MT-43, MT-44).

use serde_json::{Map, Value, json};

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::credential::PresentedMytoken;
use crate::mytoken::model::capabilities;
use crate::mytoken::model::clauses::{Clause, NoClause, Use, earliest_nbf, latest_exp, select};
use crate::mytoken::model::codes::{self, SHORT_LENGTH};
use crate::mytoken::model::jwt::MytokenClaims;
use crate::mytoken::model::store::{ServerState, ShortToken, TokenRow, seal};
use crate::mytoken::server::{RequestContext, Server};

/// The members of every answer with a token, except the token itself.
pub(crate) fn token_members(claims: &MytokenClaims, now: i64) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("mom_id".into(), json!(codes::mom_id(&claims.jti)));
    if let Some(exp) = claims.exp.filter(|exp| *exp > now) {
        members.insert("expires_in".into(), json!(exp.saturating_sub(now)));
    }
    members.insert("capabilities".into(), json!(claims.capabilities));
    if !claims.restrictions.is_empty() {
        members.insert("restrictions".into(), json!(claims.restrictions));
    }
    if let Some(rotation) = &claims.rotation {
        members.insert("rotation".into(), json!(rotation));
    }
    members
}

/// A use other than for an access token. It is charged when it has succeeded.
pub(crate) struct UseToCharge {
    jti: String,
    key: Option<String>,
}

impl Server {
    /// Checks the capability.
    pub(crate) fn require_capability(presented: &PresentedMytoken, capability: &str) -> ApiResult<()> {
        if capabilities::has(&presented.claims.capabilities, capability) {
            return Ok(());
        }
        Err(ApiError::insufficient_capabilities())
    }

    /// The clause to which a use will be charged.
    pub(crate) fn select_clause(
        &self,
        presented: &PresentedMytoken,
        token: &TokenRow,
        wanted: Use<'_>,
        context: &RequestContext<'_>,
    ) -> ApiResult<Option<Clause>> {
        let panics = self.config.quirks.usages_other_panics;
        let clauses = &presented.claims.restrictions;
        match select(clauses, wanted, context.now, context.request.peer, panics, |clause| token.used(clause)) {
            Ok(clause) => Ok(clause.cloned()),
            Err(NoClause::Restricted) => Err(ApiError::usage_restricted()),
            Err(NoClause::Panic) => Err(ApiError::panic()),
        }
    }

    /// Selects the clause for a use other than for an access token. It is charged when the use has succeeded.
    pub(crate) fn begin_other_use(
        &self,
        presented: &PresentedMytoken,
        token: &TokenRow,
        context: &RequestContext<'_>,
    ) -> ApiResult<UseToCharge> {
        let clause = self.select_clause(presented, token, Use::Other, context)?;
        Ok(UseToCharge { jti: token.jti.clone(), key: clause.map(|clause| clause.key()) })
    }

    /// Charges the use, and rotates the token if its settings ask for it. A short token that has to rotate fails before
    /// anything is charged: the original deadlocks with itself and rolls back (MT-45).
    pub(crate) fn complete_other_use(
        &self,
        state: &mut ServerState,
        presented: &PresentedMytoken,
        to_charge: UseToCharge,
        context: &RequestContext<'_>,
    ) -> ApiResult<Option<Successor>> {
        let rotates = presented.claims.rotation.is_some_and(|rotation| rotation.on_other);
        self.refuse_short_token(presented, rotates)?;
        if let (Some(token), Some(key)) = (state.tokens.get_mut(&to_charge.jti), to_charge.key) {
            token.used.entry(key).or_default().other += 1;
        }
        if rotates { self.rotate(state, presented, context).map(Some) } else { Ok(None) }
    }

    /// Refuses a short token that has to rotate with a 500.
    pub(crate) fn refuse_short_token(&self, presented: &PresentedMytoken, rotates: bool) -> ApiResult<()> {
        if rotates && presented.short && self.config.quirks.short_tokens_cannot_rotate {
            return Err(ApiError::internal(
                "Error 1205 (HY000): Lock wait timeout exceeded; try restarting transaction",
            ));
        }
        Ok(())
    }

    /// Creates the successor of the presented token. Its number follows the presented token's, not the row's. So all
    /// overlapping uses get a successor, but only the last successor can decrypt the refresh token (MT-44).
    pub(crate) fn rotate(
        &self,
        state: &mut ServerState,
        presented: &PresentedMytoken,
        context: &RequestContext<'_>,
    ) -> ApiResult<Successor> {
        let mut claims = presented.claims.clone();
        claims.seq_no += 1;
        claims.iat = context.now;
        claims.nbf = earliest_nbf(&claims.restrictions).max(context.now);
        let lifetime = claims.rotation.map_or(0, |rotation| rotation.lifetime);
        claims.exp = match latest_exp(&claims.restrictions) {
            _ if lifetime > 0 => Some(context.now.saturating_add(lifetime)),
            0 => None,
            exp => Some(exp),
        };
        let jwt = self.key.sign(&claims)?;
        let event = context.event("token_rotated", "");
        let token = state.tokens.get_mut(&claims.jti).ok_or_else(ApiError::revoked)?;
        token.seq_no = claims.seq_no;
        token.renewed = context.now;
        token.exp = claims.exp.unwrap_or(0);
        token.sealed = seal(&jwt);
        token.events.push(event);
        let text = if presented.short {
            let short = codes::letters(SHORT_LENGTH)?;
            state.shorts.retain(|_, old| old.jwt != presented.jwt);
            state.shorts.insert(short.clone(), ShortToken { jwt, jti: claims.jti.clone() });
            short
        } else {
            jwt
        };
        let mut members = token_members(&claims, context.now);
        members.insert("mytoken_type".into(), json!(if presented.short { "short_token" } else { "token" }));
        members.insert("mytoken".into(), json!(text));
        Ok(Successor { members: Value::Object(members), cookie: self.cookie(&text) })
    }

    fn cookie(&self, token: &str) -> String {
        let host = url::Url::parse(&self.config.issuer)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        let secure = if self.config.issuer.starts_with("https:") { " secure;" } else { "" };
        format!("mytoken={token}; max-age=604800; domain={host}; path=/api; HttpOnly;{secure} SameSite=Strict")
    }
}

/// The successor of a token, as sent to the client.
pub(crate) struct Successor {
    members: Value,
    cookie: String,
}

/// An answer, with the successor if there is one.
pub(crate) fn with_update(status: u16, mut members: Map<String, Value>, update: Option<Successor>) -> Response {
    let Some(update) = update else {
        return Response::json(status, &Value::Object(members));
    };
    members.insert("token_update".into(), update.members);
    Response::json(status, &Value::Object(members)).with("Set-Cookie", update.cookie)
}
