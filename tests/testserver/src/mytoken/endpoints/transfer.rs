// SPDX-License-Identifier: MIT OR Apache-2.0
//! The transfer endpoint (MT-35): a code for a token that exists.

use serde_json::json;

use crate::http::Response;
use crate::mytoken::answer::Answer;
use crate::mytoken::body;
use crate::mytoken::model::codes::CODE_LIFETIME;
use crate::mytoken::server::{Call, Server};

impl Server {
    pub(crate) fn transfer(&self, call: &Call<'_>) -> Answer<Response> {
        let members = body::json(call.request, "pkg.CreateTransferCodeRequest")?;
        let credential = self.credential(members.get("mytoken"), false, call.request)?;
        let mut state = self.state();
        let presented = self.present(&state, &credential, call.now)?;
        let token = state.live(&presented.claims, call.now)?;
        token.events.push(call.event("transfer_code_created", ""));
        let code = state.add_code(presented.jwt, presented.claims.jti, false, call.now)?;
        Ok(Response::json(
            200,
            &json!({"mytoken_type": "transfer_code", "transfer_code": code, "expires_in": CODE_LIFETIME}),
        ))
    }
}
