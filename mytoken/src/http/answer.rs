// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answer to an HTTP request.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::server_clock::ServerClock;

/// Why a body is not the expected JSON object. `Display` tells line and column, never the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body has no bytes.
    #[error("empty body")]
    Empty,
    /// A JSON list.
    #[error("a list where an object was expected")]
    List,
    /// Not JSON.
    #[error("not JSON at line {line} column {column}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON with other members or types than expected.
    #[error("unexpected JSON at line {line} column {column}")]
    Data {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
}

/// The request limit that a server tells (MT-07).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimit {
    /// Requests that it accepts from one address in its period.
    pub requests: u64,
    /// How many of them are left.
    pub left: u64,
    /// When its period ends, if it tells that.
    pub reset: Option<Duration>,
}

/// What a client has sent, and what was answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Number of requests that may have arrived, repeated ones included.
    pub sent: u32,
    /// The request limit in the last answer that told one.
    pub limit: Option<RequestLimit>,
}

/// What an answer tells about the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerHead {
    /// `Date`: the server's clock, in whole seconds.
    pub date: Option<SystemTime>,
    /// The server's clock, if the answer comes from the server itself and not from a cache on the way.
    pub clock: Option<ServerClock>,
    /// Its request limit, if it tells one.
    pub request_limit: Option<RequestLimit>,
}

/// An answer of any status, with a body of any form. The body may hold tokens and is wiped when dropped.
pub struct HttpAnswer {
    /// HTTP status; mytoken servers also use 278, 428 and 555 (MT-06).
    pub status: u16,
    /// `Content-Type`, in lower case and without parameters.
    pub content_type: Option<String>,
    /// `Retry-After`: the time to wait.
    pub retry_after: Option<Duration>,
    /// What it tells about the server.
    pub head: AnswerHead,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
}

impl HttpAnswer {
    /// Reads the body as a JSON object.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, BodyError> {
        if self.body.is_empty() {
            return Err(BodyError::Empty);
        }
        // serde would also read a list as a structure, member by member.
        if self.body.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
            return Err(BodyError::List);
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            match error.classify() {
                serde_json::error::Category::Data => BodyError::Data { line, column },
                _ => BodyError::Syntax { line, column },
            }
        })
    }

    /// Whether `Content-Type` says JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.content_type.as_deref().is_some_and(|kind| kind == "application/json" || kind.ends_with("+json"))
    }
}

impl fmt::Debug for HttpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAnswer")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .field("retry_after", &self.retry_after)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// The time to wait that `Retry-After` gives (RFC 9110 10.2.3): in seconds, or as a date. A date is compared with the server's own
/// `Date` header, not with the local clock.
#[must_use]
pub fn retry_after(text: &str, date: Option<SystemTime>) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number above the range means "for ever".
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(date?).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let date = httpdate::parse_http_date("Thu, 26 Nov 2026 02:00:00 GMT").ok();
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("18446744073709551615", Some(u64::MAX)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Thu, 26 Nov 2026 02:05:00 GMT", Some(300)),
            ("Thursday, 26-Nov-26 02:05:00 GMT", Some(300)),
            ("Thu, 26 Nov 2026 01:00:00 GMT", Some(0)),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, date).map(|wait| wait.as_secs()), seconds, "{text}");
        }
        assert_eq!(retry_after("Thu, 26 Nov 2026 02:05:00 GMT", None), None);
    }
}
