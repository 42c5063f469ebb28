// SPDX-License-Identifier: MIT OR Apache-2.0
//! Certificates that are not accepted: the handshake fails, and whoever shows one gets no answer.

use std::io;

use rustls::{CertificateError, Error};

/// Why a handshake has failed, if it was for the certificate of the other end: a part of a sentence. It has no number or time, so that the
/// log has the same line for each attempt. `None`: the other end has closed the connection, or does not speak TLS.
pub(super) fn certificate_fault(failed: &io::Error) -> Option<&'static str> {
    let Some(Error::InvalidCertificate(fault)) = failed.get_ref()?.downcast_ref::<Error>() else { return None };
    Some(match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; compare the clocks"
        }
        CertificateError::UnknownIssuer => "an authority that the broker does not know has signed it",
        // Of the certificate, or of the handshake.
        CertificateError::BadSignature => "it is forged, or the other end does not have its key",
        _ => "it is not one of a node",
    })
}
