// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes that enrol at a broker with real MUNGE: a munged on each node, which knows the node's address, and one at the broker.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mytoken::config::FileTrust;
use mytoken::private_files::{Directory, Owner};
use mytoken::{ScheduleClock, SystemClock};
use mytokend::broker::identity::attempts::Attempts;
use mytokend::broker::identity::authority::{self, Authority};
use mytokend::broker::identity::codes::Codes;
use mytokend::broker::identity::enrolment::{Enrolled, EnrolmentRefusal, Enrolments};
use mytokend::broker::identity::munge::{ConnectionAddress, Munge, NodeAddresses, payload};
use mytokend::broker::identity::{NodeFiles, NodeName, Pinned, Proof, Register, Repin, request};
use mytokend::broker::messages::EnrolRequest;
use testbed::site::addresses;
use testbed::site::daemon::Daemon;
use testbed::{Options, Result, Site, programs, story};

const CLUSTER: &str = "testbed";

struct Addresses;

impl NodeAddresses for Addresses {
    fn addresses(&self, node: &NodeName) -> std::io::Result<Vec<IpAddr>> {
        Ok(vec![address(node.as_str())])
    }
}

fn address(node: &str) -> IpAddr {
    addresses::node(node.trim_start_matches('n').parse().unwrap()).into()
}

fn name(node: &str) -> NodeName {
    node.parse().unwrap()
}

/// Starts a munged whose files begin with `name`.
fn start_munged(site: &Site, name: &str, node: Option<&str>) -> Result<()> {
    let files = [
        format!("--socket=/run/munge/{name}"),
        format!("--pid-file=/run/munge/{name}.pid"),
        format!("--seed-file=/var/lib/munge/{name}.seed"),
        format!("--log-file=/var/log/munge/{name}.log"),
    ];
    let origin = node.map(|node| format!("--origin={}", address(node)));
    let argv =
        ["setpriv", "--reuid=munge", "--regid=munge", "--init-groups", "munged", "--foreground"].map(str::to_owned);
    let daemon = Daemon::new(&format!("munged-{name}"), argv.into_iter().chain(files).chain(origin));
    site.start_daemon(match node {
        Some(node) => daemon.on(node),
        None => daemon,
    })?;
    let ready = format!("munge --socket=/run/munge/{name} --no-input");
    site.wait_for("munged", Duration::from_secs(20), "root", &ready).map(drop)
}

/// A site with two nodes and a broker's part of enrolment, which runs outside and calls unmunge inside.
struct Cluster<'a> {
    site: &'a Site,
    temp: tempfile::TempDir,
    enrolments: Enrolments,
}

fn with_cluster(body: impl FnOnce(&Cluster<'_>) -> Result<()>) -> Result<()> {
    story(Options { nodes: 2, product: false, ..Options::new()? }, |site| {
        start_munged(site, "broker", None)?;
        for node in ["n1", "n2"] {
            start_munged(site, node, Some(node))?;
        }
        let temp = tempfile::tempdir().unwrap();
        let program = temp.path().join("unmunge");
        let script = format!(
            "#!/bin/sh\nexec nsenter --all --target {} -- unmunge --socket=/run/munge/broker \"$@\"\n",
            site.init_pid()
        );
        programs::write(&program, &script).unwrap();
        let directory = |name: &str| {
            fs::create_dir(temp.path().join(name)).unwrap();
            Directory::open(&temp.path().join(name)).unwrap()
        };
        let (me, clock) = (Owner::current(), Arc::new(SystemClock));
        Authority::create(&directory("keys"), CLUSTER, clock.unix_millis() / 1000).unwrap();
        let key = |name| temp.path().join("keys").join(name);
        let trust = FileTrust::user(me.uid);
        let authority = Authority::load(&key(authority::KEY), &key(authority::CERTIFICATE), trust).unwrap();
        let enrolments = Enrolments {
            authority: Arc::new(authority),
            register: Arc::new(Register::open(directory("nodes"), me, Arc::clone(&clock) as _).unwrap()),
            cluster: CLUSTER.to_owned(),
            munge: Some(Munge::at("/nonexistent/munge".into(), program, Duration::from_secs(20))),
            resolver: Arc::new(Addresses),
            check: ConnectionAddress::Checked,
            repin: Repin::Refused,
            codes: Codes::new(directory("codes"), me),
            attempts: Attempts::default(),
            clock,
        };
        body(&Cluster { site, temp, enrolments })
    })
}

impl Cluster<'_> {
    /// The request of a node that keeps its key in a directory of its own.
    fn request(&self, directory: &str, node: &str) -> Vec<u8> {
        let path = self.temp.path().join(directory);
        fs::create_dir_all(&path).unwrap();
        NodeFiles::new(Directory::open(&path).unwrap(), name(node)).load().unwrap().request().unwrap()
    }

    /// A credential made by `user` on `place`, for a request of `node`.
    fn credential(&self, user: &str, place: &str, node: &str, request: &[u8]) -> Result<String> {
        let text = payload(CLUSTER, &name(node), &request::hash(request));
        let script = format!("munge --socket=/run/munge/{place} --input=-");
        let outcome = self.site.script(user, &script).on(place).stdin(text).run()?.ok()?;
        Ok(outcome.stdout.trim().to_owned())
    }

    fn enrol(
        &self,
        node: &str,
        request: &[u8],
        credential: &str,
        from: &str,
    ) -> std::result::Result<Enrolled, EnrolmentRefusal> {
        let (request, munge) = (STANDARD.encode(request), Some(credential.to_owned()));
        let message = EnrolRequest { node: name(node), request, munge, code: None };
        let from = address(from);
        self.enrolments.enrol(&message, from, self.enrolments.begin(from)?)
    }
}

