// SPDX-License-Identifier: MIT OR Apache-2.0
//! Userinfo (OpenID Connect Core 5.3): the provider accepts the token, and tells claims of its holder.

use mytoken::Deadline;
use mytoken::config::IssuerSettings;
use mytoken::http::{ANSWER_LIMIT, HttpAnswer};
use serde_json::{Map, Value};

use super::provider::{ProviderRequests, unavailable};
use super::{PresentedToken, Validator};
use crate::counted_requests::is_about_token;
use crate::oidc::{ProviderEndpoint, Rejection, strict_object};
use crate::refusal::Refusal;

/// Asks the userinfo endpoint.
pub struct Userinfo<'a>(
    /// The requests of this login.
    pub &'a ProviderRequests<'a>,
);

impl Validator for Userinfo<'_> {
    fn validate(
        &self,
        presented: PresentedToken<'_>,
        issuer: &IssuerSettings,
        deadline: Deadline,
    ) -> Result<Map<String, Value>, Refusal> {
        let answer =
            self.0.ask(ProviderEndpoint::Userinfo, presented, issuer, deadline, |http, endpoint, answer_by| {
                http.get(endpoint.url, Some(presented.token), answer_by, ANSWER_LIMIT)
            })?;
        claims(&answer, &issuer.url)
    }
}

/// The claims in an answer.
fn claims(answer: &HttpAnswer, issuer: &str) -> Result<Map<String, Value>, Refusal> {
    match answer.status {
        200 if answer.content_type.as_deref() == Some("application/jwt") => Err(unavailable(format!(
            "{issuer} signs the answers of userinfo; choose unsigned ones for this client, or another validation"
        ))),
        200 => strict_object(&answer.body)
            .ok_or_else(|| unavailable(format!("the userinfo endpoint of {issuer} did not answer with a JSON object"))),
        401 => Err(Rejection::Inactive.into()),
        status if is_about_token(status) || status == 403 => Err(Rejection::ValidationRefused(format!(
            "the userinfo endpoint of {issuer} answered with status {status}"
        ))
        .into()),
        status => Err(unavailable(format!("the userinfo endpoint of {issuer} answered with status {status}"))),
    }
}
