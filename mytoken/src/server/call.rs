// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sending a request: when it may be repeated, and what a refusal means (MT-06).

use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Server;
use crate::http::Answer;
use crate::http::HttpError;
use crate::server::ServerError;
use crate::urls::ServerUrl;
use crate::{Deadline, Error};

/// Pause before the one repetition after a failure.
const PAUSE: Duration = Duration::from_millis(250);

/// After how many 429 answers a request is sent again.
const PATIENCE: u32 = 3;

/// Whether a request may be sent again when its answer is lost or the server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Nothing changes at the server, or the same change twice is the same.
    Harmless,
    /// The lost answer may hide a rotation, a redemption, a new token.
    Never,
    /// As [`Self::Never`], and a 429 is an answer like any other: a person waits, or the request holds something that others wait for.
    Once,
}

/// The kind of request, on which the meaning of a refusal depends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Context<'a> {
    /// With a mytoken, for something that needs this capability.
    Mytoken(&'a str),
    /// With a transfer or polling code.
    Code,
    /// Without a secret.
    Plain,
}

impl Server<'_> {
    pub(super) fn post<T: Serialize>(
        &self,
        endpoint: &str,
        body: &T,
        repeat: Repeat,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Answer, HttpError> {
        let repeat = if self.once { Repeat::Once } else { repeat };
        repeated(repeat, deadline, || self.http.post_json(endpoint, body, deadline, limit))
    }

    pub(super) fn refusal(&self, answer: &Answer, context: Context<'_>) -> Error {
        refusal(&self.url, answer, context)
    }

    pub(super) fn not_understood(&self, answer: &Answer, reason: &(impl ToString + ?Sized)) -> Error {
        not_understood(self.url.to_string(), answer.status, reason)
    }
}

