// SPDX-License-Identifier: MIT OR Apache-2.0
//! The authority's files and the certificates that it signs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mytoken::config::FileTrust;
use mytoken::private_files::{Directory, Owner};
use rcgen::KeyPair;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::*;
use crate::broker::identity::certificate;
use crate::broker::identity::key_hash::KeyHash;

const NOW: u64 = 1_800_000_000;

fn trust() -> FileTrust {
    FileTrust::user(Owner::current().uid)
}

fn load(dir: &Path) -> Result<Authority, AuthorityError> {
    Authority::load(&dir.join(KEY), &dir.join(CERTIFICATE), trust())
}

fn made() -> (tempfile::TempDir, Authority) {
    let temp = tempfile::tempdir().unwrap();
    Authority::create(&Directory::open(temp.path()).unwrap(), "testbed", NOW).unwrap();
    let authority = load(temp.path()).unwrap();
    (temp, authority)
}

fn der(signed: &SignedCertificate) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(signed.pem.as_bytes()).unwrap()
}

fn request() -> CertificateRequest {
    CertificateRequest::read(&CertificateRequest::make(&KeyPair::generate().unwrap()).unwrap()).unwrap()
}

#[test]
fn an_authority_is_made_once_and_read_back() {
    let (temp, authority) = made();
    assert_eq!((authority.ends(), authority.certificates().len()), (NOW + AUTHORITY_LIFE, 1));
    let mode = |name| std::fs::metadata(temp.path().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode(KEY), mode(CERTIFICATE)], [0o600, 0o644]);
    let before = std::fs::read(temp.path().join(KEY)).unwrap();
    for missing in ["nothing", KEY, CERTIFICATE] {
        let moved = temp.path().join("moved");
        let _ = std::fs::rename(temp.path().join(missing), &moved);
        let error = Authority::create(&Directory::open(temp.path()).unwrap(), "again", NOW).unwrap_err();
        assert!(matches!(error, AuthorityError::Exists { .. }), "{error}");
        let _ = std::fs::rename(&moved, temp.path().join(missing));
    }
    assert_eq!(std::fs::read(temp.path().join(KEY)).unwrap(), before);
}

