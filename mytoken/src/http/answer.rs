// SPDX-License-Identifier: MIT OR Apache-2.0
//! What came back, read within a limit.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// An answer: status first, then the body, whatever its form. The body may hold tokens and is wiped when dropped.
pub struct Answer {
    /// HTTP status; mytoken servers also use 278, 428 and 555 (MT-06).
    pub status: u16,
    /// `Content-Type`, in lower case and without parameters.
    pub content_type: Option<String>,
    /// `Retry-After`: how long to wait.
    pub retry_after: Option<Duration>,
    /// `Date`: the server's clock, in whole seconds.
    pub date: Option<SystemTime>,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// Reads the body as a JSON object. The error tells line and column, not the content.
    ///
    /// # Errors
    /// A short description of what is wrong with the body.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        if self.body.is_empty() {
            return Err("empty body".to_owned());
        }
        // serde would also read a list as a structure, member by member.
        if self.body.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
            return Err("a list where an object was expected".to_owned());
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            let kind = match error.classify() {
                serde_json::error::Category::Data => "unexpected JSON",
                _ => "not JSON",
            };
            format!("{kind} at line {} column {}", error.line(), error.column())
        })
    }

    /// Whether the body calls itself JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.content_type.as_deref().is_some_and(|kind| kind == "application/json" || kind.ends_with("+json"))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .field("retry_after", &self.retry_after)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// What `Retry-After` says (RFC 9110 10.2.3): seconds, or a date, which counts from the server's own `Date`, not from the clock here.
#[must_use]
pub fn retry_after(text: &str, date: Option<SystemTime>) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A larger number means for ever.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(date?).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_in_seconds_or_by_a_date() {
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
