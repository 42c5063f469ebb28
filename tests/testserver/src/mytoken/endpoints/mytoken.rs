// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mytoken endpoint: all grants, and sub-tokens (MT-18, MT-22, MT-23, MT-47).

use serde_json::{Map, Value};

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::body;
use crate::mytoken::issue::Origin;
use crate::mytoken::model::clauses::without_duplicates;
use crate::mytoken::model::jwt::MytokenClaims;
use crate::mytoken::model::mytoken_request::{self, MytokenRequest};
use crate::mytoken::model::templates::Templates;
use crate::mytoken::model::{capabilities, repeated_clauses, tighten};
use crate::mytoken::server::{RequestContext, Server};
use crate::mytoken::successor::with_update;

/// Maximum length of a name in the original's database (MT-23).
const MAX_NAME_LENGTH: usize = 100;
/// The event text `Created MT NAME` has the same maximum length.
const MAX_CHILD_NAME_LENGTH: usize = MAX_NAME_LENGTH - 11;

impl Server {
    /// Handles all grant types.
    pub(crate) fn mytoken(&self, context: &RequestContext<'_>, broader: bool) -> ApiResult<Response> {
        let members = body::json(context.request, "pkg.MytokenRequest")?;
        let grant = match body::query(context.request, "grant_type") {
            Some(grant) => grant,
            None => body::text(&members, "grant_type")?,
        };
        match grant.as_str() {
            // The grant type `refresh_token` is an alias here too; a member `refresh_token` is not read.
            "mytoken" | "refresh_token" => self.create_child(context, &members, broader),
            "oidc_flow" => self.start_login(context, &members),
            "polling_code" => self.redeem(context, &members, "polling_code"),
            "transfer_code" => self.redeem(context, &members, "transfer_code"),
            _ => Err(ApiError::unsupported_grant_type()),
        }
    }

    fn create_child(
        &self,
        context: &RequestContext<'_>,
        members: &Map<String, Value>,
        broader: bool,
    ) -> ApiResult<Response> {
        let mut state = self.state();
        let wanted = self.wanted_for_child(members, &state.templates, context)?;
        let issuer = body::text(members, "oidc_issuer")?;
        let credential = self.credential(members.get("mytoken"), true, context.request)?;
        let parent = self.verify_token(&state, &credential, context.now)?;
        let row = state.live_row(&parent.claims, context.now)?.clone();
        Self::require_capability(&parent, "create_mytoken")?;
        let to_charge = self.begin_other_use(&parent, &row, context)?;
        if !issuer.is_empty() && issuer != parent.claims.oidc_iss {
            return Err(ApiError::wrong_issuer());
        }
        let wanted = self.granted_to_child(&parent.claims, wanted, broader)?;
        let origin = Origin {
            oidc_sub: row.oidc_sub.clone(),
            oidc_iss: row.oidc_iss.clone(),
            auth_time: parent.claims.auth_time,
            refresh: row.refresh,
            parent: Some(row.jti.clone()),
        };
        let update = self.complete_other_use(&mut state, &parent, to_charge, context)?;
        let events = vec![
            context.event("created", "Used grant_type mytoken"),
            context.event("inherited_RT", "Got RT from parent"),
        ];
        let (claims, jwt) = self.create(&mut state, context, &wanted, origin, events)?;
        if let Some(row) = state.tokens.get_mut(&row.jti) {
            row.events.push(context.event("MT_created", format!("Created MT {}", wanted.name).trim_end()));
        }
        let members = self.in_requested_form(&mut state, &claims, &jwt, wanted.form, context.now)?;
        Ok(with_update(200, members, update))
    }

    /// Reads the request and drops repeated clauses: as the original does (MT-26), or all of them without that quirk.
    fn wanted_for_child(
        &self,
        members: &Map<String, Value>,
        templates: &Templates,
        context: &RequestContext<'_>,
    ) -> ApiResult<MytokenRequest> {
        let read =
            |members: &Map<String, Value>| mytoken_request::read(members, templates, context.now, context.request.peer);
        if self.config.quirks.clauses_compared_as_text {
            return read(&repeated_clauses::drop_repeated(members.clone(), &context.request.body));
        }
        let mut wanted = read(members)?;
        wanted.restrictions = without_duplicates(wanted.restrictions);
        Ok(wanted)
    }

    /// Limits the request to what the parent allows.
    fn granted_to_child(
        &self,
        parent: &MytokenClaims,
        mut wanted: MytokenRequest,
        broader: bool,
    ) -> ApiResult<MytokenRequest> {
        if broader {
            wanted.capabilities.clone_from(&parent.capabilities);
            wanted.restrictions.clone_from(&parent.restrictions);
        }
        wanted.capabilities = capabilities::inherit(&parent.capabilities, &wanted.capabilities);
        if wanted.capabilities.is_empty() {
            return Err(ApiError::invalid_request(
                "mytoken to be issued cannot have any of the requested capabilities",
            ));
        }
        let refuses_loss = wanted.strict && !self.config.quirks.restrictions_dropped_silently;
        if refuses_loss && !tighten::grants_all(&parent.restrictions, &wanted.restrictions) {
            return Err(ApiError::invalid_request("the restrictions cannot be granted as requested"));
        }
        wanted.restrictions = tighten::tighten(&parent.restrictions, &wanted.restrictions);
        let length = wanted.name.chars().count();
        let column = match length {
            _ if length > MAX_NAME_LENGTH => "name",
            _ if length > MAX_CHILD_NAME_LENGTH && self.config.quirks.long_names_fail => "comment",
            _ => return Ok(wanted),
        };
        Err(ApiError::internal(format!("Error 1406 (22001): Data too long for column '{column}' at row 1")))
    }
}
