// SPDX-License-Identifier: MIT OR Apache-2.0
//! Revocation of a token by itself, or of another by its handle (MT-39, MT-40).

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
    /// Revokes a mytoken, or a code and (for the code of a new token) the token behind it. Needs no capability. Unknown and dead
    /// tokens are a success. Without `recursive` the children survive.
    ///
    /// # Errors
    /// [`NotOffered`](super::ServerError::NotOffered) when the server has revocation switched off; [`Failed`](super::ServerError::Failed) also for the outdated form of a
    /// token that has rotated (MT-42); else what the server or network says.
    pub fn revoke(&self, token: &Secret, recursive: bool, deadline: Deadline) -> Result<(), Error> {
        super::usable(token)?;
        let endpoint = self.endpoint(self.discovery.revocation_endpoint.as_deref(), "revocation")?;
        let answer =
            self.post(endpoint, &Body { token, recursive, mom_id: None }, Repeat::Harmless, ANSWER_LIMIT, deadline)?;
        match answer.status {
            200 | 204 => Ok(()),
            _ => Err(self.refusal(&answer, Context::Mytoken(""))),
        }
    }

    /// Revokes another mytoken of the same person by its handle, `mom_id`. `authorising` must be one that it was made from, or have
    /// `manage_mytokens:revoke`. Nothing is counted, but `authorising` may rotate.
    ///
    /// # Errors
    /// [`MissingCapability`](super::ServerError::MissingCapability), or [`Rejected`](super::ServerError::Rejected) with status 403, when it may not, and also when the other is unknown or was
    /// revoked before; else what the server or network says.
    pub fn revoke_other(
        &self,
        authorising: &Secret,
        mom_id: &str,
        recursive: bool,
        on_rotation: OnRotation<'_>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        super::usable(authorising)?;
        // Without a handle the server would revoke the authorising token.
        if mom_id.is_empty() {
            return Err(Error::Input(InputError::InvalidRequest {
                reason: "there is no handle of the mytoken to revoke".to_owned(),
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
