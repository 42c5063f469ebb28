// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access tokens. Only the answer says which scope and audience were granted (MT-09). A status of 200 can come without a token (MT-12).

use serde::{Deserialize, Serialize};

use super::call::{Context, Repeat};
use super::wire::seconds;
use super::{OnRotation, Server};
use crate::http::{ANSWER_LIMIT, HttpAnswer};
use crate::server::ServerError;
use crate::token::{self, Jwt, Presented};
use crate::words::{broader_scope, same_set, single_blanks};
use crate::{Deadline, Error, Secret, capabilities};

/// A request for an access token.
#[derive(Debug, Clone, Copy)]
pub struct AccessTokenRequest<'a> {
    /// The mytoken: JWT or short token.
    pub mytoken: &'a Secret,
    /// Scopes, separated by blanks; empty: those of the first clause that allows the use.
    pub scope: &'a str,
    /// Audiences, separated by blanks. If it is empty, the provider chooses, even if the mytoken's clauses name some (MT-10). So name one.
    pub audience: &'a str,
    /// A comment for the server's log of access tokens.
    pub comment: &'a str,
}

/// An access token with the requested scope and audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The token.
    pub token: Secret,
    /// Remaining lifetime in seconds. `None`: unknown (MT-14); do not cache the token.
    pub expires_in: Option<u64>,
    /// Expiry in Unix seconds of this machine's clock.
    pub exp: Option<u64>,
    /// Granted scopes, separated by blanks.
    pub scope: String,
    /// Granted audiences; empty if the token is opaque.
    pub audience: Vec<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    grant_type: &'static str,
    mytoken: &'a Secret,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    audience: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    comment: &'a str,
}

#[derive(Deserialize)]
struct AccessAnswer {
    #[serde(default)]
    access_token: Option<Secret>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    audience: Option<Vec<String>>,
}

impl Server<'_> {
    /// Exchanges a mytoken for an access token. The server counts one use and replaces a rotating mytoken.
    ///
    /// # Errors
    /// [`ServerError::EmptyAccessToken`] if the provider is down (the use is counted, the successor is stored);
    /// [`ServerError::OtherAccessToken`] if scope or audience differ from the request; else the error of the server or the network.
    pub fn access_token(
        &self,
        request: &AccessTokenRequest<'_>,
        on_rotation: OnRotation<'_>,
        deadline: Deadline,
    ) -> Result<AccessToken, Error> {
        super::check_not_empty(request.mytoken)?;
        // MT-11: doubled blanks reach the provider, and some providers refuse them.
        let (scope, audience) = (single_blanks(request.scope), single_blanks(request.audience));
        let body = Body {
            grant_type: "mytoken",
            mytoken: request.mytoken,
            scope: &scope,
            audience: &audience,
            comment: request.comment,
        };
        let endpoint = &self.discovery.access_token_endpoint;
        let asked_at = self.clock.now();
        let answer = self.post(endpoint, &body, repeat(request.mytoken), ANSWER_LIMIT, deadline)?;
        self.store_successor(&answer, on_rotation)?;
        if answer.status != 200 {
            return Err(self.refusal(&answer, Context::Mytoken(capabilities::AT)));
        }
        self.granted_access(&answer, &scope, &audience, asked_at)
    }

    /// `asked_at`: when the request was sent, Unix seconds.
    fn granted_access(
        &self,
        answer: &HttpAnswer,
        scope: &str,
        audience: &str,
        asked_at: u64,
    ) -> Result<AccessToken, Error> {
        let said: AccessAnswer = answer.json().map_err(|reason| self.not_understood(answer, &reason))?;
        let token = said.access_token.filter(|token| !token.is_empty());
        let token =
            token.ok_or_else(|| Error::Server(ServerError::EmptyAccessToken { server: self.url.to_string() }))?;
        let granted_scope = single_blanks(said.scope.as_deref().unwrap_or_default());
        let granted_audience = said.audience.unwrap_or_default();
        let jwt = match token::classify(&token) {
            Presented::AccessToken(jwt) => Some(jwt),
            _ => None,
        };
        let other = |what| Error::Server(ServerError::OtherAccessToken { server: self.url.to_string(), what });
        if let Some(what) = different_scope(scope, &granted_scope) {
            return Err(other(what));
        }
        // The audience of an opaque token cannot be seen here: the resource server checks it.
        let audience_known = jwt.is_some() || !granted_audience.is_empty();
        if !audience.is_empty() && audience_known && !same_set(audience, &granted_audience) {
            return Err(other("audience".to_owned()));
        }
        // The end in the token is a time of the server's clock. The lifetime of the token limits what a wrong clock can add.
        let of_token = |jwt: &Jwt| {
            let left = jwt.unverified_exp?.saturating_sub(self.now());
            Some(jwt.unverified_lifetime().map_or(left, |lifetime| left.min(lifetime)))
        };
        let expires_in = said.expires_in.or_else(|| of_token(jwt.as_ref()?));
        Ok(AccessToken {
            token,
            expires_in,
            // The time of the request belongs to the token's life. Counted from the answer, the end could be too late.
            exp: expires_in.map(|seconds| asked_at.saturating_add(seconds)),
            scope: granted_scope,
            audience: granted_audience,
        })
    }
}

/// Whether a request with this mytoken may be repeated. A lost answer may have contained a successor, so a token that rotates, or may
/// rotate, is sent once. Only a JWT shows whether it rotates.
pub(super) fn repeat(mytoken: &Secret) -> Repeat {
    match token::unverified_claims(mytoken) {
        Some(claims) if !claims.unverified().rotates() => Repeat::Harmless,
        _ => Repeat::Never,
    }
}

/// How the granted scopes differ from the requested ones; `None` if they do not differ or none were requested.
fn different_scope(asked: &str, granted: &str) -> Option<String> {
    if asked.is_empty() {
        return None;
    }
    let granted: Vec<&str> = granted.split(' ').collect();
    let more = broader_scope(asked, granted.iter().copied());
    let less = asked.split(' ').find(|scope| !granted.contains(scope) && *scope != "offline_access");
    match (more, less) {
        (Some(_), _) => Some("scope (broader)".to_owned()),
        (None, Some(_)) => Some("scope (narrower)".to_owned()),
        (None, None) => None,
    }
}
