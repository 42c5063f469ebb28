// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why the certificate of a server is not accepted.

use std::error::Error;

use rustls::CertificateError;

/// Why a certificate is not accepted: a part of a sentence, with what to do. None of these faults goes away by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// No trusted authority signed it, or the server does not send the certificates in between.
    #[error(
        "it comes from an authority that is not trusted here; add the authority's certificate to ca_file in mytoken.toml, or to the system's certificates"
    )]
    UnknownAuthority,
    /// It is for other host names.
    #[error("it is for another host name{}; compare the URL in mytoken.toml", names(.presented))]
    OtherName {
        /// The names in the certificate, if it tells them.
        presented: Vec<String>,
    },
    /// It has expired.
    #[error("it has expired; the server needs a new one, or the clock of this host is wrong")]
    Expired,
    /// Its time has not begun.
    #[error("it is not valid yet; compare the clock of this host with the server's")]
    NotYetValid,
    /// Another fault.
    #[error("{reason}; the server needs another one")]
    Other {
        /// The TLS library's words.
        reason: String,
    },
}

impl CertificateFault {
    /// The fault that made a connection fail, if it was the certificate.
    pub(super) fn of(error: &reqwest::Error) -> Option<Self> {
        let mut cause: Option<&(dyn Error + 'static)> = error.source();
        while let Some(error) = cause {
            if let Some(rustls::Error::InvalidCertificate(fault)) = tls_error(error) {
                return Some(fault.into());
            }
            cause = error.source();
        }
        None
    }
}

/// The TLS library's error. `source` of an I/O error passes over the error that it holds.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(held) => tls_error(held),
        None => error.downcast_ref(),
    }
}

impl From<&CertificateError> for CertificateFault {
    fn from(error: &CertificateError) -> Self {
        match error {
            // A bad signature: the trusted authority has the name of the one that signed, but another key. It was made anew.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
            CertificateError::NotValidForName => Self::OtherName { presented: Vec::new() },
            CertificateError::NotValidForNameContext { presented, .. } => Self::OtherName {
                presented: presented.iter().take(5).map(|name| mytoken_wire::printable(plain(name), 100)).collect(),
            },
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            other => Self::Other { reason: mytoken_wire::printable(&other.to_string(), 160) },
        }
    }
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() { String::new() } else { format!(" ({})", presented.join(", ")) }
}

/// The name in `DnsName("mt.example.org")`, as the TLS library writes it.
fn plain(presented: &str) -> &str {
    presented.split('"').nth(1).unwrap_or(presented)
}
