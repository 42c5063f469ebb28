// SPDX-License-Identifier: MIT OR Apache-2.0
//! Certificates of a node. No broker answers here; stories have real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use mytoken::private_files::{Directory, Owner};

use super::*;
use crate::broker::identity::{Authority, NodeName, authority};

fn trust() -> FileTrust {
    FileTrust::user(Owner::current().uid)
}

/// The settings of a node whose files are in `dir`, and its own files there.
fn settings(dir: &std::path::Path) -> BrokerSettings {
    Authority::create(&Directory::open(dir).unwrap(), "c", SystemClock.now()).unwrap();
    BrokerSettings {
        names: vec!["broker.invalid".to_owned()],
        ca_file: dir.join(authority::CERTIFICATE),
        munge: false,
        ..BrokerSettings::default()
    }
}

fn start(dir: &std::path::Path, settings: BrokerSettings) -> Result<BrokerConnection, String> {
    let files = NodeFiles::new(Directory::open(dir).unwrap(), "n1".parse::<NodeName>().unwrap());
    BrokerConnection::start(settings, "c".to_owned(), files, trust(), Arc::new(Log::stderr("test")))
}

/// Why a node that has just started cannot ask brokers.
fn why_not(connection: &BrokerConnection) -> String {
    assert!(!connection.is_enrolled());
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let told = connection.post::<()>("/v1/jobs", &(), Deadline::after(Duration::from_secs(5)));
        let told = told.unwrap_err().to_string();
        if !told.contains("not begun") || Instant::now() > until {
            return told;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_expired_certificate_is_not_renewed_but_the_node_enrols() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let tls = crate::broker::identity::node_files::client_config(
        &read_certificates(&settings.ca_file, trust()).unwrap(),
        None,
        Arc::new(SystemClock),
    );
    let client = Some(Arc::new(BrokerClient::new(settings.addresses(), tls.unwrap()).unwrap()));
    let state = State { client, renew_at: 100, ends: 200, ..State::default() };
    assert_eq!([99, 100, 200, 201].map(|now| state.need(now)), [Need::Nothing, Need::Next, Need::Next, Need::First]);
    assert_eq!(State::default().need(0), Need::First);
}

#[test]
fn a_node_without_a_certificate_says_what_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let connection = start(dir.path(), settings(dir.path())).unwrap();
    let told = why_not(&connection);
    assert!(told.contains("it needs a one-time code. At the broker: mytokenctl node code n1"), "{told}");
}

#[test]
fn a_node_with_a_certificate_of_the_site_does_not_enrol() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let without = settings(dir.path());
    let site = |key: &str| BrokerSettings {
        site_cert_file: Some(at(authority::CERTIFICATE)),
        site_key_file: Some(at(key)),
        ..without.clone()
    };
    // Any certificate with its key will do: only brokers look whose it is.
    assert!(start(dir.path(), site(authority::KEY)).unwrap().is_enrolled());
    assert!(!at("node.key").exists(), "it needs no key of its own");
    let told = start(dir.path(), site("missing.key")).map(drop).unwrap_err();
    assert!(told.contains("missing.key: there is no such file"), "{told}");
    fs::write(at("other.key"), "no key").unwrap();
    fs::set_permissions(at("other.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let told = start(dir.path(), site("other.key")).map(drop).unwrap_err();
    assert!(told.ends_with("other.key: it holds no private key (PEM)"), "{told}");
}

#[test]
fn an_agent_starts_with_a_certificate_of_the_site_that_has_expired_and_tells() {
    let dir = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    Authority::create(&Directory::open(old.path()).unwrap(), "c", 1).unwrap();
    let site = BrokerSettings {
        site_cert_file: Some(old.path().join(authority::CERTIFICATE)),
        site_key_file: Some(old.path().join(authority::KEY)),
        ..settings(dir.path())
    };
    let told = why_not(&start(dir.path(), site).unwrap());
    assert!(told.contains("the certificate in broker.site_cert_file has expired"), "{told}");
}