#[test]
fn root_on_a_node_enrols_it_and_nobody_else_does() -> Result<()> {
    with_cluster(|cluster| {
        let request = cluster.request("n1", "n1");
        let credential = cluster.credential("root", "n1", "n1", &request)?;
        let by_root_on = |place| cluster.credential("root", place, "n1", &request);
        let of_alice = cluster.credential("alice", "n1", "n1", &request)?;
        let other = cluster.request("thief", "n1");
        for (node, request, credential, from, word) in [
            ("n1", &request, of_alice.as_str(), "n1", "made by user 2001, not by root"),
            (
                "n1",
                &request,
                by_root_on("n2")?.as_str(),
                "n2",
                "made at 192.0.2.12, which is not an address of the node n1",
            ),
            ("n1", &request, by_root_on("n1")?.as_str(), "n2", "connection comes from 192.0.2.12"),
            ("n1", &other, by_root_on("n1")?.as_str(), "n1", "not made for this request of the node n1"),
            ("n2", &request, by_root_on("n1")?.as_str(), "n1", "not made for this request of the node n2"),
            ("n1", &request, "MUNGE:AAAA:", "n1", "Invalid credential"),
        ] {
            let refusal = cluster.enrol(node, request, credential, from).unwrap_err();
            assert!(refusal.to_string().contains(word) && refusal.is_to_log(), "{refusal}");
        }
        assert!(cluster.enrolments.register.list().entries.is_empty());
        let enrolled = cluster.enrol("n1", &request, &credential, "n1").unwrap();
        assert_eq!((enrolled.pinned, &enrolled.proof), (Pinned::New, &Proof::Munge { address: address("n1") }));
        let replayed = cluster.enrol("n1", &request, &credential, "n1").unwrap_err();
        assert_eq!(replayed.to_string(), "the MUNGE credential was used before");
        let files = NodeFiles::new(Directory::open(&cluster.temp.path().join("n1")).unwrap(), name("n1"));
        let identity = files.store(files.load().unwrap(), &enrolled.certificate.pem).unwrap();
        assert!(cluster.enrolments.register.is_pinned(&name("n1"), identity.key()));
        Ok(())
    })
}

#[test]
fn an_expired_credential_and_a_munged_that_is_down_are_told() -> Result<()> {
    with_cluster(|cluster| {
        let request = cluster.request("n1", "n1");
        let text = payload(CLUSTER, &name("n1"), &request::hash(&request));
        let script = "munge --socket=/run/munge/n1 --ttl=1 --input=-; sleep 3";
        let made = cluster.site.script("root", script).on("n1").stdin(text).run()?.ok()?;
        let expired = cluster.enrol("n1", &request, made.stdout.trim(), "n1").unwrap_err();
        assert!(expired.to_string().contains("has expired; compare the clocks"), "{expired}");
        let credential = cluster.credential("root", "n1", "n1", &request)?;
        cluster.site.stop("munged-broker", "TERM")?;
        let down = cluster.enrol("n1", &request, &credential, "n1").unwrap_err();
        assert!(matches!(down, EnrolmentRefusal::Unavailable(_)), "{down}");
        start_munged(cluster.site, "broker", None)?;
        assert!(cluster.enrol("n1", &request, &credential, "n1").is_ok());
        Ok(())
    })
}
