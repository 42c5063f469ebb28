// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a reload keeps, and what it takes over.

use std::fs;
use std::path::Path;

use mytoken::http::ServerClock;

use super::*;
use crate::control::keygen::keygen;

const SERVER: &str = "https://mytoken.example.org";

fn addresses() -> Addresses {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    Addresses { listen: address, bound: address, metrics: None }
}

/// A directory with the configuration of a broker. Its server has this limit of requests.
fn configure(directory: &Path, limit: u32) {
    let shared = format!("[[server]]\nname = 'm'\nurl = '{SERVER}'\nrequest_limit = {limit}\n");
    fs::write(directory.join("mytoken.toml"), shared).unwrap();
}

fn configuration(directory: &Path) -> Configuration {
    keygen(&directory.join("keys"), "").unwrap();
    let files = mytoken::private_files::Directory::open(&directory.join("keys")).unwrap();
    Authority::create(&files, "c", SystemClock.unix_millis() / 1000).unwrap();
    let jobs = "[cluster]\nname = 'c'\npublic_key_file = 'DIR/keys/cluster.pub'\n\
                private_key_file = 'DIR/keys/cluster.key'\n[broker]\nnames = ['b1']\nmunge = false\n\
                ca_file = 'DIR/keys/broker-ca.pem'\nca_key_file = 'DIR/keys/broker-ca.key'\nstate_dir = 'DIR/state'\n";
    fs::write(directory.join("jobs.toml"), jobs.replace("DIR", &directory.display().to_string())).unwrap();
    configure(directory, 100);
    let (config, runtime_dir) = (directory.to_owned(), directory.join("run"));
    let options = BrokerOptions { config, listen: None, state_dir: None, runtime_dir, stderr: true };
    let configuration = Configuration::new(options, Arc::new(Log::stderr("test")));
    Configuration { trust: FileTrust::user(Owner::current().uid), ..configuration }
}

#[test]
fn a_reload_forgets_nothing_and_one_that_is_refused_changes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let mut configuration = configuration(temp.path());
    let read = configuration.read().unwrap();
    configuration.budgets.configure(&read.shared).unwrap();
    let entrance = watch::channel(configuration.entrance(&read, Deadline::after(state::PATIENCE)).unwrap()).0;
    let controller = Box::new(SlurmCommands::new(None));
    let broker =
        Broker::new(read.service, controller, Arc::clone(&configuration.clock), Arc::clone(&configuration.log));
    let now = configuration.clock.elapsed();
    let day = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    configuration.clocks.note(SERVER, ServerClock::measure(day, now, now).unwrap());
    let at_server = || broker.service().server_time("m");
    assert!(at_server().is_some());
    let limit = |configuration: &Configuration| configuration.budgets.status(None).remove(0).requests;
    let told = |text: &str| entrance.borrow().has_told("n1", text);
    assert!(!told("refused"), "it is new");
    let mut text = String::new();
    let mut reload = |configuration: &mut Configuration| {
        reload(configuration, &broker, &entrance, addresses(), &mut text);
        text.clone()
    };

    configure(temp.path(), 50);
    let key = temp.path().join("keys/broker-ca.key");
    fs::rename(&key, temp.path().join("aside")).unwrap();
    assert!(reload(&mut configuration).starts_with("goes on with the configuration before"));
    assert_eq!(limit(&configuration), 100, "of the old configuration");
    fs::rename(temp.path().join("aside"), &key).unwrap();
    assert!(reload(&mut configuration).starts_with("broker of the cluster c"));
    assert_eq!(limit(&configuration), 50);
    assert!(at_server().is_some_and(|time| time.abs_diff(1_700_000_000) < 60), "its clock is known");
    assert!(told("refused"), "it is logged once");
}
