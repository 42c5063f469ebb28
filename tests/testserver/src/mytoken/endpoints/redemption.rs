// SPDX-License-Identifier: MIT OR Apache-2.0
//! Redeems polling and transfer codes (MT-33, MT-36, MT-37). Both grants use one table.

use serde_json::{Map, Value};

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::credential::check_times;
use crate::mytoken::model::mytoken_request::RequestedForm;
use crate::mytoken::model::store::CodeState;
use crate::mytoken::server::{RequestContext, Server};

impl Server {
    pub(crate) fn redeem(
        &self,
        context: &RequestContext<'_>,
        members: &Map<String, Value>,
        grant: &str,
    ) -> ApiResult<Response> {
        let polling = grant == "polling_code";
        let text = members.get(grant).and_then(Value::as_str).unwrap_or_default();
        let mut guard = self.state();
        let state = &mut *guard;
        let code = state.codes.get(text).cloned().ok_or_else(ApiError::bad_code)?;
        if code.expires < context.now {
            return Err(ApiError::new(401, "expired_token", "polling or transfer code is expired"));
        }
        let (jwt, jti, form) = match code.state {
            CodeState::Pending(_) if polling => {
                return Err(ApiError { status: 428, error: "authorization_pending".into(), description: None });
            }
            CodeState::Pending(_) => return Err(ApiError::invalid_request("token not valid")),
            CodeState::Declined => return Err(ApiError::new(401, "access_denied", "user declined consent")),
            CodeState::Failed(reason) => return Err(ApiError::new(401, "access_denied", reason)),
            CodeState::Ready { jwt, jti, form } => (jwt, jti, form),
        };
        let claims = self.key.verify(&jwt)?;
        // Polling ignores the times: a token that is not valid yet can be fetched.
        let usable = if polling { Ok(()) } else { check_times(&claims, context.now, true) };
        if usable.is_ok() || self.config.quirks.redeeming_loses_invalid {
            state.codes.remove(text);
        }
        usable.map_err(|problem| ApiError { status: 500, error: "internal_server_error".into(), ..problem })?;
        if let Some(token) = state.tokens.get_mut(&jti) {
            token.events.push(context.event("transfer_code_used", ""));
        }
        let form = if polling { form } else { RequestedForm::JWT };
        let mut answer = self.in_requested_form(state, &claims, &jwt, form, context.now)?;
        // Only a polling code for a new token shows `rotation`. Transfer codes and codes of existing tokens do not.
        if (!polling || !code.fresh) && self.config.quirks.redeeming_hides_rotation {
            answer.remove("rotation");
        }
        Ok(Response::json(200, &Value::Object(answer)))
    }
}
