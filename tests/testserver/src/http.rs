// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests and answers, independent of the HTTP library.

use std::net::IpAddr;
use std::time::Duration;

/// A request with its complete body.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path as sent, without the query.
    pub path: String,
    /// The query without `?`.
    pub query: Option<String>,
    /// Header fields in the order of the request.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Address of the client.
    pub peer: IpAddr,
}

impl Request {
    /// The first header of that name, in any letter case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code; the original uses unregistered ones too (278, 555).
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// An answer without a body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A JSON answer.
    #[must_use]
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::typed(status, "application/json", value.to_string())
    }

    /// An answer with a body of the given media type.
    #[must_use]
    pub fn typed(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type".into(), content_type.into())], body: body.into() }
    }

    /// The same answer with one more header field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The first header of that name, in any letter case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// How a request is answered.
#[derive(Debug, Clone)]
pub enum Reply {
    /// The answer at once.
    Answer(Response),
    /// The connection is closed without an answer.
    Close,
    /// The body is sent a byte at a time with this pause.
    Drip(Response, Duration),
    /// The answer after a pause.
    Late(Response, Duration),
}

/// Answers requests. Handlers may block: the listener runs each on its own thread.
pub trait Handler: Send + Sync {
    /// Answers the request.
    fn handle(&self, request: &Request) -> Reply;

    /// Learns that an answer was not sent: the connection was closed before. The request was carried out all the same.
    fn not_sent(&self, _answer: &Response) {}
}
