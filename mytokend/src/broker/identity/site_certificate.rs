// SPDX-License-Identifier: MIT OR Apache-2.0
//! The certificate that a node has of the site's authority: it needs no enrolment.

use std::path::Path;
use std::sync::Arc;

use mytoken::Clock;
use mytoken::config::FileTrust;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::authority::read_certificates;
use super::certificate;
use super::node_files::client_config;

/// Longest file with a private key in bytes: RSA keys are larger than others.
const KEY_LIMIT: usize = 64 * 1024;

/// TLS settings with such a certificate.
pub struct SiteCertificate {
    /// The settings.
    pub config: ClientConfig,
    /// Its last second, Unix seconds.
    pub ends: u64,
}

impl SiteCertificate {
    /// Reads a certificate with those above it, and its private key (both PEM), for connections to brokers whose authority has these
    /// certificates.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn load(
        certificate_file: &Path,
        key_file: &Path,
        authority: &[CertificateDer<'static>],
        trust: FileTrust,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let chain = read_certificates(certificate_file, trust).map_err(|error| error.to_string())?;
        let named = |file: &Path, reason: &str| format!("{}: {reason}", file.display());
        let own = chain.first().ok_or_else(|| named(certificate_file, "it holds no certificate"))?;
        let ends = certificate::read(own).map_err(|error| named(certificate_file, &error.to_string()))?.ends;
        let pem = trust.read_private(key_file, KEY_LIMIT).map_err(|error| error.to_string())?;
        let pem = pem.ok_or_else(|| named(key_file, "there is no such file"))?;
        // The library's message could quote the file.
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| named(key_file, "it holds no private key (PEM)"))?;
        let config = client_config(authority, Some((chain, key)), clock);
        let config =
            config.map_err(|error| format!("{}, {}: {error}", certificate_file.display(), key_file.display()))?;
        Ok(Self { config, ends })
    }
}
