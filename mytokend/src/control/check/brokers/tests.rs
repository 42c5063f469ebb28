// SPDX-License-Identifier: MIT OR Apache-2.0
//! Brokers and nodes with one fault after the other.

use std::os::unix::fs::PermissionsExt;

use mytoken::config::Shared;

use super::*;
use crate::broker::identity::{CertificateRequest, StateDir};
use crate::broker::status::OF_FIRST_VERSION;
use crate::control::broker_ca;
use crate::control::keygen::keygen;

const NOW: u64 = 1_800_000_000;

/// Brokers that are known here by their names.
struct Fake {
    missing: &'static [&'static str],
    away: &'static [&'static str],
    stranger_at: &'static [&'static str],
    /// Of a broker on this host. `None`: it cannot be asked.
    status: Option<BrokerStatus>,
}

const ALL_WELL: Fake = Fake { missing: &[], away: &[], stranger_at: &[], status: None };

impl Network for Fake {
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if self.missing.contains(&host) { Err(io::ErrorKind::NotFound.into()) } else { Ok(vec![[10, 0, 0, 1].into()]) }
    }

    fn is_known_at(&self, broker: &str, _tls: ClientConfig) -> Result<bool, ClientError> {
        if self.away.contains(&broker) {
            let reason = "Connection refused".to_owned();
            return Err(ClientError::Unreachable { broker: broker.to_owned(), reason });
        }
        Ok(!self.stranger_at.contains(&broker))
    }

    fn status(&self) -> Result<BrokerStatus, NoStatus> {
        self.status.clone().ok_or(NoStatus::Away { socket: "x".to_owned(), reason: "away".to_owned() })
    }
}

struct Site {
    dir: tempfile::TempDir,
    seen: Seen,
}

impl Site {
    /// A broker with all its files.
    fn broker() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        let jobs = format!(
            "[cluster]\nname = 'hpc'\npublic_key_file = '{path}/cluster.pub'\nprivate_key_file = '{path}/cluster.key'\n\
             [broker]\nnames = ['b1', 'b2:99']\nca_key_file = '{path}/broker-ca.key'\nca_file = '{path}/broker-ca.pem'\n\
             state_dir = '{path}/state'\n"
        );
        std::fs::write(dir.path().join("mytoken.toml"), "").unwrap();
        std::fs::write(dir.path().join("jobs.toml"), jobs).unwrap();
        keygen(dir.path(), "").unwrap();
        broker_ca::make(dir.path(), trust(), None, NOW).unwrap();
        let node = Some("n1".parse().unwrap());
        let seen =
            Seen { has_name: true, has_address: true, slurmd: false, node, root: true, systemd: true, now: NOW + DAY };
        Self { dir, seen }
    }

    /// A node that is enrolled.
    fn node() -> Self {
        let mut site = Self::broker();
        let files = StateDir::open_or_make(&site.dir.path().join("state")).unwrap().node_files("n1".parse().unwrap());
        let identity = files.load().unwrap();
        let request = CertificateRequest::read(&identity.request().unwrap()).unwrap();
        let [key, certificate] = ["broker-ca.key", "broker-ca.pem"].map(|name| site.dir.path().join(name));
        let authority = Authority::load(&key, &certificate, trust()).unwrap();
        files.store(identity, &authority.sign_node(&request, files.node(), NOW).unwrap().pem).unwrap();
        site.remove("broker-ca.key");
        site.remove("cluster.key");
        // Slurm knows the host as n1.
        let node = Some("host".parse().unwrap());
        site.seen = Seen { has_name: false, has_address: false, slurmd: true, node, ..site.seen };
        site
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.dir.path().join(name)).unwrap();
    }

    /// Adds a line to `[broker]` of jobs.toml.
    fn set(&self, line: &str) {
        let file = self.dir.path().join("jobs.toml");
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + line + "\n").unwrap();
    }

    fn jobs(&self) -> JobsSettings {
        JobsSettings::load_alone(self.dir.path(), trust()).unwrap()
    }

    fn findings(&self, network: &Fake) -> Findings {
        let mut findings = Findings::default();
        findings.brokers_seen(&self.jobs(), &self.seen, trust(), network);
        findings
    }

    fn ids(&self, network: &Fake) -> Vec<String> {
        self.findings(network).problems().map(|finding| finding.id.clone().unwrap()).collect()
    }
}

