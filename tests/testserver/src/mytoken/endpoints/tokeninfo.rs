// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tokeninfo endpoint (MT-48, MT-49).

use serde_json::{Map, Value, json};

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::body;
use crate::mytoken::credential::PresentedMytoken;
use crate::mytoken::model::capabilities;
use crate::mytoken::model::store::{ServerState, TokenRow};
use crate::mytoken::server::{RequestContext, Server};
use crate::mytoken::successor::with_update;

impl Server {
    pub(crate) fn tokeninfo(&self, context: &RequestContext<'_>) -> ApiResult<Response> {
        let members = body::json(context.request, "pkg.TokenInfoRequest")?;
        let action = match members.get("action") {
            None | Some(Value::Null) => "introspect",
            Some(Value::String(action)) => action.as_str(),
            Some(other) => return Err(body::type_mismatch(other, "Go value of type string")),
        };
        const ACTIONS: [&str; 5] = ["introspect", "event_history", "subtokens", "list_mytokens", "notifications"];
        if !ACTIONS.contains(&action) {
            return Err(ApiError::invalid_request(format!("value '{action}' not valid for TokeninfoAction")));
        }
        let credential = self.credential(members.get("mytoken"), false, context.request)?;
        let mut state = self.state();
        let presented = self.verify_token(&state, &credential, context.now)?;
        let token = state.live_row(&presented.claims, context.now)?.clone();
        match action {
            "introspect" => introspect(&mut state, &presented, &token, context),
            "event_history" => self.history(&mut state, &presented, &token, &members, context),
            "subtokens" => {
                Self::require_capability(&presented, "tokeninfo:subtokens")?;
                self.answer_query(&mut state, &presented, &token, "tokeninfo_subtokens", context, |state| {
                    Map::from_iter([("mytokens".to_owned(), state.tree(&token))])
                })
            }
            "list_mytokens" => {
                Self::require_capability(&presented, "manage_mytokens:list")?;
                self.answer_query(&mut state, &presented, &token, "tokeninfo_list_mytokens", context, |state| {
                    Map::from_iter([("mytokens".to_owned(), all_trees(state, &token))])
                })
            }
            _ => {
                Self::require_capability(&presented, "tokeninfo:notify")?;
                self.answer_query(&mut state, &presented, &token, "tokeninfo_notifications", context, |_| Map::new())
            }
        }
    }

    fn history(
        &self,
        state: &mut ServerState,
        presented: &PresentedMytoken,
        token: &TokenRow,
        members: &Map<String, Value>,
        context: &RequestContext<'_>,
    ) -> ApiResult<Response> {
        let asked: Vec<String> = match members.get("mom_ids") {
            None | Some(Value::Null) => Vec::new(),
            Some(list) => serde_json::from_value(list.clone())
                .map_err(|_| body::type_mismatch(list, "Go struct field TokenInfoRequest.mom_ids of type []string"))?,
        };
        let of = if asked.is_empty() {
            Self::require_capability(presented, "tokeninfo:history")?;
            vec![token.mom_id.clone()]
        } else {
            self.resolve_mom_ids(state, presented, token, &asked)?
        };
        self.answer_query(state, presented, token, "tokeninfo_history", context, |state| {
            Map::from_iter([("events".to_owned(), events(state, &of))])
        })
    }

    /// Resolves the `mom_ids` of a request, which may also be `this` and `children`, if the token may read all of them.
    fn resolve_mom_ids(
        &self,
        state: &ServerState,
        presented: &PresentedMytoken,
        token: &TokenRow,
        asked: &[String],
    ) -> ApiResult<Vec<String>> {
        let manages = capabilities::has(&presented.claims.capabilities, "manage_mytokens:history");
        let words_allowed = !manages || !self.config.quirks.history_words_refused;
        let refused = |id: &str| {
            if manages {
                let description = format!("The provided token cannot be used to obtain history for mom_id '{id}'");
                return ApiError::new(403, "invalid_grant", description);
            }
            ApiError::new(
                403,
                "insufficient_capabilities",
                format!(
                    "The provided token is neither a parent of the the token with  mom_id '{id}' nor does it have the 'manage_mytokens:history' capability"
                ),
            )
        };
        let may_read = |id: &str| {
            state.by_mom_id(id).filter(|other| {
                state.is_self_or_ancestor(&token.jti, other)
                    || (manages && other.oidc_sub == token.oidc_sub && other.oidc_iss == token.oidc_iss)
            })
        };
        let mom_ids = |tokens: Vec<&TokenRow>| tokens.into_iter().map(|token| token.mom_id.clone()).collect::<Vec<_>>();
        let mut found = Vec::new();
        for id in asked {
            match (words_allowed, id.as_str(), id.strip_prefix("children@")) {
                (true, "this", _) => found.push(token.mom_id.clone()),
                (true, "children", _) => found.extend(mom_ids(state.children(&token.jti))),
                (true, _, Some(parent)) => {
                    let parent = may_read(parent).ok_or_else(|| refused(parent))?;
                    found.extend(mom_ids(state.children(&parent.jti)));
                }
                (_, id, _) => found.push(may_read(id).ok_or_else(|| refused(id))?.mom_id.clone()),
            }
        }
        Ok(found)
    }

