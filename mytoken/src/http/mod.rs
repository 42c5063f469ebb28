// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one hardened HTTP client. It obeys no environment variable, follows no redirect, keeps no cookie, reads no more than its
//! limit, and ends with the operation's deadline (SSH-31: what reqwest does otherwise).
//!
//! A client is made for one operation and dropped before the operation returns: its helper thread is joined and its sockets are
//! closed then. A client must never rest in a static: a forked child would inherit a dead one.

mod answer;
#[cfg(fuzzing)]
pub mod canned;
mod client;
mod error;
mod lazy;
mod resolver;
mod roots;

use std::path::PathBuf;
use std::time::Duration;

pub use answer::{Answer, BodyError, retry_after};
pub use client::HttpClient;
pub use error::HttpError;
pub use lazy::LazyClient;

/// How many bytes an ordinary answer may have.
pub const ANSWER_LIMIT: usize = 64 * 1024;

/// How many bytes a discovery document, key set or list may have.
pub const DOCUMENT_LIMIT: usize = 256 * 1024;

/// The settings of the client; nothing else changes its behaviour.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Which certificates are trusted.
    pub roots: Roots,
    /// URL of an HTTP proxy for everything but this machine. `None`: no proxy, whatever the environment says.
    pub proxy: Option<String>,
    /// Whether plain http to this machine (127.0.0.0/8, `::1`, `localhost`) is accepted.
    pub loopback_http: bool,
    /// How long making one connection may take, within the deadline.
    pub connect_timeout: Duration,
    /// Shown in the mytoken server's event history; `mytoken-suite/<version>` unless set.
    pub user_agent: String,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            roots: Roots::Distribution,
            proxy: None,
            loopback_http: false,
            connect_timeout: Duration::from_secs(3),
            user_agent: concat!("mytoken-suite/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Where the trusted certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// This PEM file and nothing else.
    File(PathBuf),
    /// The first bundle of the distribution that exists.
    Distribution,
    /// As [`Roots::Distribution`], but `SSL_CERT_FILE` and the proxy variables are honoured. Only for a tool that runs as the
    /// ordinary user who set them: in a setuid or root process the caller would choose whom we trust.
    UserTool,
}
