// SPDX-License-Identifier: MIT OR Apache-2.0
//! Introspection and history of a token (MT-48).

use serde::{Deserialize, Serialize};

use super::call::{Context, Repeat};
use super::{OnRotation, Server, access};
use crate::capabilities::{TOKENINFO_HISTORY, TOKENINFO_INTROSPECT};
use crate::http::{ANSWER_LIMIT, DOCUMENT_LIMIT};
use crate::server::ServerError;
use crate::token::MytokenClaims;
use crate::{Deadline, Error, Secret};

/// The result of an introspection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Introspection {
    /// Whether the token is valid. In practice the server refuses an invalid token with 401 instead.
    pub valid: bool,
    /// `token` or `short_token`.
    #[serde(default)]
    pub token_type: String,
    /// Public handle.
    #[serde(default)]
    pub mom_id: String,
    /// All claims. Clauses that were used have counters.
    #[serde(rename = "token")]
    pub claims: MytokenClaims,
}

/// An event in the history of a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HistoryEvent {
    /// `AT_created`, `created`, `revoked`, ...: an open set.
    pub event: String,
    /// Unix seconds.
    pub time: u64,
    /// The client's comment.
    #[serde(default)]
    pub comment: Option<String>,
    /// The client's address.
    #[serde(default)]
    pub ip: Option<String>,
    /// The client's program.
    #[serde(default)]
    pub user_agent: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    action: &'static str,
    mytoken: &'a Secret,
}

#[derive(Deserialize)]
struct History {
    /// `null` if there are none.
    #[serde(default)]
    events: Option<Vec<HistoryEvent>>,
}

impl Server<'_> {
    /// Requests a token's claims. The server counts no use and does not rotate the token. Needs `tokeninfo:introspect`.
    ///
    /// # Errors
    /// [`ServerError::TokenRefused`] if the token is not valid; else the error of the server or the network.
    pub fn introspect(&self, mytoken: &Secret, deadline: Deadline) -> Result<Introspection, Error> {
        super::check_not_empty(mytoken)?;
        let endpoint = self.endpoint(self.discovery.tokeninfo_endpoint.as_deref(), "introspection")?;
        let body = Body { action: "introspect", mytoken };
        let answer = self.post(endpoint, &body, Repeat::Harmless, ANSWER_LIMIT, deadline)?;
        if answer.status != 200 {
            return Err(self.refusal(&answer, Context::Mytoken(TOKENINFO_INTROSPECT)));
        }
        let said: Introspection = answer.json().map_err(|reason| self.not_understood(&answer, &reason))?;
        if said.valid && self.url.matches(&said.claims.iss) {
            return Ok(said);
        }
        Err(Error::Server(ServerError::TokenRefused { server: self.url.to_string() }))
    }

    /// Whether the server accepts a token: what it says of it, or `None` if the token may not ask that. The server looks at capabilities of
    /// valid tokens only, so that refusal shows that it is one. It counts no use and does not rotate the token.
    ///
    /// # Errors
    /// As [`Self::introspect`], but for [`ServerError::MissingCapability`].
    pub fn accepts(&self, mytoken: &Secret, deadline: Deadline) -> Result<Option<Introspection>, Error> {
        match self.introspect(mytoken, deadline) {
            Err(Error::Server(ServerError::MissingCapability { .. })) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Requests a token's history, newest event first. If the token is restricted, the server counts a use and may rotate it.
    ///
    /// # Errors
    /// The error of the server or the network.
    pub fn history(
        &self,
        mytoken: &Secret,
        on_rotation: OnRotation<'_>,
        deadline: Deadline,
    ) -> Result<Vec<HistoryEvent>, Error> {
        super::check_not_empty(mytoken)?;
        let endpoint = self.endpoint(self.discovery.tokeninfo_endpoint.as_deref(), "the history of tokens")?;
        let body = Body { action: "event_history", mytoken };
        let answer = self.post(endpoint, &body, access::repeat(mytoken), DOCUMENT_LIMIT, deadline)?;
        self.store_successor(&answer, on_rotation)?;
        if answer.status != 200 {
            return Err(self.refusal(&answer, Context::Mytoken(TOKENINFO_HISTORY)));
        }
        let history: History = answer.json().map_err(|reason| self.not_understood(&answer, &reason))?;
        Ok(history.events.unwrap_or_default())
    }
}
