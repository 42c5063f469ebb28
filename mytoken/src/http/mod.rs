// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hardened HTTP client. It ignores environment variables, follows no redirect, keeps no cookie, reads at most a given number of
//! bytes, and stops at the operation's deadline. SSH-31 says what reqwest does by default.
//!
//! Make a client for one operation, and drop it before the operation returns: this joins its helper thread and closes its sockets. Never
//! keep a client in a static: a forked child would inherit a client whose threads do not exist.

mod answer;
#[cfg(fuzzing)]
pub mod canned;
mod cause;
mod certificate;
mod client;
mod error;
mod lazy;
mod proxy;
mod resolver;
mod roots;
mod server_clock;

use std::path::PathBuf;
use std::time::Duration;

pub use answer::{AnswerHead, BodyError, HttpAnswer, RequestLimit, Traffic, retry_after};
pub use cause::root_cause;
pub use certificate::CertificateFault;
pub use client::HttpClient;
pub use error::HttpError;
pub use lazy::LazyClient;
pub use proxy::proxy_url;
pub use server_clock::{ServerClock, boot_id, clock_difference};

/// Largest ordinary answer in bytes.
pub const ANSWER_LIMIT: usize = 64 * 1024;

/// Largest discovery document, key set or list in bytes.
pub const DOCUMENT_LIMIT: usize = 256 * 1024;

/// The settings of the client. Nothing else changes its behaviour.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Which certificates are trusted.
    pub roots: Roots,
    /// URL of an HTTP proxy for all hosts except this machine. `None`: no proxy; the environment is ignored.
    pub proxy: Option<String>,
    /// Whether plain http to this machine (127.0.0.0/8, `::1`, `localhost`) is accepted.
    pub loopback_http: bool,
    /// Time limit for making one connection, within the deadline.
    pub connect_timeout: Duration,
    /// The mytoken server shows it in its event history. By default `mytoken-suite/<version>`.
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
    /// Only this PEM file.
    File(PathBuf),
    /// The distribution's bundle: the first known path that exists.
    Distribution,
    /// Like [`Roots::Distribution`], but `SSL_CERT_FILE` and the proxy variables are used. Only for a tool that runs as the ordinary user
    /// who set them: in a setuid or root process, they would let the caller choose the trusted servers.
    UserTool,
}
