// SPDX-License-Identifier: MIT OR Apache-2.0
//! User settings (MT-55): the index and the grants. Mail and ssh keys are off, as in the captures.

use serde_json::{Map, Value, json};

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult, plain};
use crate::mytoken::body;
use crate::mytoken::credential::PresentedMytoken;
use crate::mytoken::model::store::{ServerState, TokenRow};
use crate::mytoken::server::{RequestContext, Server};
use crate::mytoken::successor::with_update;

impl Server {
    pub(crate) fn settings_index(&self) -> Response {
        let base = format!("{}/api/v0/settings", self.config.issuer);
        Response::json(
            200,
            &json!({"grant_type_endpoint": format!("{base}/grants"), "email_endpoint": format!("{base}/email")}),
        )
    }

    /// Reads, enables and disables the user's grants. Each use counts and rotates, also without restrictions.
    pub(crate) fn grants(&self, context: &RequestContext<'_>) -> ApiResult<Response> {
        if context.request.method == "GET" {
            let mut state = self.state();
            let (presented, token) = self.authorize_settings(&mut state, context, None, "read@settings:grants")?;
            let to_charge = self.begin_other_use(&presented, &token, context)?;
            let grants = grants_of(&state, &token);
            let update = self.complete_other_use(&mut state, &presented, to_charge, context)?;
            record_event(&mut state, &token, context, "settings_grants_listed");
            return Ok(with_update(200, Map::from_iter([("grant_types".to_owned(), grants)]), update));
        }
        let enable = context.request.method == "POST";
        let members = body::json(context.request, "pkg.GrantTypeRequest")?;
        let grant = body::text(&members, "grant_type")?;
        let mut state = self.state();
        let (presented, token) =
            self.authorize_settings(&mut state, context, members.get("mytoken"), "settings:grants")?;
        if grant != "ssh" {
            return Err(ApiError::invalid_request(format!("value '{grant}' not valid for GrantType")));
        }
        let to_charge = self.begin_other_use(&presented, &token, context)?;
        let update = self.complete_other_use(&mut state, &presented, to_charge, context)?;
        let user = (token.oidc_sub.clone(), token.oidc_iss.clone());
        state.grants.entry(user).or_default().insert(grant, enable);
        record_event(
            &mut state,
            &token,
            context,
            if enable { "settings_grant_enabled" } else { "settings_grant_disabled" },
        );
        Ok(match (update, enable) {
            (None, true) => plain(201, "Created"),
            (None, false) => Response::empty(204),
            (update, true) => with_update(201, Map::new(), update),
            (update, false) => with_update(200, Map::new(), update),
        })
    }

    fn authorize_settings(
        &self,
        state: &mut ServerState,
        context: &RequestContext<'_>,
        member: Option<&Value>,
        capability: &str,
    ) -> ApiResult<(PresentedMytoken, TokenRow)> {
        let credential = self.credential(member, false, context.request)?;
        let presented = self.verify_token(state, &credential, context.now)?;
        let token = state.live_row(&presented.claims, context.now)?.clone();
        Self::require_capability(&presented, capability)?;
        Ok((presented, token))
    }
}

fn grants_of(state: &ServerState, token: &TokenRow) -> Value {
    let user = (token.oidc_sub.clone(), token.oidc_iss.clone());
    state.grants.get(&user).map_or(Value::Null, |grants| {
        grants.iter().map(|(grant, enabled)| json!({"grant_type": grant, "enabled": enabled})).collect()
    })
}

fn record_event(state: &mut ServerState, token: &TokenRow, context: &RequestContext<'_>, event: &'static str) {
    if let Some(token) = state.tokens.get_mut(&token.jti) {
        token.events.push(context.event(event, ""));
    }
}
