// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server's own provider for guests (MT-54): its pages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::body;
use crate::mytoken::model::guest_provider::PATH;
use crate::mytoken::server::{RequestContext, Server};

impl Server {
    /// Answers the provider's public paths. The server calls its token endpoint directly, not over HTTP.
    pub(crate) fn guests(&self, context: &RequestContext<'_>, rest: &str) -> ApiResult<Response> {
        let missing = || ApiError::not_found(&context.request.path);
        if !self.config.guests || context.request.method != "GET" {
            return Err(missing());
        }
        let own = format!("{}{PATH}", self.config.issuer);
        match rest {
            "/.well-known/openid-configuration" => Ok(Response::json(
                200,
                &json!({"authorization_endpoint": format!("{own}/auth"), "token_endpoint": format!("{own}/token")}),
            )),
            "/auth" => {
                let state = body::query(context.request, "state")
                    .ok_or_else(|| ApiError::invalid_request("state is missing"))?;
                let query = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("code", &URL_SAFE_NO_PAD.encode(context.ip()))
                    .append_pair("state", &state)
                    .finish();
                // The parameter redirect_uri is ignored: guests are only sent back to this server.
                Ok(Response::empty(303).with("Location", format!("{}/redirect?{query}", self.config.issuer)))
            }
            _ => Err(missing()),
        }
    }
}
