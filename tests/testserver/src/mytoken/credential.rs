// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the mytoken of a request and verifies it (MT-03, MT-08).

use serde_json::Value;

use crate::http::Request;
use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::body;
use crate::mytoken::model::codes::SHORTEST_TOKEN;
use crate::mytoken::model::jwt::{MytokenClaims, looks_like_jwt};
use crate::mytoken::model::store::ServerState;
use crate::mytoken::server::Server;

/// A mytoken with a valid signature and valid times. It may still be revoked or rotated.
#[derive(Debug, Clone)]
pub(crate) struct PresentedMytoken {
    /// The JWT: as sent, or the one that the short token stands for.
    pub jwt: String,
    /// Whether it came as a short token.
    pub short: bool,
    /// Its claims.
    pub claims: MytokenClaims,
}

impl Server {
    /// The token of the request: from the body member, otherwise from the header, otherwise from the cookie. At most
    /// endpoints an empty member is an error; at the others (`lenient`) it counts as absent.
    pub(crate) fn credential(&self, member: Option<&Value>, lenient: bool, request: &Request) -> ApiResult<String> {
        let lenient = lenient || !self.config.quirks.empty_token_is_error;
        match member {
            None => {}
            Some(Value::Null) if lenient => {}
            Some(Value::String(text)) if text.is_empty() && lenient => {}
            Some(Value::Null) => return Err(ApiError::invalid_request("token not valid")),
            Some(Value::String(text)) if text.len() < SHORTEST_TOKEN => {
                return Err(ApiError::invalid_request("token not valid"));
            }
            Some(Value::String(text)) => return Ok(text.clone()),
            Some(other) => return Err(body::type_mismatch(other, "Go value of type string")),
        }
        let token = bearer(request)
            .or_else(|| cookie(request))
            .ok_or_else(|| ApiError::invalid_token("no mytoken found in request"))?;
        if token.len() < SHORTEST_TOKEN {
            return Err(ApiError::invalid_token("token not valid"));
        }
        Ok(token)
    }

    /// Resolves a short token and checks signature and times.
    pub(crate) fn verify_token(&self, state: &ServerState, token: &str, now: i64) -> ApiResult<PresentedMytoken> {
        let presented = self.verify_signature(state, token)?;
        check_times(&presented.claims, now, true)?;
        Ok(presented)
    }

    /// Resolves a short token and checks the signature only.
    pub(crate) fn verify_signature(&self, state: &ServerState, token: &str) -> ApiResult<PresentedMytoken> {
        if looks_like_jwt(token) {
            return Ok(PresentedMytoken { claims: self.key.verify(token)?, jwt: token.to_owned(), short: false });
        }
        let jwt = state
            .shorts
            .get(token)
            .map(|short| &short.jwt)
            .ok_or_else(|| ApiError::invalid_token("token contains an invalid number of segments"))?;
        Ok(PresentedMytoken { claims: self.key.verify(jwt)?, jwt: jwt.clone(), short: true })
    }
}

/// Checks the times of the claims, without leeway.
pub(crate) fn check_times(claims: &MytokenClaims, now: i64, with_nbf: bool) -> ApiResult<()> {
    if let Some(exp) = claims.exp.filter(|exp| now > *exp) {
        return Err(ApiError::invalid_token(format!("token is expired by {}s", now.saturating_sub(exp))));
    }
    if claims.iat > now {
        return Err(ApiError::invalid_token("Token used before issued"));
    }
    if with_nbf && claims.nbf > now {
        return Err(ApiError::invalid_token("token is not valid yet"));
    }
    Ok(())
}

/// The Bearer token of the header `Authorization`.
fn bearer(request: &Request) -> Option<String> {
    let (scheme, token) = request.header("Authorization")?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

/// The cookie `mytoken`.
pub(crate) fn cookie(request: &Request) -> Option<String> {
    request
        .header("Cookie")?
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == "mytoken" && !value.is_empty())
        .map(|(_, value)| value.to_owned())
}
