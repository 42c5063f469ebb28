// SPDX-License-Identifier: MIT OR Apache-2.0
//! The authority's two files.

use std::path::Path;

use mytoken::config::FileTrust;
use mytoken::private_files::{Directory, FileError, Owner};
use rcgen::{BasicConstraints, IsCa, Issuer, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{AUTHORITY_LIFE, Authority, AuthorityError, CERTIFICATE, KEY, failed, params};
use crate::broker::identity::certificate;
use crate::broker::identity::wiped_key::WipedKey;

/// Longest file with a private key in bytes.
const KEY_LIMIT: usize = 4096;

impl Authority {
    /// Makes an authority for `cluster`: [`KEY`] and [`CERTIFICATE`] in `directory`. Neither file may exist. The certificate is valid from
    /// `now` (Unix seconds) on.
    ///
    /// # Errors
    /// [`AuthorityError::Exists`], [`AuthorityError::File`].
    pub fn create(directory: &Directory, cluster: &str, now: u64) -> Result<(), AuthorityError> {
        if directory.has(KEY)? || directory.has(CERTIFICATE)? {
            return Err(AuthorityError::Exists { directory: directory.path().display().to_string() });
        }
        let key = WipedKey::generate().map_err(failed)?;
        // The name has a part of the key's hash: programs look for an authority by its name.
        let hash = key.hash().short();
        let cluster = mytoken_wire::printable(cluster, 64);
        let name = format!("mytoken authority {cluster} {hash}");
        let mut params = params(&name, now, now.saturating_add(AUTHORITY_LIFE))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        let me = Owner::current();
        directory.write_new_durably(KEY, key.to_pem().as_bytes(), me, 0o600)?;
        let written = directory.write_new_durably(CERTIFICATE, certificate.as_bytes(), me, 0o644);
        if written.is_err() {
            // A key without a certificate would be in the way of the next attempt.
            directory.remove(KEY)?;
        }
        Ok(written?)
    }

    /// Reads an authority. The file with its certificate may also hold those of former ones, which stay trusted.
    ///
    /// # Errors
    /// [`AuthorityError::File`], [`AuthorityError::Content`].
    pub fn load(key: &Path, certificate: &Path, trust: FileTrust) -> Result<Self, AuthorityError> {
        let content = |path: &Path, reason: &str| AuthorityError::Content {
            path: path.display().to_string(),
            reason: reason.to_owned(),
        };
        let bytes = trust.read_private(key, KEY_LIMIT)?.ok_or_else(|| FileError::Unusable {
            path: key.display().to_string(),
            reason: "there is no such file; make an authority with: mytokenctl broker-ca".to_owned(),
        })?;
        let pair = WipedKey::from_pem(&bytes)
            .ok_or_else(|| content(key, "it does not hold a private key on the curve P-256 (PKCS #8, PEM)"))?;
        let hash = pair.hash();
        let certificates = read_certificates(certificate, trust)?;
        let mut own = None;
        let mut others = Vec::new();
        for der in certificates {
            let read = certificate::read(&der).map_err(|error| content(certificate, &error.to_string()))?;
            if !read.is_authority {
                return Err(content(certificate, "it holds a certificate that is not an authority's"));
            }
            if read.key == hash && own.is_none() {
                own = Some((der, read.ends));
            } else {
                others.push(der);
            }
        }
        let (own, ends) =
            own.ok_or_else(|| content(certificate, &format!("it holds no certificate of the key {}", key.display())))?;
        let issuer = Issuer::from_ca_cert_der(&own, pair).map_err(failed)?;
        Ok(Self { issuer, certificates: std::iter::once(own).chain(others).collect(), ends })
    }
}

/// The certificates in a PEM file: at least one.
///
/// # Errors
/// [`AuthorityError::File`], [`AuthorityError::Content`].
pub fn read_certificates(path: &Path, trust: FileTrust) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let content =
        |reason: &str| AuthorityError::Content { path: path.display().to_string(), reason: reason.to_owned() };
    let text = trust.read(path)?;
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| content("it is not a file with certificates (PEM)"))?;
    if certificates.is_empty() { Err(content("it holds no certificate")) } else { Ok(certificates) }
}
