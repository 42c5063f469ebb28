// SPDX-License-Identifier: MIT OR Apache-2.0
//! Revokes a token by itself, or another token by its handle (MT-39, MT-40).

use serde::Serialize;

use super::call::{Context, Repeat};
use super::{OnRotation, Server};
use crate::InputError;
use crate::capabilities::MANAGE_MYTOKENS_REVOKE;
use crate::http::ANSWER_LIMIT;
use crate::{Deadline, Error, Secret};

#[derive(Serialize)]
struct Body<'a> {
    token: &'a Secret,
    recursive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mom_id: Option<&'a str>,
}

impl Server<'_> {
    /// Revokes a mytoken or a code. With the code of a new token, the token itself is revoked too. Needs no capability. It succeeds for
    /// unknown and expired tokens too. Without `recursive` the children stay valid.
    ///
    /// # Errors
    /// [`NotOffered`](super::ServerError::NotOffered) if revocation is disabled at the server; [`Failed`](super::ServerError::Failed) also
    /// for a token that was replaced by a rotation (MT-42); else the error of the server or the network.
    pub fn revoke(&self, token: &Secret, recursive: bool, deadline: Deadline) -> Result<(), Error> {
        super::check_not_empty(token)?;
        let endpoint = self.endpoint(self.discovery.revocation_endpoint.as_deref(), "revocation")?;
        let answer =
            self.post(endpoint, &Body { token, recursive, mom_id: None }, Repeat::Harmless, ANSWER_LIMIT, deadline)?;
        match answer.status {
            200 | 204 => Ok(()),
            _ => Err(self.refusal(&answer, Context::Mytoken(""))),
        }
    }

    /// Revokes another mytoken of the same person by its handle, `mom_id`. `authorising` must be an ancestor of that mytoken, or have
    /// `manage_mytokens:revoke`. The server counts no use, but `authorising` may rotate.
    ///
    /// # Errors
    /// [`MissingCapability`](super::ServerError::MissingCapability), or [`Rejected`](super::ServerError::Rejected) with status 403, if
    /// `authorising` lacks the right, and also if the other mytoken is unknown or already revoked; else the error of the server or the
    /// network.
    pub fn revoke_other(
        &self,
        authorising: &Secret,
        mom_id: &str,
        recursive: bool,
        on_rotation: OnRotation<'_>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        super::check_not_empty(authorising)?;
        // Without a handle the server would revoke the authorising token itself.
        if mom_id.is_empty() {
            return Err(Error::Input(InputError::InvalidRequest {
                reason: "the handle of the mytoken to revoke is missing".to_owned(),
            }));
        }
        let endpoint = self.endpoint(self.discovery.revocation_endpoint.as_deref(), "revocation")?;
        let body = Body { token: authorising, recursive, mom_id: Some(mom_id) };
        let answer = self.post(endpoint, &body, Repeat::Never, ANSWER_LIMIT, deadline)?;
        self.store_successor(&answer, on_rotation)?;
        match answer.status {
            200 | 204 => Ok(()),
            _ => Err(self.refusal(&answer, Context::Mytoken(MANAGE_MYTOKENS_REVOKE))),
        }
    }
}
