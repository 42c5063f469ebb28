// SPDX-License-Identifier: MIT OR Apache-2.0
//! Introspection (RFC 7662): the provider says whether the token is active, and what it knows about it.

use mytoken::config::{FileTrust, IssuerSettings};
use mytoken::http::{ANSWER_LIMIT, HttpAnswer, HttpClient, HttpError};
use mytoken::{Deadline, Secret};
use serde_json::{Map, Value};

use super::client::{ClientForm, client_form};
use super::provider::{ProviderRequests, unavailable};
use super::{PresentedToken, Validator};
use crate::counted_requests::is_about_token;
use crate::oidc::{ProviderEndpoint, Rejection, strict_object};
use crate::refusal::Refusal;

/// Asks the introspection endpoint.
pub struct Introspection<'a> {
    requests: &'a ProviderRequests<'a>,
    trust: FileTrust,
}

impl<'a> Introspection<'a> {
    /// With the requests of this login. `trust`: who may own the files with the client's secret or key.
    #[must_use]
    pub fn new(requests: &'a ProviderRequests<'a>, trust: FileTrust) -> Self {
        Self { requests, trust }
    }
}

impl Validator for Introspection<'_> {
    fn validate(
        &self,
        presented: PresentedToken<'_>,
        issuer: &IssuerSettings,
        deadline: Deadline,
    ) -> Result<Map<String, Value>, Refusal> {
        let client = issuer.introspection_client().map_err(|problem| Refusal::Configuration(problem.to_owned()))?;
        // A file that cannot be used must not cost a request.
        let proof = client_form(client, self.trust).map_err(|error| Refusal::Configuration(error.to_string()))?;
        let now = self.requests.now();
        let answer =
            self.requests.ask(ProviderEndpoint::Introspection, presented, issuer, deadline, |http, endpoint, by| {
                ask_introspection(http, endpoint.url, presented.token, &proof, endpoint.issuer, now, by)
            })?;
        claims(&answer, &issuer.url)
    }
}

/// Asks the introspection endpoint at `url` about a token, as this client. `audience`: what the provider calls itself.
///
/// # Errors
/// [`HttpError`]; an answer of any status is no error.
pub fn ask_introspection(
    http: &HttpClient,
    url: &str,
    token: &Secret,
    client: &ClientForm,
    audience: &str,
    now: u64,
    deadline: Deadline,
) -> Result<HttpAnswer, HttpError> {
    let proof = client.fields(audience, now);
    let mut fields = vec![("token", token.expose()), ("token_type_hint", "access_token")];
    fields.extend(proof.iter().map(|(name, value)| (*name, value.as_str())));
    http.post_form(url, &fields, client.basic(), deadline, ANSWER_LIMIT)
}

/// The claims in an answer about an active token.
fn claims(answer: &HttpAnswer, issuer: &str) -> Result<Map<String, Value>, Refusal> {
    let answered = |what: &str| format!("the introspection endpoint of {issuer} {what}");
    match answer.status {
        200 => {
            let claims = strict_object(&answer.body);
            let claims = claims.ok_or_else(|| unavailable(answered("did not answer with a JSON object")))?;
            match claims.get("active") {
                Some(Value::Bool(true)) => Ok(claims),
                Some(Value::Bool(false)) => Err(Rejection::Inactive.into()),
                _ => Err(unavailable(answered("did not say whether the token is active"))),
            }
        }
        // RFC 7662 2.3: the answer about a bad token is `active: false`, so these are about this client.
        status @ (401 | 403) => Err(unavailable(answered(&format!(
            "refuses this site's client (status {status}); compare client_id, client_auth and the secret or key"
        )))),
        status if is_about_token(status) => {
            Err(Rejection::ValidationRefused(answered(&format!("answered with status {status}"))).into())
        }
        status => Err(unavailable(answered(&format!("answered with status {status}")))),
    }
}