fn trust() -> FileTrust {
    FileTrust::user(Owner::current().uid)
}

#[test]
fn a_broker_and_a_node_that_work_have_no_finding() {
    for (site, says) in
        [(Site::broker(), "this host is a broker, 2 of 2"), (Site::node(), "this node is enrolled, 2 of 2")]
    {
        let findings = site.findings(&ALL_WELL);
        assert_eq!(findings.problems().count(), 0, "{findings:?}");
        assert!(findings.findings.last().unwrap().text.starts_with(says), "{findings:?}");
    }
    let mut login = Site::node();
    login.seen.slurmd = false;
    login.remove("broker-ca.pem");
    assert_eq!(login.ids(&ALL_WELL), Vec::<String>::new());
}

#[test]
fn each_fault_of_a_broker_is_found() {
    let site = Site::broker();
    site.remove("cluster.key");
    assert_eq!(site.ids(&ALL_WELL), ["broker-without-key"]);
    let site = Site::broker();
    let key = site.dir.path().join("broker-ca.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(site.ids(&ALL_WELL), ["broker-authority"]);
    assert!(site.findings(&ALL_WELL).render().contains("fix: namei -l "));
    site.remove("broker-ca.key");
    assert_eq!(site.ids(&ALL_WELL), ["broker-authority"], "the name says that it is a broker");
    site.remove("broker-ca.pem");
    let findings = site.findings(&ALL_WELL).render();
    assert!(findings.contains("fix: mytokenctl broker-ca ") && findings.contains("1 error, 0 warnings"), "{findings}");
    let mut site = Site::broker();
    for (days, found) in [(3_500, &[][..]), (3_600, &["broker-authority-ends"]), (3_700, &["broker-authority-ends"])] {
        site.seen.now = NOW + days * DAY;
        assert_eq!(site.ids(&ALL_WELL), found, "{days}");
    }
}

#[test]
fn only_root_on_a_broker_compares_what_runs_there() {
    let status: BrokerStatus = serde_json::from_str(OF_FIRST_VERSION).unwrap();
    let network = Fake { status: Some(status), ..ALL_WELL };
    let mut site = Site::broker();
    assert_eq!(site.ids(&network), ["broker-version", "broker-reload-refused"]);
    site.seen.root = false;
    assert_eq!(site.ids(&network), Vec::<String>::new());
    assert_eq!(Site::node().ids(&network), Vec::<String>::new());
}

#[test]
fn keys_where_they_should_not_be_are_found() {
    let mut site = Site::broker();
    site.seen = Seen { has_name: false, has_address: false, ..site.seen };
    assert_eq!(site.ids(&ALL_WELL), ["broker-authority-elsewhere", "cluster-key-on-node"]);
    // The next key or an earlier one, as `mytokenctl key new` makes them.
    let further = site.dir.path().join("private.d");
    std::fs::create_dir(&further).unwrap();
    for name in ["0123abcd.key", "89abcdef.retired"] {
        std::fs::write(further.join(name), "").unwrap();
    }
    assert_eq!(site.ids(&ALL_WELL), ["broker-authority-elsewhere", "cluster-key-on-node", "cluster-key-on-node"]);
    assert!(site.findings(&ALL_WELL).render().contains("/private.d/0123abcd.key /root/   # delete it there when"));
    std::fs::remove_dir_all(&further).unwrap();
    site.seen.has_address = true;
    assert_eq!(site.ids(&ALL_WELL), Vec::<String>::new(), "nodes know it by another name");
}

#[test]
fn each_fault_of_a_node_is_found() {
    let mut site = Site::node();
    for (days, found) in [(300, &[][..]), (340, &["node-certificate-ends"]), (370, &["node-not-enrolled"])] {
        site.seen.now = NOW + days * DAY;
        assert_eq!(site.ids(&ALL_WELL), found, "{days}");
    }
    let site = Site::node();
    let key = site.dir.path().join("state/node.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(site.ids(&ALL_WELL), ["node-not-enrolled"]);
    let before = std::fs::read_dir(site.dir.path().join("state")).unwrap().count();
    site.remove("state/node.key");
    assert_eq!(site.ids(&ALL_WELL), ["node-not-enrolled"]);
    assert_eq!(std::fs::read_dir(site.dir.path().join("state")).unwrap().count(), before - 1, "a check makes no key");
    let site = Site::node();
    site.remove("broker-ca.pem");
    assert_eq!(site.ids(&ALL_WELL), ["broker-ca-file"]);
    assert!(site.findings(&ALL_WELL).render().contains("fix: scp -p BROKER:"));
}

#[test]
fn a_certificate_of_the_site_is_checked_instead() {
    let site = Site::node();
    let path = site.dir.path().display();
    let own = format!("site_cert_file = '{path}/state/node.pem'\nsite_key_file = '{path}/state/node.key'\n");
    let jobs = site.dir.path().join("jobs.toml");
    std::fs::write(&jobs, std::fs::read_to_string(&jobs).unwrap() + &own).unwrap();
    // Whether the broker accepts it is seen by the agent.
    assert_eq!(site.ids(&Fake { stranger_at: &["b1:7512", "b2:99"], ..ALL_WELL }), Vec::<String>::new());
    site.remove("state/node.pem");
    assert_eq!(site.ids(&ALL_WELL), ["node-not-enrolled"]);
}

#[test]
fn brokers_that_do_not_answer_or_do_not_know_the_node_are_found() {
    let site = Site::node();
    for (network, found) in [
        (Fake { missing: &["b1"], ..ALL_WELL }, &["broker-name"][..]),
        (Fake { away: &["b2:99"], ..ALL_WELL }, &["broker-unreachable"]),
        (Fake { away: &["b1:7512", "b2:99"], ..ALL_WELL }, &["brokers-unreachable"; 2]),
        // The agent enrols there when it needs this broker.
        (Fake { stranger_at: &["b2:99"], ..ALL_WELL }, &[]),
        (Fake { stranger_at: &["b1:7512", "b2:99"], ..ALL_WELL }, &["node-not-enrolled"; 2]),
    ] {
        assert_eq!(site.ids(&network), found);
    }
    let codes = Site::node();
    let jobs = codes.dir.path().join("jobs.toml");
    let text = std::fs::read_to_string(&jobs).unwrap();
    std::fs::write(&jobs, text + "munge = false\n").unwrap();
    assert_eq!(codes.ids(&Fake { stranger_at: &["b2:99"], ..ALL_WELL }), ["node-unknown-at-broker"]);
    let screen = site.findings(&Fake { away: &["b2:99"], ..ALL_WELL }).render();
    assert!(screen.contains("no safe connection to the broker b2:99: Connection refused"), "{screen}");
    assert_eq!(Site::broker().ids(&Fake { stranger_at: &["b1:7512", "b2:99"], ..ALL_WELL }), Vec::<String>::new());
}

#[test]
fn a_large_cluster_needs_a_broker() {
    let (direct, brokers) = (BrokerSettings::default(), Site::node().jobs().broker);
    for (settings, nodes, found) in [(&direct, 16, 0), (&direct, 17, 1), (&brokers, 10_000, 0)] {
        let mut findings = Findings::default();
        findings.direct_mode(settings, nodes);
        assert_eq!(findings.problems().count(), found, "{nodes}");
    }
}

#[test]
fn a_host_is_found_among_the_names_of_brokers() {
    for (broker, name, same) in [
        ("b1", "b1", true),
        ("b1", "b1.cluster", true),
        ("B1.cluster", "b1", true),
        ("b1.cluster", "b1.cluster", true),
        ("b1.cluster", "b1.other", false),
        ("b1", "b2", false),
        ("10.0.0.1", "10", false),
        ("b1", "", false),
    ] {
        assert_eq!(is_name(broker, name), same, "{broker} {name}");
    }
    assert!(is_of_this_host([127, 0, 0, 1].into()) && !is_of_this_host([192, 0, 2, 200].into()));
}

#[test]
fn a_broker_with_escrow_needs_a_safe_directory_with_room() {
    let site = Site::broker();
    assert_eq!(site.ids(&ALL_WELL), Vec::<String>::new(), "escrow is off");
    site.set("escrow = true");
    assert_eq!(site.ids(&ALL_WELL), ["broker-escrow"]);
    assert!(!site.dir.path().join("state").exists(), "a check makes no directory");
    let state = StateDir::open_or_make(&site.dir.path().join("state")).unwrap();
    state.escrow().unwrap();
    assert_eq!(site.ids(&ALL_WELL), Vec::<String>::new());
    let path = site.dir.path().join("state/escrow");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let findings = site.findings(&ALL_WELL).render();
    assert!(findings.contains("with mode 0755, expected") && findings.contains("fix: namei -l "), "{findings}");
    let mut others = Site::broker();
    others.set("escrow = true");
    others.seen.root = false;
    assert_eq!(others.ids(&ALL_WELL), Vec::<String>::new(), "only root can look");
    for (free, found) in [(None, 0), (Some(1 << 40), 0), (Some(5 << 20), 1), (Some(0), 1)] {
        let mut findings = Findings::default();
        findings.escrow_room(&path, free);
        assert_eq!(findings.problems().count(), found, "{free:?}");
    }
}

#[test]
fn a_host_that_submits_needs_brokers_and_their_authority_for_escrow() {
    let mut login = Site::node();
    login.seen.slurmd = false;
    login.set("escrow = true");
    assert_eq!(login.ids(&ALL_WELL), Vec::<String>::new());
    let away = Fake { away: &["b1:7512", "b2:99"], ..ALL_WELL };
    for (network, ids) in [
        (&away, &["brokers-unreachable"; 2][..]),
        (&Fake { stranger_at: &["b1:7512", "b2:99"], ..ALL_WELL }, &["node-not-enrolled"; 2]),
    ] {
        assert_eq!(login.ids(network), ids);
        let findings = login.findings(network);
        assert!(
            findings.problems().all(|finding| finding.level == super::super::Severity::Warning),
            "{}",
            findings.render()
        );
    }
    login.remove("state/node.pem");
    let findings = login.findings(&ALL_WELL).render();
    assert!(findings.contains("is not enrolled at a broker: jobs that are submitted there carry"), "{findings}");
    login.remove("broker-ca.pem");
    assert_eq!(login.ids(&ALL_WELL), ["escrow-ca-file"]);
    assert!(login.findings(&ALL_WELL).render().contains("fix: scp -p BROKER:"));
    // Without brokers, jobs.toml cannot be used.
    let jobs = login.dir.path().join("jobs.toml");
    let without = std::fs::read_to_string(&jobs).unwrap().replace("names = ['b1', 'b2:99']", "");
    std::fs::write(&jobs, without).unwrap();
    let shared = Shared::load(login.dir.path(), trust()).unwrap();
    let mut findings = Findings::default();
    assert!(findings.jobs_settings(login.dir.path(), &shared, trust(), &|| false).is_none());
    let found: Vec<_> = findings.problems().collect();
    assert!(found.len() == 1 && found[0].text.contains("broker.escrow needs brokers"), "{found:?}");
    assert_eq!(found[0].id.as_deref(), Some("configuration-invalid"));
}
