// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a broker tells of itself.

use std::path::Path;

use mytoken::Clock;
use mytoken::config::FileTrust;
use mytoken::private_files::{Directory, Owner};

use super::*;
use crate::agent::budget::Budgets;
use crate::broker::entrance::Entrance;
use crate::broker::identity::attempts::Attempts;
use crate::broker::identity::enrolment::Enrolments;
use crate::broker::identity::munge::{ConnectionAddress, NodeAddresses, SystemResolver};
use crate::broker::identity::{Authority, BrokerTls, Repin, StateDir, authority};
use crate::broker::status::{BrokerStatus, OF_FIRST_VERSION};

/// An entrance with an authority of its own and no node.
pub(super) fn entrance(dir: &Path, broker: &Broker) -> Entrance {
    entrance_with(dir, broker, Arc::new(SystemResolver { deadline: Duration::from_secs(1) }))
}

/// The same with this resolver.
pub(super) fn entrance_with(dir: &Path, broker: &Broker, resolver: Arc<dyn NodeAddresses>) -> Entrance {
    Authority::create(&Directory::open(dir).unwrap(), "testbed", SystemClock.now()).unwrap();
    let [key, certificate] = [authority::KEY, authority::CERTIFICATE].map(|file| dir.join(file));
    let trust = FileTrust::user(Owner::current().uid);
    let authority = Arc::new(Authority::load(&key, &certificate, trust).unwrap());
    let state_dir = StateDir::open_or_make(&dir.join("state")).unwrap();
    let names = vec!["b1".to_owned()];
    let tls = BrokerTls::new(Arc::clone(&authority), names, None, Arc::new(SystemClock)).unwrap();
    let enrolments = Enrolments {
        authority,
        register: Arc::new(state_dir.register(Arc::clone(&broker.clock)).unwrap()),
        cluster: "testbed".to_owned(),
        munge: None,
        resolver,
        check: ConnectionAddress::Checked,
        repin: Repin::Refused,
        codes: state_dir.codes().unwrap(),
        attempts: Attempts::default(),
        clock: Arc::clone(&broker.clock),
    };
    Entrance::new(tls, enrolments, Arc::clone(&broker.clock), Arc::clone(&broker.log))
}

#[test]
fn a_broker_tells_its_version_its_keys_and_a_reload_that_it_refused() {
    let (test, dir) = (TestBroker::new(RUNNING), tempfile::tempdir().unwrap());
    let (entrance, budgets) = (entrance(dir.path(), &test.broker), Budgets::new(Arc::clone(&test.broker.clock)));
    let status = || test.broker.status(&entrance, &budgets);
    test.broker.configured(Ok(()));
    let started = status();
    assert_eq!(started.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(started.keys, ["0a1b2c3d"]);
    assert_eq!((&started.configuration.trouble, started.configuration.refused), (&None, None));
    test.broker.configured(Err("the key is gone".to_owned()));
    let refused = status().configuration;
    assert_eq!((refused.trouble.as_deref(), refused.read), (Some("the key is gone"), started.configuration.read));
    assert!(started.configuration.read > 0 && refused.refused >= Some(refused.read), "{refused:?}");
}

#[test]
fn brokers_of_other_versions_are_understood() {
    let first: BrokerStatus = serde_json::from_str(OF_FIRST_VERSION).unwrap();
    assert_eq!((first.version, first.keys.len(), first.configuration.refused), (None, 0, None));
    let later = OF_FIRST_VERSION
        .replace("\"cluster\"", "\"version\": \"9.0.0\", \"keys\": [\"0a1b2c3d\"], \"later\": {}, \"cluster\"")
        .replace("\"read\"", "\"refused\": 1799000600, \"later\": 1, \"read\"");
    let later: BrokerStatus = serde_json::from_str(&later).unwrap();
    assert_eq!((later.version.as_deref(), later.configuration.refused), (Some("9.0.0"), Some(1_799_000_600)));
    assert_eq!(later.keys, ["0a1b2c3d"]);
}
