// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cluster's own certificate authority for brokers and nodes.

mod files;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, ServerName};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::node_name::NodeName;
use super::request::CertificateRequest;
use super::wiped_key::WipedKey;

pub use files::read_certificates;

/// Name of the file with the private key.
pub const KEY: &str = "broker-ca.key";
/// Name of the file with the certificate. Nodes need a copy.
pub const CERTIFICATE: &str = "broker-ca.pem";

/// Seconds of a day.
pub(super) const DAY: u64 = 86_400;

/// Life of the authority's certificate in seconds.
pub const AUTHORITY_LIFE: u64 = 3653 * DAY;
/// Life of a node's certificate in seconds.
pub const NODE_LIFE: u64 = 365 * DAY;
/// Life of a broker's certificate in seconds.
pub const BROKER_LIFE: u64 = 90 * DAY;
/// By how much certificates are back-dated, in seconds: the clock of a node may be behind, by hours if its hardware clock has local time.
pub const BACK_DATED: u64 = DAY;

/// The authority. Its private key signs nothing but certificates of nodes and of this broker.
pub struct Authority {
    issuer: Issuer<'static, WipedKey>,
    /// Its own certificate, and those of former authorities that are still trusted.
    certificates: Vec<CertificateDer<'static>>,
    ends: u64,
}

/// A certificate for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCertificate {
    /// In PEM.
    pub pem: String,
    /// Its last second, Unix seconds.
    pub ends: u64,
}

/// A broker's certificate and its private key, which exist in memory only.
pub struct BrokerCertificate {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// The private key (PKCS #8, DER).
    pub key: Zeroizing<Vec<u8>>,
    /// Its first second, Unix seconds.
    pub begins: u64,
    /// Its last second, Unix seconds.
    pub ends: u64,
}

/// Why the authority cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A file cannot be read or written, or other users could have written it.
    #[error(transparent)]
    File(#[from] mytoken::Error),
    /// A file of the authority exists already.
    #[error(
        "{directory}: there is an authority already, and certificates of nodes are signed by it. To replace it, move {KEY} and {CERTIFICATE} away first"
    )]
    Exists {
        /// The directory.
        directory: String,
    },
    /// A file holds something else.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Its certificate is not valid at this time.
    #[error("the certificate of the brokers' authority has expired, or the clock of this host is wrong")]
    Expired,
    /// A name of a broker is not one.
    #[error("\"{name}\" is not the DNS name or the address of a broker")]
    BrokerName {
        /// The name.
        name: String,
    },
    /// The broker has no name.
    #[error("a broker needs at least one DNS name or address by which the nodes reach it")]
    NoName,
    /// A certificate could not be made.
    #[error("a certificate cannot be made: {reason}")]
    Signature {
        /// The cryptographic library's words.
        reason: String,
    },
}

mytoken::impl_from_part_errors!(AuthorityError::File: mytoken::config::ConfigError, mytoken::private_files::FileError);

impl Authority {
    /// The certificates that nodes trust: its own one first.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The last second of its certificate, Unix seconds.
    #[must_use]
    pub fn ends(&self) -> u64 {
        self.ends
    }

    /// The last second of a node's certificate that is signed at `now`.
    #[must_use]
    pub fn node_end(&self, now: u64) -> u64 {
        now.saturating_add(NODE_LIFE).min(self.ends)
    }

    /// Signs a certificate for `node` with the key of `request`. The caller has verified that the sender is this node. The certificate has
    /// the node's name as a URI, and is for clients only.
    ///
    /// # Errors
    /// [`AuthorityError::Expired`], [`AuthorityError::Signature`].
    pub fn sign_node(
        &self,
        request: &CertificateRequest,
        node: &NodeName,
        now: u64,
    ) -> Result<SignedCertificate, AuthorityError> {
        let ends = self.node_end(now);
        let mut params = self.params(&format!("mytoken node {node}"), now, ends)?;
        params.subject_alt_names = vec![SanType::URI(node.to_uri().try_into().map_err(failed)?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(request.public_key(), &self.issuer).map_err(failed)?;
        Ok(SignedCertificate { pem: certificate.pem(), ends })
    }

    /// Makes a key and a certificate for a broker with these DNS names and addresses.
    ///
    /// # Errors
    /// [`AuthorityError::BrokerName`], [`AuthorityError::NoName`], [`AuthorityError::Expired`], [`AuthorityError::Signature`].
    pub fn broker_certificate(&self, names: &[String], now: u64) -> Result<BrokerCertificate, AuthorityError> {
        let ends = now.saturating_add(BROKER_LIFE).min(self.ends);
        let mut params =
            self.params(&format!("mytoken broker {}", names.first().ok_or(AuthorityError::NoName)?), now, ends)?;
        params.subject_alt_names = names.iter().map(|name| alternative_name(name)).collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = WipedKey::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let key = key.to_der();
        Ok(BrokerCertificate { certificate: certificate.into(), key, begins: now.saturating_sub(BACK_DATED), ends })
    }

    fn params(&self, name: &str, now: u64, ends: u64) -> Result<CertificateParams, AuthorityError> {
        if now >= self.ends {
            return Err(AuthorityError::Expired);
        }
        let mut params = params(name, now, ends)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

/// What all certificates of the authority have.
fn params(name: &str, now: u64, ends: u64) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = moment(now.saturating_sub(BACK_DATED))?;
    params.not_after = moment(ends)?;
    // rcgen's own number is a hash of the public key: a renewed certificate would have the number of the one before. Without the highest
    // bit, and with the next one: always 16 bytes, as RFC 5280 counts them.
    let serial = mytoken::random::random::<u128>() >> 1 | 1 << 126;
    params.serial_number = Some(SerialNumber::from(serial.to_be_bytes().to_vec()));
    Ok(params)
}

fn moment(unix: u64) -> Result<OffsetDateTime, AuthorityError> {
    let seconds = i64::try_from(unix).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|_| AuthorityError::Signature { reason: "the time of day is out of range".to_owned() })
}

fn alternative_name(name: &str) -> Result<SanType, AuthorityError> {
    let wrong = || AuthorityError::BrokerName { name: mytoken_wire::printable(name, 100) };
    match ServerName::try_from(name).map_err(|_| wrong())? {
        ServerName::DnsName(name) => Ok(SanType::DnsName(name.as_ref().try_into().map_err(|_| wrong())?)),
        ServerName::IpAddress(address) => Ok(SanType::IpAddress(IpAddr::from(address))),
        _ => Err(wrong()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Signature { reason: error.to_string() }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority(ends {})", self.ends)
    }
}

impl fmt::Debug for BrokerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerCertificate({} to {})", self.begins, self.ends)
    }
}

/// When a certificate is renewed, Unix seconds: at half of its life.
#[must_use]
pub fn renew_at(begins: u64, ends: u64) -> u64 {
    begins.saturating_add(ends.saturating_sub(begins) / 2)
}
