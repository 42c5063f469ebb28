// SPDX-License-Identifier: MIT OR Apache-2.0
//! Revocation of a token by itself (dossier `mytoken-protocol` 8).

use serde::Serialize;

use super::Server;
use super::call::{Context, Repeat};
use crate::http::ANSWER_LIMIT;
use crate::{Deadline, Error, Secret};

#[derive(Serialize)]
struct Body<'a> {
    token: &'a Secret,
    recursive: bool,
}

impl Server<'_> {
    /// Revokes a mytoken, or a code and (for the code of a new token) the token behind it. Needs no capability. Unknown and dead
    /// tokens are a success. Without `recursive` the children survive.
    ///
    /// # Errors
    /// [`Error::NotOffered`] when the server has revocation switched off; [`Error::ServerFailed`] also for the outdated form of a
    /// token that has rotated; else what the server or network says.
    pub fn revoke(&self, token: &Secret, recursive: bool, deadline: Deadline) -> Result<(), Error> {
        super::usable(token)?;
        let endpoint = self.endpoint(self.discovery.revocation_endpoint.as_deref(), "revocation")?;
        let answer = self.post(endpoint, &Body { token, recursive }, Repeat::Harmless, ANSWER_LIMIT, deadline)?;
        match answer.status {
            200 | 204 => Ok(()),
            _ => Err(self.refusal(&answer, Context::Mytoken(""))),
        }
    }
}
