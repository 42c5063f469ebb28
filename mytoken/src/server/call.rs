// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends requests: when a request is repeated, and what an error answer means (MT-06).

use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Server;
use crate::http::HttpAnswer;
use crate::http::HttpError;
use crate::server::ServerError;
use crate::urls::ServerUrl;
use crate::{Deadline, Error};

/// Pause before a request is repeated after a failure.
const PAUSE: Duration = Duration::from_millis(250);

/// How often a request is repeated after a 429.
const RETRIES_AFTER_429: u32 = 3;

/// Whether a request is sent again if its answer is lost or the server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Once more. The request changes nothing at the server, or has the same effect twice.
    Harmless,
    /// Not after it may have arrived: the server may have rotated a token, redeemed a code or made a token. Again after a 429.
    Never,
    /// As [`Self::Never`], and not after a 429 either: a person waits, or the request keeps something locked.
    Once,
}

/// The kind of request, which determines the meaning of an error answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Context<'a> {
    /// With a mytoken that needs this capability.
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
    ) -> Result<HttpAnswer, HttpError> {
        let repeat = if self.once { Repeat::Once } else { repeat };
        let answer = repeated(repeat, deadline, || self.http.post_json(endpoint, body, deadline, limit))?;
        self.measured(answer.head);
        Ok(answer)
    }

    pub(super) fn refusal(&self, answer: &HttpAnswer, context: Context<'_>) -> Error {
        refusal(&self.url, answer, context)
    }

    pub(super) fn not_understood(&self, answer: &HttpAnswer, reason: &(impl ToString + ?Sized)) -> Error {
        not_understood(self.url.to_string(), answer.status, reason)
    }
}

/// Sends a request, and repeats it within the deadline:
/// - once if no connection was made, because nothing was sent;
/// - once after a 5xx or a lost answer, only for [`Repeat::Harmless`];
/// - after a 429 of the server's request limit, when `Retry-After` has passed, except for [`Repeat::Once`]. Such a request had no effect.
pub(super) fn repeated(
    repeat: Repeat,
    deadline: Deadline,
    mut send: impl FnMut() -> Result<HttpAnswer, HttpError>,
) -> Result<HttpAnswer, HttpError> {
    let (mut failures, mut refusals) = (0, 0);
    loop {
        let result = send();
        let wait = match &result {
            // A certificate stays as it is.
            Err(HttpError::Certificate { .. }) => return result,
            Err(error @ (HttpError::Unreachable { .. } | HttpError::Proxy { .. }))
                if failures == 0 && (error.is_without_connection() || repeat == Repeat::Harmless) =>
            {
                failures += 1;
                PAUSE
            }
            Ok(answer) if answer.status >= 500 && failures == 0 && repeat == Repeat::Harmless => {
                failures += 1;
                PAUSE
            }
            Ok(answer)
                if answer.status == 429
                    && !answer.is_json()
                    && repeat != Repeat::Once
                    && refusals < RETRIES_AFTER_429 =>
            {
                refusals += 1;
                // At least a short pause, so that "Retry-After: 0" causes no busy loop.
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
struct ErrorBody {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

/// The error for an answer with another status than success. The `error` member counts first, then the status. The server's descriptions
/// are never copied into the error, because they may repeat secrets of the request.
pub(super) fn refusal(server: &ServerUrl, answer: &HttpAnswer, context: Context<'_>) -> Error {
    let server = server.to_string();
    let status = answer.status;
    let said: Option<ErrorBody> = answer.json().ok();
    let code = said.as_ref().map(|said| word(&said.error)).unwrap_or_default();
    match (code.as_str(), status) {
        // MT-06: with this code the server returns the provider's status. So a 401 here does not mean a bad mytoken.
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
                Context::Code | Context::Plain => "for this request".to_owned(),
            };
            Error::Server(ServerError::MissingCapability { server, needed })
        }
        ("usage_restricted", _) => Error::Server(ServerError::UsageRestricted { server }),
        (_, 300..=399) => not_understood(server, status, "it redirects; redirects are not followed"),
        // MT-02: the server never sends 405. A missing endpoint says nothing about the token.
        ("not_found", _) | (_, 404) => not_understood(server, status, "the endpoint does not exist"),
        ("", 400..) => {
            not_understood(server, status, "the answer does not come from a mytoken server; is there a proxy?")
        }
        (_, 400..) => Error::Server(ServerError::Rejected { server, status, code }),
        _ => not_understood(server, status, "unexpected status"),
    }
}

pub(super) fn not_understood(server: String, status: u16, reason: &(impl ToString + ?Sized)) -> Error {
    Error::Server(ServerError::NotUnderstood { server, status, reason: reason.to_string() })
}

/// An OAuth error code if `text` has the form of one. Other text may repeat a token and is not returned.
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
    use crate::http::AnswerHead;

    proptest! {
        #[test]
        fn an_error_shows_no_text_of_the_server(
            status in 100_u16..600,
            code in "(oidc_error|invalid_token|access_denied|[A-Za-z_ ]{0,12}HUSH[A-Za-z_.]{0,40})",
            description in "(HUSH|[a-z_]{0,20}: HUSH|HUSH: [a-z]{0,20}|eyJHUSH\\.eyJ\\.x)",
            html in any::<bool>(),
        ) {
            let server = ServerUrl::parse("https://mt.example.org", false).unwrap();
            let json = serde_json::json!({"error": code, "error_description": description}).to_string();
            let body = if html { format!("<html>{description}") } else { json };
            let answer = HttpAnswer {
                status,
                content_type: Some(if html { "text/html" } else { "application/json" }.to_owned()),
                retry_after: None,
                head: AnswerHead::default(),
                body: Zeroizing::new(body.into_bytes()),
            };
            for context in [Context::Plain, Context::Code, Context::Mytoken("AT")] {
                let error = refusal(&server, &answer, context);
                prop_assert!(!format!("{error} {error:?}").contains("HUSH"), "{error:?}");
            }
        }

        #[test]
        fn any_body_without_json_means_unavailable(status in 100_u16..600, body in prop::collection::vec(any::<u8>(), 0..80)) {
            let server = ServerUrl::parse("https://mt.example.org", false).unwrap();
            let body = Zeroizing::new(body);
            let answer = HttpAnswer { status, content_type: None, retry_after: None, head: AnswerHead::default(), body };
            let error = refusal(&server, &answer, Context::Plain);
            prop_assert!(!error.to_string().is_empty());
            // The answer may come from a proxy, so it says nothing about the token.
            prop_assert!(error.is_unavailable(), "{status}: {error:?}");
            prop_assert_eq!(matches!(error, Error::Server(ServerError::TooManyRequests { .. })), status == 429);
        }
    }
}
