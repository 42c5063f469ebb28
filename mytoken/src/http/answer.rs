// SPDX-License-Identifier: MIT OR Apache-2.0
//! What came back, read within a limit.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// An answer: status first, then the body, whatever its form. The body may hold tokens and is wiped when dropped.
pub struct Answer {
    /// HTTP status; mytoken servers also use 278, 428 and 555.
    pub status: u16,
    /// `Content-Type`, in lower case and without parameters.
    pub content_type: Option<String>,
    /// `Retry-After`, when it is a number of seconds.
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