/// Sends once, and again where that is harmless:
/// when no connection was made nothing was sent, so always; after 5xx or a lost answer only if `repeat` says so, once; after a 429 of
/// the server's limiter, which comes before anything is done, when `Retry-After` lies within the deadline.
pub(super) fn repeated(
    repeat: Repeat,
    deadline: Deadline,
    mut send: impl FnMut() -> Result<Answer, HttpError>,
) -> Result<Answer, HttpError> {
    let (mut failures, mut refusals) = (0, 0);
    loop {
        let result = send();
        let wait = match &result {
            Err(HttpError::Unreachable { sent, .. }) if failures == 0 && (!sent || repeat == Repeat::Harmless) => {
                failures += 1;
                PAUSE
            }
            Ok(answer) if answer.status >= 500 && failures == 0 && repeat == Repeat::Harmless => {
                failures += 1;
                PAUSE
            }
            Ok(answer)
                if answer.status == 429 && !answer.is_json() && repeat != Repeat::Once && refusals < PATIENCE =>
            {
                refusals += 1;
                // At least a little, so that "Retry-After: 0" does not spin.
                answer.retry_after.unwrap_or(Duration::from_secs(1)).max(PAUSE)
            }
            _ => return result,
        };
        if deadline.remaining().is_none_or(|left| left <= wait) {
            return result;
        }
        thread::sleep(wait);
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

/// What a status that is no success means: first the `error` member, then the status. Descriptions never get into an error, since
/// they may repeat what was sent.
pub(super) fn refusal(server: &ServerUrl, answer: &Answer, context: Context<'_>) -> Error {
    let server = server.to_string();
    let status = answer.status;
    let said: Option<Refusal> = answer.json().ok();
    let code = said.as_ref().map(|said| word(&said.error)).unwrap_or_default();
    match (code.as_str(), status) {
        // MT-06: the provider's status is passed on with this code: a 401 here is not a bad mytoken.
        ("oidc_error", 429) => {
            Error::Server(ServerError::ProviderTooManyRequests { server, retry_after: answer.retry_after })
        }
        ("oidc_error", 500..) => Error::Server(ServerError::Failed { server, status }),
        ("oidc_error", _) => {
            let description = said.and_then(|said| said.error_description).unwrap_or_default();
            let code = word(description.split(':').next().unwrap_or_default());
            Error::Server(ServerError::ProviderRefused { server, code })
        }
        (_, 429) => Error::Server(ServerError::TooManyRequests { server, retry_after: answer.retry_after }),
        (_, 500..) => Error::Server(ServerError::Failed { server, status }),
        (_, 408) => Error::Http(HttpError::TooLate { host: server }),
        ("expired_token", _) => Error::Server(ServerError::CodeRefused { server, expired: true }),
        ("invalid_token", _) => match context {
            Context::Code => Error::Server(ServerError::CodeRefused { server, expired: false }),
            Context::Mytoken(_) | Context::Plain => Error::Server(ServerError::TokenRefused { server }),
        },
        ("access_denied", 401) => Error::Server(ServerError::Declined),
        ("insufficient_capabilities", _) => {
            let needed = match context {
                Context::Mytoken(capability) => capability.to_owned(),
                Context::Code | Context::Plain => "for it".to_owned(),
            };
            Error::Server(ServerError::MissingCapability { server, needed })
        }
        ("usage_restricted", _) => Error::Server(ServerError::UsageRestricted { server }),
        (_, 300..=399) => not_understood(server, status, "it redirects; redirects are not followed"),
        // MT-02: there is no 405, an endpoint that is not there says nothing about the token.
        ("not_found", _) | (_, 404) => not_understood(server, status, "the endpoint is not there"),
        ("", 400..) => not_understood(server, status, "the body is not the server's; is a proxy in between?"),
        (_, 400..) => Error::Server(ServerError::Rejected { server, status, code }),
        _ => not_understood(server, status, "unexpected status"),
    }
}

pub(super) fn not_understood(server: String, status: u16, reason: &(impl ToString + ?Sized)) -> Error {
    Error::Server(ServerError::NotUnderstood { server, status, reason: reason.to_string() })
}

/// An OAuth error code, never a text that might repeat a token.
fn word(text: &str) -> String {
    let text = text.trim();
    let fine =
        !text.is_empty() && text.len() <= 40 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b' ');
    if fine {
        text.to_owned()
    } else if text.is_empty() {
        String::new()
    } else {
        "unknown_error".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;

    proptest! {
        #[test]
        fn an_error_repeats_nothing_of_what_the_server_wrote(
            status in 100_u16..600,
            code in "(oidc_error|invalid_token|access_denied|[A-Za-z_ ]{0,12}HUSH[A-Za-z_.]{0,40})",
            description in "(HUSH|[a-z_]{0,20}: HUSH|HUSH: [a-z]{0,20}|eyJHUSH\\.eyJ\\.x)",
            html in any::<bool>(),
        ) {
            let server = ServerUrl::parse("https://mt.example.org", false).unwrap();
            let json = serde_json::json!({"error": code, "error_description": description}).to_string();
            let body = if html { format!("<html>{description}") } else { json };
            let answer = Answer {
                status,
                content_type: Some(if html { "text/html" } else { "application/json" }.to_owned()),
                retry_after: None,
                date: None,
                body: Zeroizing::new(body.into_bytes()),
            };
            for context in [Context::Plain, Context::Code, Context::Mytoken("AT")] {
                let error = refusal(&server, &answer, context);
                prop_assert!(!format!("{error} {error:?}").contains("HUSH"), "{error:?}");
            }
        }

        #[test]
        fn no_body_makes_it_panic(status in 100_u16..600, body in prop::collection::vec(any::<u8>(), 0..80)) {
            let server = ServerUrl::parse("https://mt.example.org", false).unwrap();
            let body = Zeroizing::new(body);
            let answer = Answer { status, content_type: None, retry_after: None, date: None, body };
            let error = refusal(&server, &answer, Context::Plain);
            prop_assert!(!error.to_string().is_empty());
            // A body that is not the server's says nothing about the token: it may be a proxy's.
            prop_assert!(error.is_unavailable(), "{status}: {error:?}");
            prop_assert_eq!(matches!(error, Error::Server(ServerError::TooManyRequests { .. })), status == 429);
        }
    }
}
