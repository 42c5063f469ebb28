// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transfer codes: making one for an existing token (MT-35), redeeming one (MT-33).

use serde::{Deserialize, Serialize};

use super::call::{Context, Repeat};
use super::wire::{MytokenAnswer, seconds};
use super::{Grant, Granted, Server};
use crate::http::{ANSWER_LIMIT, HttpAnswer};
use crate::server::ServerError;
use crate::{Deadline, Error, Secret};

/// A one-time code for a token. The token's holder and the person who redeems the code share the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferCode {
    /// The code: 8 letters.
    pub code: Secret,
    /// Seconds until it expires.
    pub expires_in: u64,
}

#[derive(Serialize)]
struct Redeem<'a> {
    grant_type: &'static str,
    transfer_code: &'a Secret,
}

#[derive(Serialize)]
struct Make<'a> {
    mytoken: &'a Secret,
}

#[derive(Deserialize)]
struct Made {
    transfer_code: Secret,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
}

impl Server<'_> {
    /// Redeems a transfer code. This works only once, so store the mytoken before doing anything else.
    ///
    /// # Errors
    /// [`ServerError::CodeRefused`] if the code is unknown, used or too old; else the error of the server or the network.
    pub fn redeem(&self, code: &Secret, deadline: Deadline) -> Result<Granted, Error> {
        super::check_not_empty(code)?;
        let body = Redeem { grant_type: Grant::TransferCode.name(), transfer_code: code };
        let answer = self.post(&self.discovery.mytoken_endpoint, &body, Repeat::Never, ANSWER_LIMIT, deadline)?;
        self.granted(&answer)
    }

    /// Makes a code for a valid token. The server counts no use. To pass on fewer rights, make a child with
    /// [`super::Deliver::TransferCode`] instead.
    ///
    /// # Errors
    /// [`ServerError::NotOffered`] if transfer codes are disabled at the server; else the error of the server or the network.
    pub fn transfer_code(&self, mytoken: &Secret, deadline: Deadline) -> Result<TransferCode, Error> {
        super::check_not_empty(mytoken)?;
        let endpoint = self.endpoint(self.discovery.token_transfer_endpoint.as_deref(), "transfer codes")?;
        let answer = self.post(endpoint, &Make { mytoken }, Repeat::Harmless, ANSWER_LIMIT, deadline)?;
        if answer.status != 200 {
            return Err(self.refusal(&answer, Context::Mytoken("")));
        }
        let made: Made = answer.json().map_err(|reason| self.not_understood(&answer, &reason))?;
        if made.transfer_code.is_empty() {
            return Err(self.not_understood(&answer, "an empty code"));
        }
        Ok(TransferCode { code: made.transfer_code, expires_in: made.expires_in.unwrap_or_default() })
    }

    /// Reads the answer to a code: the mytoken.
    pub(super) fn granted(&self, answer: &HttpAnswer) -> Result<Granted, Error> {
        if answer.status != 200 {
            return Err(self.refusal(answer, Context::Code));
        }
        let said: MytokenAnswer = answer.json().map_err(|reason| self.not_understood(answer, &reason))?;
        said.granted(self.now()).map_err(|reason| self.not_understood(answer, &reason))
    }

    pub(super) fn endpoint<'e>(&self, endpoint: Option<&'e str>, what: &str) -> Result<&'e str, Error> {
        endpoint.ok_or_else(|| {
            Error::Server(ServerError::NotOffered { server: self.url.to_string(), what: what.to_owned() })
        })
    }
}
