// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of HTTP requests.

use super::CertificateFault;
use crate::InputError;
use crate::urls::UrlError;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The trusted certificates could not be loaded.
    #[error("the trusted certificates cannot be read from {file}: {reason}; set ca_file in mytoken.toml")]
    Roots {
        /// The file or files.
        file: String,
        /// Why.
        reason: String,
    },
    /// The HTTP client cannot be made with these settings.
    #[error("the HTTP client cannot be set up: {reason}; see [http] in mytoken.toml")]
    Settings {
        /// Why.
        reason: String,
    },
    /// No answer from a host.
    #[error("{host} cannot be reached ({reason}); try again later")]
    Unreachable {
        /// Scheme, host and port.
        host: String,
        /// What the operating system or TLS said.
        reason: String,
        /// Whether the server may have received and executed the request.
        sent: bool,
    },
    /// The certificate of a host is not accepted. Nothing was sent.
    #[error("the certificate of {host} is not accepted: {fault}")]
    Certificate {
        /// Scheme, host and port.
        host: String,
        /// Why.
        fault: CertificateFault,
    },
    /// The configured proxy gave no connection to a host. Nothing was sent.
    #[error(
        "the proxy {proxy} gives no connection to {host} ({reason}); compare proxy in mytoken.toml, or try again later"
    )]
    Proxy {
        /// Scheme, host and port of the proxy.
        proxy: String,
        /// Scheme, host and port.
        host: String,
        /// What the operating system or the proxy said.
        reason: String,
    },
    /// The operation's deadline passed.
    #[error("{host} did not answer in time; try again later")]
    TooLate {
        /// Scheme, host and port.
        host: String,
    },
    /// The answer is longer than the limit.
    #[error("{host} sent an answer of more than {limit} bytes; it was not read")]
    TooLarge {
        /// Scheme, host and port.
        host: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// A URL that must not be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The request itself is wrong.
    #[error(transparent)]
    Input(#[from] InputError),
}

impl HttpError {
    /// Whether there was no connection to the host, so nothing can have been sent.
    #[must_use]
    pub fn is_without_connection(&self) -> bool {
        matches!(self, Self::Unreachable { sent: false, .. } | Self::Certificate { .. } | Self::Proxy { .. })
    }
}
