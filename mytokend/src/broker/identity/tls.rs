// SPDX-License-Identifier: MIT OR Apache-2.0
//! The broker's end of the connections with nodes: TLS 1.3, with a certificate of the node except for enrolment.

mod own_certificate;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use mytoken::Clock;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::authority::{Authority, AuthorityError};
use super::certificate;
use super::key_hash::KeyHash;
use super::node_name::NodeName;
use own_certificate::OwnCertificate;

/// An authority of the site that gives certificates to all its hosts.
#[derive(Debug, Clone)]
pub struct SiteAuthority {
    /// Its certificates.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The DNS domain of the nodes: `n1` is the node of a certificate for `n1.DOMAIN`. Without it, any host of the site could pass for a
    /// node of the same short name.
    pub domain: String,
}

/// The broker's TLS settings.
pub struct BrokerTls {
    config: Arc<ServerConfig>,
    own: Arc<OwnCertificate>,
    cluster: Arc<dyn ClientCertVerifier>,
    site_domain: Option<String>,
    clock: Arc<dyn Clock>,
}

/// Who is at the other end of a connection, as its certificate says. Whether this node is enrolled with this key is asked with
/// [`super::Register::is_pinned`] at each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub node: NodeName,
    /// Its public key.
    pub key: KeyHash,
    /// Last second of its certificate, Unix seconds. A connection may last longer.
    pub ends: u64,
    /// Who signed the certificate.
    pub signer: Signer,
}

/// Who signed a node's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The cluster's own authority.
    Cluster,
    /// The site's authority.
    Site,
}

/// Why there are no TLS settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The authority makes no certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The TLS library refuses the settings or a certificate.
    #[error("the TLS settings cannot be made: {0}")]
    Settings(String),
}

/// The certificate of a connection is trusted, but does not name a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate of the connection does not name exactly one node{}", .0.as_ref().map(|domain| format!(" of the domain {domain}")).unwrap_or_default())]
pub struct NotANode(Option<String>);

/// The provider of cryptography. It is passed explicitly, see `mytoken/src/http/roots.rs`.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn settings(error: impl ToString) -> TlsError {
    TlsError::Settings(error.to_string())
}

/// These certificates as roots.
pub(super) fn roots(certificates: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store.add(certificate.clone()).map_err(settings)?;
    }
    Ok(Arc::new(store))
}

/// The time of day of a [`Clock`].
#[derive(Clone)]
pub(super) struct TlsTime(pub(super) Arc<dyn Clock>);

impl std::fmt::Debug for TlsTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsTime")
    }
}

impl TimeProvider for TlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now())))
    }
}

impl BrokerTls {
    /// Settings for a broker with these DNS names and addresses. Its own certificate is made now, and again at half of its life.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(
        authority: Arc<Authority>,
        names: Vec<String>,
        site: Option<SiteAuthority>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let verifier = |certificates: &[CertificateDer<'static>]| {
            let builder = WebPkiClientVerifier::builder_with_provider(roots(certificates)?, provider());
            builder.allow_unauthenticated().build().map_err(settings)
        };
        let cluster = verifier(authority.certificates())?;
        let (accepted, site_domain) = match site {
            None => (Arc::clone(&cluster), None),
            Some(site) => {
                let both = [authority.certificates(), &site.certificates].concat();
                (verifier(&both)?, Some(site.domain.trim_matches('.').to_ascii_lowercase()))
            }
        };
        let own = Arc::new(OwnCertificate::new(authority, names, Arc::clone(&clock))?);
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(TlsTime(Arc::clone(&clock))))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(settings)?
            .with_client_cert_verifier(accepted)
            .with_cert_resolver(Arc::clone(&own) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Each connection shows its certificate again. A handshake takes a third of a millisecond, and nodes keep their connections.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), own, cluster, site_domain, clock })
    }

    /// The settings for the TLS library.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// The last second of the broker's own certificate, Unix seconds.
    #[must_use]
    pub fn own_end(&self) -> u64 {
        self.own.ends()
    }

    /// The node at the other end of a connection whose handshake is complete. `None`: it has no certificate, and can only enrol.
    ///
    /// # Errors
    /// [`NotANode`].
    pub fn peer(&self, connection: &ServerConnection) -> Result<Option<Peer>, NotANode> {
        let Some([own, chain @ ..]) = connection.peer_certificates() else { return Ok(None) };
        let signer = match &self.site_domain {
            None => Signer::Cluster,
            Some(_) => {
                let now = UnixTime::since_unix_epoch(Duration::from_secs(self.clock.now()));
                let signed = self.cluster.verify_client_cert(own, chain, now);
                signed.map_or(Signer::Site, |_| Signer::Cluster)
            }
        };
        let content = certificate::read(own).map_err(|_| NotANode(None))?;
        let (node, domain) = match (signer, &self.site_domain) {
            (Signer::Site, Some(domain)) => (node_below(&content.dns_names, domain), Some(domain.clone())),
            _ => (node_of(&content.uris), None),
        };
        let node = node.ok_or(NotANode(domain))?;
        Ok(Some(Peer { node, key: content.key, ends: content.ends, signer }))
    }
}

/// The node of a certificate of the cluster's authority.
fn node_of(uris: &[String]) -> Option<NodeName> {
    match uris {
        [uri] => NodeName::from_uri(uri),
        _ => None,
    }
}

/// The node of a site's certificate: the only one of its names that is one label below `domain`.
fn node_below(names: &[String], domain: &str) -> Option<NodeName> {
    let label = |name: &String| {
        let (label, above) = name.split_once('.')?;
        above.eq_ignore_ascii_case(domain).then(|| label.to_owned())
    };
    let mut labels = names.iter().filter_map(label);
    match (labels.next(), labels.next()) {
        (Some(label), None) => label.parse().ok(),
        _ => None,
    }
}
