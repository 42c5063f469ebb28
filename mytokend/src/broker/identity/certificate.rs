// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is read from a certificate.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::key_hash::KeyHash;

/// Longest certificate in bytes.
pub const LONGEST: usize = 16 * 1024;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateContent {
    /// Its public key.
    pub key: KeyHash,
    /// From when on it is valid, Unix seconds.
    pub begins: u64,
    /// Its last second, Unix seconds.
    pub ends: u64,
    /// Its alternative names that are URIs.
    pub uris: Vec<String>,
    /// Its alternative names that are DNS names.
    pub dns_names: Vec<String>,
    /// Whether it is an authority's.
    pub is_authority: bool,
}

/// The bytes are not a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a certificate")]
pub struct NotACertificate;

/// Reads a certificate. Its signature is not checked.
///
/// # Errors
/// [`NotACertificate`].
pub fn read(der: &[u8]) -> Result<CertificateContent, NotACertificate> {
    if der.len() > LONGEST {
        return Err(NotACertificate);
    }
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| NotACertificate)?;
    if !rest.is_empty() {
        return Err(NotACertificate);
    }
    let names = certificate.subject_alternative_name().map_err(|_| NotACertificate)?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let constraints = certificate.basic_constraints().map_err(|_| NotACertificate)?;
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or_default();
    let mut content = CertificateContent {
        key: KeyHash::of(certificate.public_key().raw),
        begins: seconds(certificate.validity().not_before),
        ends: seconds(certificate.validity().not_after),
        uris: Vec::new(),
        dns_names: Vec::new(),
        is_authority: constraints.is_some_and(|constraints| constraints.value.ca),
    };
    for name in names {
        match name {
            GeneralName::URI(uri) => content.uris.push((*uri).to_owned()),
            GeneralName::DNSName(name) => content.dns_names.push((*name).to_owned()),
            _ => {}
        }
    }
    Ok(content)
}
