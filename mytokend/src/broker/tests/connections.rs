// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections at a broker's port.

use std::net::TcpStream;

use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::ClientConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};

use super::super::client::BrokerClient;
use super::super::identity::node_files::client_config;
use super::super::messages::{ENROL_PATH, TOKEN_PATH};
use super::super::strangers::MOST;
use super::versions::{Connected, connected, first_request};
use super::*;
use crate::log::Level;

impl Connected {
    fn token(&self) -> String {
        said(self.post(TOKEN_PATH, &first_request()).unwrap()).unwrap()
    }

    /// The next line of the broker's log, without what the system log puts before it.
    pub(super) fn line(&self) -> String {
        let mut line = [0; 1024];
        self.log.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = self.log.recv(&mut line).unwrap();
        let line = String::from_utf8_lossy(&line[..length]).into_owned();
        line.split_once("]: ").map(|(_, text)| text.to_owned()).unwrap()
    }

    /// What somebody is told who shows this to the broker.
    pub(super) fn refusal(&self, shows: ClientConfig) -> String {
        let client = BrokerClient::new(vec![self.address.clone()], shows).unwrap();
        let soon = Deadline::after(Duration::from_secs(10));
        client.post::<Value>(TOKEN_PATH, &first_request(), soon).unwrap_err().to_string()
    }

    /// The settings of somebody with the node's certificate, and a key of his own.
    fn without_its_key(&self) -> ClientConfig {
        let [certificate, authority] = self.certificates.clone();
        let mut config = client_config(&[authority], None, Arc::new(SystemClock)).unwrap();
        let key = PrivateKeyDer::try_from(KeyPair::generate().unwrap().serialize_der()).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key)));
        config
    }

    /// The settings of somebody whose certificate names the node, and was signed by nobody.
    fn with_a_certificate_of_his_own(&self) -> ClientConfig {
        let key = KeyPair::generate().unwrap();
        let mut content = CertificateParams::new(Vec::new()).unwrap();
        content.subject_alt_names = vec![SanType::URI("mytoken:node:n1".try_into().unwrap())];
        let certificate = content.self_signed(&key).unwrap().der().clone();
        let own = (vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap());
        client_config(&self.certificates[1..], Some(own), Arc::new(SystemClock)).unwrap()
    }

    /// The timers of the connections at the broker's port that are open, as the kernel shows them: 02 is that of keepalive.
    fn timers(&self) -> Vec<String> {
        let port: u16 = self.address.rsplit(':').next().unwrap().parse().unwrap();
        let port = format!(":{port:04X}");
        let timer = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[1].ends_with(&port) && words[3] == "01").then(|| words[5][..2].to_owned())
        };
        std::fs::read_to_string("/proc/self/net/tcp").unwrap().lines().skip(1).filter_map(timer).collect()
    }
}

#[test]
fn the_kernel_asks_a_node_that_says_nothing_whether_it_is_there() {
    let site = connected();
    assert_eq!(site.token(), "token-0");
    // For a moment the kernel may wait for the confirmation of the answer.
    let mut looks = (0..500).map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        site.timers()
    });
    assert!(looks.any(|timers| timers == ["02"]), "{:?}", site.timers());
}

#[test]
fn connections_that_say_nothing_keep_no_node_from_the_broker() {
    let site = connected();
    let silent: Vec<TcpStream> = (0..MOST + 20).map(|_| TcpStream::connect(&site.address).unwrap()).collect();
    // One of them that the broker accepts only now may take the node's place, with little probability.
    let answer = (0..3).find_map(|_| site.post(TOKEN_PATH, &first_request()).ok());
    assert_eq!(said(answer.expect("the node has a place")).unwrap(), "token-0");
    drop(silent);
}

#[test]
fn who_has_no_certificate_or_none_that_counts_is_refused_and_logged_once() {
    let site = connected();
    let nothing = || client_config(&site.certificates[1..], None, Arc::new(SystemClock)).unwrap();
    let attack = || {
        assert!(site.refusal(nothing()).contains("answered 403: this connection has no certificate"));
        for shows in [site.with_a_certificate_of_his_own(), site.without_its_key()] {
            let told = site.refusal(shows);
            assert!(!told.contains("answered"), "{told}");
        }
    };
    attack();
    let mut lines = [site.line(), site.line(), site.line()];
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "127.0.0.1: a certificate was refused: an authority that the broker does not know has signed it",
            "127.0.0.1: a certificate was refused: it is forged, or the other end does not have its key",
            "127.0.0.1: a request was refused: the connection has no certificate",
        ]
    );
    attack();
    attack();
    std::thread::sleep(Duration::from_millis(200));
    site.test.broker.log.line(Level::Info, "the end");
    assert_eq!(site.line(), "the end");
    assert_eq!(site.token(), "token-0", "the node is served");
    let counted = site.test.broker.counts.unauthorized_counts();
    assert!(counted.no_certificate >= 3 && counted.certificate >= 6, "{counted:?}");
    assert_eq!((counted.other_node, counted.not_enrolled), (0, 0));
}

#[test]
fn an_enrolment_that_is_tried_again_and_again_is_logged_once() {
    let site = connected();
    let nothing = client_config(&site.certificates[1..], None, Arc::new(SystemClock)).unwrap();
    let client = BrokerClient::new(vec![site.address.clone()], nothing).unwrap();
    let request = json!({"node": "n2", "request": "AAAA", "code": "0000"});
    for _ in 0..3 {
        let soon = Deadline::after(Duration::from_secs(10));
        let told = client.post::<Value>(ENROL_PATH, &request, soon).unwrap_err().to_string();
        assert!(told.contains("answered 403"), "{told}");
    }
    site.test.broker.log.line(Level::Info, "the end");
    let line = site.line();
    assert!(line.starts_with("127.0.0.1: the enrolment of the node n2 was refused: "), "{line}");
    assert_eq!(site.line(), "the end");
}

#[test]
fn a_node_that_was_removed_is_counted_and_logged_once() {
    let site = connected();
    assert_eq!(site.token(), "token-0");
    site.register.remove(&"n1".parse().unwrap()).unwrap();
    for _ in 0..3 {
        let told = site.refusal(site.shown.clone());
        assert!(told.contains("answered 403: the node n1 is not enrolled with this key"), "{told}");
    }
    assert!(site.line().starts_with("node n1: a request was refused: the node n1 is not enrolled"));
    site.test.broker.log.line(Level::Info, "the end");
    assert_eq!(site.line(), "the end");
    assert_eq!(site.test.broker.counts.unauthorized_counts().not_enrolled, 3);
}
