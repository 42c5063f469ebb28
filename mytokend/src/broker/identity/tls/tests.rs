// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handshakes between a broker and what may connect to it, in memory.

use std::sync::atomic::{AtomicU64, Ordering};

use mytoken::config::FileTrust;
use mytoken::private_files::{Directory, Owner};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, ClientConnection, HandshakeKind, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, ServerName};

use super::*;
use crate::broker::identity::authority::{BROKER_LIFE, CERTIFICATE, KEY, NODE_LIFE};
use crate::broker::identity::request::CertificateRequest;

const NOW: u64 = 1_800_000_000;

struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A certificate chain and its key.
type Credentials = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

struct Site {
    authority: Arc<Authority>,
    clock: Arc<TestClock>,
    tls: BrokerTls,
}

fn authority() -> Arc<Authority> {
    let temp = tempfile::tempdir().unwrap();
    Authority::create(&Directory::open(temp.path()).unwrap(), "testbed", NOW).unwrap();
    let trust = FileTrust::user(Owner::current().uid);
    Arc::new(Authority::load(&temp.path().join(KEY), &temp.path().join(CERTIFICATE), trust).unwrap())
}

fn site(with: Option<SiteAuthority>) -> Site {
    let (authority, clock) = (authority(), Arc::new(TestClock(AtomicU64::new(NOW))));
    let names = vec!["broker1".to_owned(), "10.0.0.1".to_owned()];
    let tls = BrokerTls::new(Arc::clone(&authority), names, with, Arc::clone(&clock) as _).unwrap();
    Site { authority, clock, tls }
}

fn node_credentials(authority: &Authority, node: &str) -> (KeyHash, Credentials) {
    let key = KeyPair::generate().unwrap();
    let request = CertificateRequest::read(&CertificateRequest::make(&key).unwrap()).unwrap();
    let signed = authority.sign_node(&request, &node.parse().unwrap(), NOW).unwrap();
    let certificate = CertificateDer::from_pem_slice(signed.pem.as_bytes()).unwrap();
    (request.key(), (vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap()))
}

/// An authority of the site, and certificates by it.
struct SiteIssuer(Issuer<'static, KeyPair>, CertificateDer<'static>);

impl SiteIssuer {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "site");
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self(Issuer::new(params, key), certificate)
    }

    fn credentials(&self, names: Vec<SanType>) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0).unwrap().der().clone();
        (vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

impl Site {
    fn client(&self, own: Option<Credentials>) -> ClientConfig {
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(TlsTime(Arc::clone(&self.clock) as _)))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(self.authority.certificates()).unwrap());
        let mut config = match own {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }

    /// Connects, and returns who the broker sees, or the first error at either end.
    fn connect_with(&self, config: ClientConfig, name: &str) -> Result<Result<Option<Peer>, NotANode>, rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name)?;
        let mut server = ServerConnection::new(self.tls.config())?;
        for _ in 0..10 {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        assert_ne!(server.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(client.alpn_protocol(), Some(b"http/1.1".as_slice()));
        Ok(self.tls.peer(&server))
    }

    fn connect(&self, own: Option<Credentials>) -> Result<Result<Option<Peer>, NotANode>, rustls::Error> {
        self.connect_with(self.client(own), "broker1")
    }
}

#[test]
fn a_node_is_known_by_its_certificate_and_anybody_may_connect_to_enrol() {
    let site = site(None);
    let (key, own) = node_credentials(&site.authority, "n1");
    let peer = Peer { node: "n1".parse().unwrap(), key, ends: NOW + NODE_LIFE, signer: Signer::Cluster };
    assert_eq!(site.connect(Some(own)).unwrap(), Ok(Some(peer)));
    assert_eq!(site.connect(None).unwrap(), Ok(None));
}

#[test]
fn a_client_checks_the_name_of_the_broker() {
    let site = site(None);
    assert!(site.connect_with(site.client(None), "10.0.0.1").is_ok());
    for other in ["broker2", "10.0.0.2"] {
        let error = site.connect_with(site.client(None), other).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
    }
}