    /// Answers a query. It is counted, logged and followed by a rotation only if the token has restrictions (MT-48).
    fn answer_query(
        &self,
        state: &mut ServerState,
        presented: &PresentedMytoken,
        token: &TokenRow,
        event: &'static str,
        context: &RequestContext<'_>,
        query: impl FnOnce(&ServerState) -> Map<String, Value>,
    ) -> ApiResult<Response> {
        if presented.claims.restrictions.is_empty() {
            return Ok(with_update(200, query(state), None));
        }
        let to_charge = self.begin_other_use(presented, token, context)?;
        let members = query(state);
        let update = self.complete_other_use(state, presented, to_charge, context)?;
        if let Some(token) = state.tokens.get_mut(&token.jti) {
            token.events.push(context.event(event, ""));
        }
        Ok(with_update(200, members, update))
    }
}

/// Answers with all claims and the counters of the clauses. It is not counted and not limited by restrictions, and it
/// is always logged (MT-48).
fn introspect(
    state: &mut ServerState,
    presented: &PresentedMytoken,
    token: &TokenRow,
    context: &RequestContext<'_>,
) -> ApiResult<Response> {
    Server::require_capability(presented, "tokeninfo:introspect")?;
    let mut claims = json!(presented.claims);
    let clauses = claims.get_mut("restrictions").and_then(Value::as_array_mut);
    for (shown, clause) in clauses.into_iter().flatten().zip(&presented.claims.restrictions) {
        if let (Value::Object(members), Some(used)) = (shown, token.used(clause)) {
            members.insert("usages_AT_done".into(), json!(used.at));
            members.insert("usages_other_done".into(), json!(used.other));
        }
    }
    if let Some(token) = state.tokens.get_mut(&token.jti) {
        token.events.push(context.event("tokeninfo_introspect", ""));
    }
    let answer = json!({
        "valid": true,
        "mom_id": token.mom_id,
        "token_type": if presented.short { "short_token" } else { "token" },
        "token": claims,
    });
    Ok(Response::json(200, &answer))
}

/// All trees of the user.
fn all_trees(state: &ServerState, token: &TokenRow) -> Value {
    let mut roots: Vec<&TokenRow> = state
        .tokens
        .values()
        .filter(|other| other.parent.is_none() && other.oidc_sub == token.oidc_sub && other.oidc_iss == token.oidc_iss)
        .collect();
    roots.sort_by_key(|token| token.row);
    Value::Array(roots.into_iter().map(|root| state.tree(root)).collect())
}

/// The events of the tokens, newest first; `null` if there are none.
fn events(state: &ServerState, of: &[String]) -> Value {
    let mut events: Vec<(i64, Value)> = Vec::new();
    for token in of.iter().filter_map(|mom_id| state.by_mom_id(mom_id)) {
        for event in token.events.iter().rev() {
            let mut members = Map::new();
            members.insert("event".into(), json!(event.event));
            members.insert("time".into(), json!(event.time));
            for (name, value) in [
                ("comment", &event.comment),
                ("ip", &event.ip),
                ("user_agent", &event.user_agent),
                ("mom_id", &token.mom_id),
            ] {
                if !value.is_empty() {
                    members.insert(name.into(), json!(value));
                }
            }
            events.push((event.time, Value::Object(members)));
        }
    }
    events.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    if events.is_empty() {
        return Value::Null;
    }
    Value::Array(events.into_iter().map(|(_, event)| event).collect())
}
