// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the server knows about a token (MT-48).

use serde::{Deserialize, Serialize};

use super::call::{Context, Repeat};
use super::{OnRotation, Server, access};
use crate::capabilities::{TOKENINFO_HISTORY, TOKENINFO_INTROSPECT};
use crate::http::{ANSWER_LIMIT, DOCUMENT_LIMIT};
use crate::server::ServerError;
use crate::token::MytokenClaims;
use crate::{Deadline, Error, Secret};

/// The server's word about a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Introspection {
    /// Whether it is valid. In practice an invalid token is refused with 401 instead.
    pub valid: bool,
    /// `token` or `short_token`.
    #[serde(default)]
    pub token_type: String,
    /// Public handle.
    #[serde(default)]
    pub mom_id: String,
    /// All claims; clauses that were used carry their counters.
    #[serde(rename = "token")]
    pub claims: MytokenClaims,
}

/// Something that was done with a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HistoryEvent {
    /// `AT_created`, `created`, `revoked`, ...: an open set.
    pub event: String,
    /// Unix seconds.
    pub time: u64,
    /// What the one who did it said.
    #[serde(default)]
    pub comment: Option<String>,
    /// From where.
    #[serde(default)]
    pub ip: Option<String>,
    /// With what.
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
    /// `null` when empty.
    #[serde(default)]
    events: Option<Vec<HistoryEvent>>,
}

impl Server<'_> {
    /// Asks for a token's claims. Counts nothing, never rotates; needs `tokeninfo:introspect`.
    ///
    /// # Errors
    /// [`ServerError::TokenRefused`] when the token is not valid; else what the server or network says.
    pub fn introspect(&self, mytoken: &Secret, deadline: Deadline) -> Result<Introspection, Error> {
        super::usable(mytoken)?;
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

    /// Asks for what was done with a token, newest first. Counts a use and may rotate when the token is restricted.
    ///
    /// # Errors
    /// What the server or network says.
    pub fn history(
        &self,
        mytoken: &Secret,
        on_rotation: OnRotation<'_>,
        deadline: Deadline,
    ) -> Result<Vec<HistoryEvent>, Error> {
        super::usable(mytoken)?;
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