#[test]
fn a_node_cannot_pass_for_a_broker() {
    let site = site(None);
    let (_, (chain, key)) = node_credentials(&site.authority, "broker1");
    let config = ServerConfig::builder_with_details(provider(), Arc::new(TlsTime(Arc::clone(&site.clock) as _)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let false_broker = Site { tls: BrokerTls { config: Arc::new(config), ..self::site(None).tls }, ..site };
    let error = false_broker.connect(None).unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
}

#[test]
fn certificates_of_other_authorities_and_expired_ones_are_refused() {
    let site = site(None);
    let (_, foreign) = node_credentials(&authority(), "n1");
    assert!(site.connect(Some(foreign)).is_err());
    let broker = site.authority.broker_certificate(&["broker1".to_owned()], NOW).unwrap();
    let key = PrivateKeyDer::try_from(broker.key.to_vec()).unwrap();
    assert!(site.connect(Some((vec![broker.certificate], key))).is_err(), "a broker's certificate is not for clients");
    let (_, own) = node_credentials(&site.authority, "n1");
    site.clock.0.store(NOW + NODE_LIFE + 1, Ordering::Relaxed);
    let error = site.connect(Some(own)).unwrap_err().to_string();
    assert!(error.contains("xpired"), "{error}");
}

/// Somebody who shows a certificate and signs with another key. rustls itself refuses such a pair.
#[derive(Debug)]
struct Copied(Arc<CertifiedKey>);

impl ResolvesClientCert for Copied {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn a_copied_certificate_is_worth_nothing_without_its_key() {
    let site = site(None);
    let (_, (chain, key)) = node_credentials(&site.authority, "n1");
    let (_, (_, other)) = node_credentials(&site.authority, "n2");
    let shows = |key: PrivateKeyDer<'static>| {
        let key = provider().key_provider.load_private_key(key).unwrap();
        let mut config = site.client(None);
        config.client_auth_cert_resolver = Arc::new(Copied(Arc::new(CertifiedKey::new(chain.clone(), key))));
        site.connect_with(config, "broker1")
    };
    let peer = shows(key).unwrap().unwrap().unwrap();
    assert_eq!(peer.node.as_str(), "n1", "with its key it is good");
    assert_eq!(shows(other).unwrap_err(), rustls::Error::InvalidCertificate(CertificateError::BadSignature));
}

#[test]
fn only_tls_1_3_is_spoken() {
    let site = site(None);
    let client = ClientConfig::builder_with_details(provider(), Arc::new(TlsTime(Arc::clone(&site.clock) as _)))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots(site.authority.certificates()).unwrap())
        .with_no_client_auth();
    assert!(site.connect_with(client, "broker1").is_err());
}

#[test]
fn a_second_connection_shows_its_certificate_again() {
    let site = site(None);
    let (_, own) = node_credentials(&site.authority, "n1");
    let config = site.client(Some(own));
    for _ in 0..2 {
        // `connect_with` checks that the handshake is a full one: an expired certificate must not come back by resumption.
        assert!(site.connect_with(config.clone(), "broker1").unwrap().unwrap().is_some());
    }
}

#[test]
fn the_brokers_certificate_is_renewed_while_it_runs() {
    let site = site(None);
    assert_eq!(site.tls.own_end(), NOW + BROKER_LIFE);
    let at = |now: u64| {
        site.clock.0.store(now, Ordering::Relaxed);
        let connected = site.connect(None).map(drop);
        (connected, site.tls.own_end())
    };
    assert_eq!(at(NOW + BROKER_LIFE / 3), (Ok(()), NOW + BROKER_LIFE));
    let later = NOW + BROKER_LIFE + 1;
    assert_eq!(at(later), (Ok(()), later + BROKER_LIFE), "it was asleep longer than the old one lived");
    let near_the_end = site.authority.ends() - 60;
    assert_eq!(at(near_the_end), (Ok(()), site.authority.ends()));
    let (connected, ends) = at(site.authority.ends() + 60);
    assert!(connected.is_err() && ends == site.authority.ends());
    assert_eq!(at(NOW).1, NOW + BROKER_LIFE, "the time of day was set back");
}

#[test]
fn a_certificate_of_the_site_names_a_node_of_one_domain() {
    let issuer = SiteIssuer::new();
    let settings = SiteAuthority { certificates: vec![issuer.1.clone()], domain: ".Nodes.example.org".to_owned() };
    let site = site(Some(settings));
    let uri = SanType::URI("mytoken:node:n9".try_into().unwrap());
    for (names, expected) in [
        (vec![dns("n1.nodes.example.org")], Some("n1")),
        (vec![dns("n1.NODES.example.org"), dns("n1.ib.example.org")], Some("n1")),
        (vec![uri.clone(), dns("n1.nodes.example.org")], Some("n1")),
        (vec![dns("n1.nodes.example.org"), dns("n2.nodes.example.org")], None),
        (vec![dns("n1.desktops.example.org")], None),
        (vec![dns("a.n1.nodes.example.org")], None),
        (vec![dns("nodes.example.org")], None),
        (vec![dns("n1")], None),
        (vec![uri], None),
        (vec![], None),
    ] {
        let seen = site.connect(Some(issuer.credentials(names.clone()))).unwrap();
        match expected {
            Some(node) => {
                let peer = seen.unwrap().unwrap();
                assert_eq!((peer.node.as_str(), peer.signer), (node, Signer::Site), "{names:?}");
            }
            None => assert!(seen.unwrap_err().to_string().contains("of the domain nodes.example.org"), "{names:?}"),
        }
    }
    let (key, own) = node_credentials(&site.authority, "n2");
    let peer = site.connect(Some(own)).unwrap().unwrap().unwrap();
    assert_eq!((peer.node.as_str(), peer.key, peer.signer), ("n2", key, Signer::Cluster));
}
