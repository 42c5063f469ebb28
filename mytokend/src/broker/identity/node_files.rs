// SPDX-License-Identifier: MIT OR Apache-2.0
//! The node's side: its key, its certificate, and the TLS settings made from them.
//!
//! A node keeps one key for its life: the brokers pin the key, and a renewed certificate is for the same key. So only the certificate is
//! ever replaced, by one atomic rename, and there is no moment at which key and certificate do not belong together.

use std::fmt;
use std::sync::Arc;

use mytoken::Clock;
use mytoken::private_files::{Directory, FileError, Owner};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::authority::renew_at;
use super::certificate::{self, CertificateContent};
use super::key_hash::KeyHash;
use super::node_name::NodeName;
use super::request::CertificateRequest;
use super::tls::{TlsError, TlsTime, provider, roots, settings};
use super::wiped_key::WipedKey;

/// Name of the file with the private key.
pub const KEY: &str = "node.key";
/// Name of the file with the certificate.
pub const CERTIFICATE: &str = "node.pem";

/// Longest file in bytes.
const LIMIT: usize = 64 * 1024;

/// The files of a node.
pub struct NodeFiles {
    directory: Directory,
    node: NodeName,
}

/// Key and certificate of a node.
pub struct NodeIdentity {
    key: WipedKey,
    certificate: Option<(CertificateDer<'static>, CertificateContent)>,
    problem: Option<String>,
}

/// How far a node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// It has no certificate that is valid now. It must enrol.
    Missing,
    /// It has a certificate.
    Valid {
        /// When to ask for the next one, Unix seconds: at half of its life. This may be in the past.
        renew_at: u64,
        /// Its last second, Unix seconds.
        ends: u64,
    },
}

/// Why the node's files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeFilesError {
    /// A file cannot be read or written, or belongs to another user.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key cannot be read. A new one is not made in its place: the brokers have pinned it.
    #[error(
        "{path}: it does not hold a private key on the curve P-256 (PKCS #8, PEM). If it is lost, remove it here and, at a broker: mytokenctl node remove {node}"
    )]
    Key {
        /// The file.
        path: String,
        /// The node.
        node: NodeName,
    },
    /// What the broker has sent is not a certificate for this node.
    #[error("the broker's answer is not a certificate for this node: {0}")]
    Certificate(&'static str),
    /// The cryptographic library refuses.
    #[error("a key or a request cannot be made: {0}")]
    Library(String),
}

