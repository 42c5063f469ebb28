// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl node enrol`: this host enrols at a broker.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mytoken::config::FileTrust;
use mytoken::time_format::utc_minute;
use mytoken::{Clock as _, Deadline, Secret, SystemClock};

use crate::broker::identity::enrol_client::{EnrolClient, NodeProof};
use crate::broker::identity::munge::Munge;
use crate::broker::identity::{Enrolment, NodeName, StateDir};
use crate::broker::settings::BrokerSettings;
use crate::jobs::settings::JobsSettings;

/// Time limit for all brokers.
const DEADLINE: Duration = Duration::from_secs(30);

/// Enrols this host, which Slurm calls `node`, at the first broker that accepts it (root). `code`: the one-time code, without it by MUNGE.
///
/// # Errors
/// A sentence.
pub fn enrol(config: &Path, node: Option<NodeName>, code: Option<&Secret>) -> Result<String, String> {
    super::as_root()?;
    enrol_with(config, FileTrust::current(), node, code)
}

fn enrol_with(
    config: &Path,
    trust: FileTrust,
    node: Option<NodeName>,
    code: Option<&Secret>,
) -> Result<String, String> {
    let jobs = JobsSettings::load_alone(config, trust).map_err(|error| error.to_string())?;
    let settings = &jobs.broker;
    may_enrol(settings, code.is_some())?;
    let node = match node {
        Some(node) => node,
        None => NodeName::of_this_host().map_err(|error| format!("{error}; give the name with --node"))?,
    };
    let munge = match code {
        Some(_) => None,
        None => Some(Munge::usual().map_err(|error| error.to_string())?),
    };
    let proof = match (code, &munge) {
        (Some(code), _) => NodeProof::Code(code),
        (None, Some(munge)) => NodeProof::Munge(munge),
        // One of the two is there.
        (None, None) => return Err("there is no proof of this host's name".to_owned()),
    };
    let state = StateDir::open_or_make(&settings.state_dir).map_err(|error| error.to_string())?;
    let files = state.node_files(node);
    let client =
        EnrolClient { settings, cluster: &jobs.cluster.name, files: &files, trust, clock: Arc::new(SystemClock) };
    let obtained = client.enrol(proof, Deadline::after(DEADLINE)).map_err(|error| error.to_string())?;
    let node = files.node();
    match obtained.identity.enrolment(SystemClock.now()) {
        Enrolment::Valid { ends, .. } => Ok(format!(
            "{node} is enrolled at {}; its certificate is valid until {}",
            obtained.broker,
            utc_minute(ends)
        )),
        Enrolment::Missing => Err(format!(
            "{node} is enrolled at {}, but its certificate is not valid at this time: compare the clocks of this host and the broker",
            obtained.broker
        )),
    }
}

/// Whether there is something to enrol at, and the brokers accept this proof.
fn may_enrol(settings: &BrokerSettings, with_code: bool) -> Result<(), String> {
    if !settings.is_used() {
        return Err("jobs.toml names no broker (broker.names): this host needs no enrolment".to_owned());
    }
    if let Some(file) = &settings.site_cert_file {
        return Err(format!(
            "this host shows brokers the site's certificate {} (broker.site_cert_file) and needs no enrolment",
            file.display()
        ));
    }
    if !settings.munge && !with_code {
        return Err("the brokers accept one-time codes only (broker.munge in jobs.toml); at a broker: mytokenctl node code NODE, then here: mytokenctl node enrol --code".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mytoken::private_files::Owner;

    use super::*;

    fn settings(text: &str) -> BrokerSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_host_enrols_where_brokers_are_named_and_with_what_they_accept() {
        for (text, with_code, word) in [
            ("", false, "names no broker"),
            ("names = ['b']\nsite_cert_file = '/c'\nsite_key_file = '/k'", false, "certificate /c"),
            ("names = ['b']\nmunge = false", false, "one-time codes only"),
        ] {
            let refused = may_enrol(&settings(text), with_code).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
        assert_eq!(may_enrol(&settings("names = ['b']\nmunge = false"), true), Ok(()));
        assert_eq!(may_enrol(&settings("names = ['b']"), false), Ok(()));
    }

    #[test]
    fn a_broker_that_is_away_is_told_and_the_key_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        let jobs = format!(
            "[cluster]\nname = 'hpc'\n[broker]\nnames = ['127.0.0.1:9']\nca_key_file = '{path}/broker-ca.key'\n\
             ca_file = '{path}/broker-ca.pem'\nstate_dir = '{path}/state'\n"
        );
        std::fs::write(dir.path().join("mytoken.toml"), "").unwrap();
        std::fs::write(dir.path().join("jobs.toml"), jobs).unwrap();
        let trust = FileTrust::user(Owner::current().uid);
        let enrol =
            || enrol_with(dir.path(), trust, Some("n1".parse().unwrap()), Some(&Secret::new("0000"))).unwrap_err();
        assert!(enrol().contains("copy this file from a broker"), "{}", enrol());
        crate::control::broker_ca::make(dir.path(), trust, None, SystemClock.now()).unwrap();
        assert!(enrol().starts_with("no broker can be reached: 127.0.0.1:9: "), "{}", enrol());
        let key = std::fs::read(dir.path().join("state/node.key")).unwrap();
        enrol();
        assert_eq!(std::fs::read(dir.path().join("state/node.key")).unwrap(), key);
    }
}
