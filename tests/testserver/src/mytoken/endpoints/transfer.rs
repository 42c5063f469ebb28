// SPDX-License-Identifier: MIT OR Apache-2.0
//! The transfer endpoint (MT-35): a code for a token that exists.

use serde_json::json;

use crate::http::Response;
use crate::mytoken::answer::ApiResult;
use crate::mytoken::body;
use crate::mytoken::model::codes::CODE_LIFETIME;
use crate::mytoken::server::{RequestContext, Server};

impl Server {
    pub(crate) fn transfer(&self, context: &RequestContext<'_>) -> ApiResult<Response> {
        let members = body::json(context.request, "pkg.CreateTransferCodeRequest")?;
        let credential = self.credential(members.get("mytoken"), false, context.request)?;
        let mut state = self.state();
        let presented = self.verify_token(&state, &credential, context.now)?;
        let token = state.live_row(&presented.claims, context.now)?;
        token.events.push(context.event("transfer_code_created", ""));
        let code = state.add_code(presented.jwt, presented.claims.jti, false, context.now)?;
        Ok(Response::json(
            200,
            &json!({"mytoken_type": "transfer_code", "transfer_code": code, "expires_in": CODE_LIFETIME}),
        ))
    }
}