impl NodeFiles {
    /// The files of `node` in this directory.
    #[must_use]
    pub fn new(directory: Directory, node: NodeName) -> Self {
        Self { directory, node }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// Reads the key and the certificate. A missing key is made.
    ///
    /// # Errors
    /// [`NodeFilesError::File`], [`NodeFilesError::Key`], [`NodeFilesError::Library`].
    pub fn load(&self) -> Result<NodeIdentity, NodeFilesError> {
        let me = Owner::current();
        let key = match self.directory.read(KEY, me, 0o600, LIMIT)? {
            Some(pem) => self.parse_key(&pem)?,
            None => {
                let key = WipedKey::generate().map_err(library)?;
                // Before the first request: a key that a broker has pinned must not be lost.
                self.directory.write_new_durably(KEY, key.to_pem().as_bytes(), me, 0o600)?;
                key
            }
        };
        let mut identity = NodeIdentity { key, certificate: None, problem: None };
        if let Some(pem) = self.directory.read(CERTIFICATE, me, 0o644, LIMIT)? {
            match self.accept(&identity, &pem) {
                Ok(certificate) => identity.certificate = Some(certificate),
                Err(reason) => {
                    let path = self.directory.path().join(CERTIFICATE);
                    identity.problem = Some(format!("{} is not used, the node enrols again: {reason}", path.display()));
                }
            }
        }
        Ok(identity)
    }

    /// Keeps a certificate that a broker has sent, if it is for this node and its key, and returns the identity with it.
    ///
    /// # Errors
    /// [`NodeFilesError::Certificate`], [`NodeFilesError::File`]. The former certificate stays.
    pub fn store(&self, identity: NodeIdentity, pem: &str) -> Result<NodeIdentity, NodeFilesError> {
        let certificate = self.accept(&identity, pem.as_bytes()).map_err(NodeFilesError::Certificate)?;
        self.directory.write_durably(CERTIFICATE, pem.as_bytes(), Owner::current(), 0o644)?;
        Ok(NodeIdentity { certificate: Some(certificate), problem: None, ..identity })
    }

    fn parse_key(&self, pem: &[u8]) -> Result<WipedKey, NodeFilesError> {
        WipedKey::from_pem(pem).ok_or_else(|| NodeFilesError::Key {
            path: self.directory.path().join(KEY).display().to_string(),
            node: self.node.clone(),
        })
    }

    fn accept(
        &self,
        identity: &NodeIdentity,
        pem: &[u8],
    ) -> Result<(CertificateDer<'static>, CertificateContent), &'static str> {
        if pem.len() > LIMIT {
            return Err("it is too long");
        }
        let mut all = CertificateDer::pem_slice_iter(pem);
        let (Some(Ok(der)), None) = (all.next(), all.next()) else {
            return Err("it does not hold exactly one certificate (PEM)");
        };
        let content = certificate::read(&der).map_err(|_| "it does not hold a certificate")?;
        if content.key != identity.key() {
            return Err("it is for another key");
        }
        match content.uris.as_slice() {
            [uri] if NodeName::from_uri(uri).as_ref() == Some(&self.node) => Ok((der, content)),
            _ => Err("it is for another node"),
        }
    }
}

impl NodeIdentity {
    /// The hash of the node's public key.
    #[must_use]
    pub fn key(&self) -> KeyHash {
        self.key.hash()
    }

    /// Why a certificate that is there is not used: a sentence for the log.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// A request for a certificate, DER.
    ///
    /// # Errors
    /// [`NodeFilesError::Library`].
    pub fn request(&self) -> Result<Vec<u8>, NodeFilesError> {
        CertificateRequest::make(&self.key).map_err(NodeFilesError::Library)
    }

    /// How far the node has come at `now` (Unix seconds).
    #[must_use]
    pub fn enrolment(&self, now: u64) -> Enrolment {
        match &self.certificate {
            Some((_, CertificateContent { begins, ends, .. })) if (*begins..=*ends).contains(&now) => {
                Enrolment::Valid { renew_at: renew_at(*begins, *ends), ends: *ends }
            }
            _ => Enrolment::Missing,
        }
    }

    /// TLS settings for connections to brokers whose authority has these certificates. The node shows its certificate, if it has one.
    ///
    /// # Errors
    /// [`TlsError::Settings`].
    pub fn client_config(
        &self,
        authority: &[CertificateDer<'static>],
        clock: Arc<dyn Clock>,
    ) -> Result<ClientConfig, TlsError> {
        let own = match &self.certificate {
            None => None,
            Some((certificate, _)) => {
                let key = PrivateKeyDer::try_from(self.key.to_der().as_slice()).map_err(settings)?.clone_key();
                Some((vec![certificate.clone()], key))
            }
        };
        client_config(authority, own, clock)
    }
}

/// TLS settings for connections to brokers, with a certificate of the site or of the cluster.
///
/// # Errors
/// [`TlsError::Settings`].
pub fn client_config(
    authority: &[CertificateDer<'static>],
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(TlsTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(settings)?
        .with_root_certificates(roots(authority)?);
    let mut config = match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(settings)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn library(error: rcgen::Error) -> NodeFilesError {
    NodeFilesError::Library(error.to_string())
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeIdentity({})", self.key().short())
    }
}

#[cfg(test)]
mod tests;
