// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trusted certificates and the TLS settings built from them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};

use super::HttpError;
use super::Roots;

/// The paths of the distributions' bundles: Debian and derivatives, Fedora and RHEL, openSUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS 1.2 and 1.3 with ring and exactly these roots. The provider is passed explicitly: a process-wide default would affect other users
/// of rustls in sshd's process.
pub(super) fn tls(roots: &Roots) -> Result<ClientConfig, HttpError> {
    let store = load(&file(roots)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| HttpError::Settings { reason: error.to_string() })?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

fn file(roots: &Roots) -> Result<PathBuf, HttpError> {
    if let Roots::File(file) = roots {
        return Ok(file.clone());
    }
    if *roots == Roots::UserTool {
        if let Some(file) = std::env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty()) {
            return Ok(file.into());
        }
    }
    BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| HttpError::Roots {
        file: BUNDLES.join(", "),
        reason: "none of these files exists; install ca-certificates".to_owned(),
    })
}

fn load(path: &Path) -> Result<RootCertStore, HttpError> {
    let wrong = |reason: String| HttpError::Roots { file: path.display().to_string(), reason };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(sentence(&error)))?;
    let mut store = RootCertStore::empty();
    // webpki cannot parse a few certificates in the distributions' bundles. They are left out.
    let (added, _) = store.add_parsable_certificates(certificates);
    if added == 0 { Err(wrong("it holds no certificate".to_owned())) } else { Ok(store) }
}

/// The crate's own words for these list bytes.
fn sentence(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it ends within a certificate: the line with END is missing".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a line with BEGIN is not complete".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(file.path(), text).unwrap();
            let error = tls(&Roots::File(file.path().to_owned())).unwrap_err();
            assert!(matches!(error, HttpError::Roots { .. }), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_file_that_was_cut_is_named_as_such() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
        let error = tls(&Roots::File(file.path().to_owned())).unwrap_err().to_string();
        assert!(error.contains("ends within a certificate") && !error.contains('['), "{error}");
    }

    #[test]
    fn the_error_for_a_missing_file_names_the_file() {
        let error = tls(&Roots::File("/nonexistent/ca.pem".into())).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
    }
}
