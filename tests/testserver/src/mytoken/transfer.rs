// SPDX-License-Identifier: MIT OR Apache-2.0
//! The transfer endpoint (dossier 7): a code for a token that exists.

use serde_json::json;

use super::answer::Answer;
use super::store::{Code, CodeState, State};
use super::wanted::FormWish;
use super::{CODE_LENGTH, CODE_LIFETIME, Call, Server, body, codes};
use crate::http::Response;

impl Server {
    pub(super) fn transfer(&self, call: &Call<'_>) -> Answer<Response> {
        let members = body::json(call.request, "pkg.CreateTransferCodeRequest")?;
        let credential = self.credential(members.get("mytoken"), false, call.request)?;
        let mut state = self.state();
        let presented = self.present(&state, &credential, call.now)?;
        let token = state.live(&presented.claims, call.now)?;
        token.events.push(call.event("transfer_code_created", ""));
        let code = new_code(&mut state, presented.jwt, presented.claims.jti, false, call.now)?;
        Ok(Response::json(
            200,
            &json!({"mytoken_type": "transfer_code", "transfer_code": code, "expires_in": CODE_LIFETIME}),
        ))
    }
}

/// A code for a token; a fresh one takes the token with it when it is revoked.
pub(super) fn new_code(state: &mut State, jwt: String, jti: String, fresh: bool, now: i64) -> Answer<String> {
    let code = codes::letters(CODE_LENGTH)?;
    let ready = CodeState::Ready { jwt, jti, form: FormWish::JWT };
    state.codes.insert(code.clone(), Code { state: ready, expires: now + CODE_LIFETIME, fresh });
    Ok(code)
}