#[test]
fn an_authority_that_is_not_one_is_refused() {
    let (temp, authority) = made();
    let (other, _) = made();
    let file = |name| temp.path().join(name);
    let good = std::fs::read(file(CERTIFICATE)).unwrap();
    let node = authority.sign_node(&request(), &"n1".parse().unwrap(), NOW).unwrap().pem;
    let foreign = std::fs::read_to_string(other.path().join(CERTIFICATE)).unwrap();
    for (content, word) in [
        (foreign.as_str(), "no certificate of the key"),
        (node.as_str(), "not an authority's"),
        ("", "no certificate"),
        ("-----BEGIN CERTIFICATE-----\nMIIB", "not a file with certificates"),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "not a certificate"),
    ] {
        std::fs::write(file(CERTIFICATE), content).unwrap();
        let error = load(temp.path()).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains(CERTIFICATE), "{error}");
    }
    // A former authority stays trusted.
    std::fs::write(file(CERTIFICATE), [foreign.as_bytes(), &good].concat()).unwrap();
    let both = load(temp.path()).unwrap();
    assert_eq!((both.certificates().len(), &both.certificates()[0]), (2, &authority.certificates()[0]));
    std::fs::set_permissions(file(KEY), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(load(temp.path()).unwrap_err().to_string().contains("0600"));
    std::fs::write(file(KEY), "no key").unwrap();
    std::fs::set_permissions(file(KEY), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(load(temp.path()).unwrap_err().to_string().contains("does not hold a private key"));
    std::fs::remove_file(file(KEY)).unwrap();
    assert!(load(temp.path()).unwrap_err().to_string().contains("mytokenctl broker-ca"));
}

#[test]
fn a_nodes_certificate_has_its_name_as_a_uri_and_is_for_clients() {
    let (_temp, authority) = made();
    let request = request();
    let signed = authority.sign_node(&request, &"N1.rack_2".parse().unwrap(), NOW).unwrap();
    let content = certificate::read(&der(&signed)).unwrap();
    assert_eq!(content.key, request.key());
    assert_eq!(
        (content.uris.as_slice(), content.dns_names.len()),
        (["mytoken:node:N1.rack_2".to_owned()].as_slice(), 0)
    );
    assert_eq!((content.begins, content.ends, signed.ends), (NOW - BACK_DATED, NOW + NODE_LIFE, NOW + NODE_LIFE));
    assert!(!content.is_authority);
    let bytes = der(&signed);
    let parsed = X509Certificate::from_der(&bytes).unwrap().1;
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
}

#[test]
fn the_names_of_the_request_are_not_in_the_certificate() {
    let (_temp, authority) = made();
    let mut params = CertificateParams::new(["broker1".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    // The request for an authority's certificate.
    let constraints = vec![0x30, 0x03, 0x01, 0x01, 0xff];
    params.custom_extensions.push(rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 19], constraints));
    params.subject_alt_names.push(SanType::URI("mytoken:node:n2".try_into().unwrap()));
    let der_request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    let request = CertificateRequest::read(&der_request).unwrap();
    let content =
        certificate::read(&der(&authority.sign_node(&request, &"n1".parse().unwrap(), NOW).unwrap())).unwrap();
    assert_eq!((content.uris, content.dns_names), (vec!["mytoken:node:n1".to_owned()], vec![]));
    assert!(!content.is_authority);
}

#[test]
fn a_renewed_certificate_has_another_number() {
    let (_temp, authority) = made();
    let (request, node) = (request(), "n1".parse().unwrap());
    let number = || {
        let bytes = der(&authority.sign_node(&request, &node, NOW).unwrap());
        X509Certificate::from_der(&bytes).unwrap().1.raw_serial().to_vec()
    };
    let (first, second) = (number(), number());
    assert!(first != second && first.len() == 16 && second.len() == 16, "{first:?} {second:?}");
}

#[test]
fn a_brokers_certificate_has_its_names_and_is_for_servers() {
    let (_temp, authority) = made();
    let names = ["broker1.example.org", "10.0.0.1", "2001:db8::1"].map(str::to_owned);
    let made = authority.broker_certificate(&names, NOW).unwrap();
    let content = certificate::read(&made.certificate).unwrap();
    assert_eq!((content.dns_names, content.uris), (vec!["broker1.example.org".to_owned()], vec![]));
    assert_eq!((content.begins, content.ends), (made.begins, made.ends));
    assert_eq!((made.begins, made.ends), (NOW - BACK_DATED, NOW + BROKER_LIFE));
    let parsed = X509Certificate::from_der(&made.certificate).unwrap().1;
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth && !usage.any);
    assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 3);
    assert!(matches!(authority.broker_certificate(&[], NOW), Err(AuthorityError::NoName)));
    for wrong in ["", "mytoken:node:n1", "a b", "*.example.org", "bröker", "https://broker1"] {
        let error = authority.broker_certificate(&[wrong.to_owned()], NOW).unwrap_err();
        assert!(matches!(error, AuthorityError::BrokerName { .. }), "{wrong}: {error}");
    }
}

#[test]
fn no_certificate_outlives_the_authority() {
    let (_temp, authority) = made();
    let (request, node, names) = (request(), "n1".parse().unwrap(), ["b".to_owned()]);
    let last = authority.ends() - 1;
    assert_eq!(authority.sign_node(&request, &node, last).unwrap().ends, authority.ends());
    assert_eq!(authority.broker_certificate(&names, last).unwrap().ends, authority.ends());
    assert_eq!(authority.sign_node(&request, &node, authority.ends()), Err(AuthorityError::Expired));
    assert!(matches!(authority.broker_certificate(&names, authority.ends()), Err(AuthorityError::Expired)));
    assert_eq!(authority.sign_node(&request, &node, u64::MAX), Err(AuthorityError::Expired));
}

#[test]
fn certificates_are_renewed_at_half_of_their_life() {
    for (begins, ends, expected) in [(0, 100, 50), (100, 100, 100), (100, 50, 100), (0, u64::MAX, u64::MAX / 2)] {
        assert_eq!(renew_at(begins, ends), expected);
    }
    assert_eq!(KeyHash::of(b"").short(), "e3b0c44298fc1c14");
}
