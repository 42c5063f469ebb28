// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is no node tries to become one at a broker's port: each is refused, and the log tells it once.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mytoken::private_files::Directory;
use mytokend::broker::identity::munge::payload;
use mytokend::broker::identity::{NodeFiles, NodeName, request};
use mytokend::broker::messages::{ENROL_PATH, TOKEN_PATH};
use serde_json::{Value, json};
use testbed::site::addresses;
use testbed::site::services::agent;
use testbed::{Options, Result, Site, story_with_own_servers, wait};

use super::TIMEOUT;
use super::request::ask;
use super::theft::{OWN_STATE, logged};

/// The certificate request of a node with a key that is kept in `directory`, DER.
fn request_in(directory: &Path, node: &str) -> Vec<u8> {
    let files = NodeFiles::new(Directory::open(directory).unwrap(), node.parse().unwrap());
    files.load().unwrap().request().unwrap()
}

/// A request to be enrolled as `node`, with a new MUNGE credential that `user` has made on n2.
fn application(site: &Site, user: &str, node: &str, request: &[u8]) -> Result<Value> {
    let name: NodeName = node.parse().unwrap();
    let text = payload("testbed", &name, &request::hash(request));
    let munge = site.script(user, "munge --input=-").on("n2").stdin(text).run()?.ok()?.stdout;
    Ok(json!({"node": node, "request": STANDARD.encode(request), "munge": munge.trim()}))
}

/// Makes a certificate for n1 that no authority of the cluster has signed.
const MAKE_FOREIGN: &str = "cd /root && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -subj /CN=n1 -addext subjectAltName=URI:mytoken:node:n1 -keyout own.key -out own.pem && \
    openssl x509 -in own.pem -noout -text | grep -F URI:mytoken:node:n1";

/// A connection with it.
const FOREIGN: &str = "cd /root && curl -s --max-time 10 --cacert /etc/mytoken/keys/broker-ca.pem --cert own.pem --key own.key -d '{}' https://b1:7512/v1/token";

#[test]
fn nobody_becomes_a_node_without_its_proof_and_each_attempt_is_logged_once() -> Result<()> {
    story_with_own_servers(Options { brokers: 1, nodes: 2, ..Options::new()? }, |site| {
        site.wait_for("the enrolment of n1", TIMEOUT, "root", "test -e /var/lib/mytoken.n1/node.pem")?;
        site.wait_for("the enrolment of n2", TIMEOUT, "root", "test -e /var/lib/mytoken.n2/node.pem")?;
        let temp = tempfile::tempdir().unwrap();
        let request = request_in(temp.path(), "n2");
        let enrol = |from: &str, body: &Value| ask(site, from, None, ENROL_PATH, body);
        // Each credential is new, because none can be used twice.
        for (user, node, reason) in [
            ("alice", "n2", "made by user 2001, not by root"),
            ("root", "n1", "made at 192.0.2.12, which is not an address of the node n1"),
            ("root", "n2", "enrolled with another key"),
        ] {
            for _ in 0..2 {
                let (status, body) = enrol("n2", &application(site, user, node, &request)?)?;
                assert!(status == "403" && body.contains(reason), "{reason}: {status} {body}");
            }
            let line = format!("the enrolment of the node {node} was refused");
            assert_eq!(logged(site, &line, reason)?, "1", "{}", site.logs());
        }

        // A credential that is good is good once, and at its node.
        site.stop(&agent::name("n2"), "TERM")?;
        site.on_node("b1", OWN_STATE)?.ok()?;
        site.on_node("b1", "mytokenctl node remove n2")?.ok()?;
        let good = application(site, "root", "n2", &request)?;
        let (status, body) = enrol("n1", &good)?;
        assert!(status == "403" && body.contains("connection comes from 192.0.2.11"), "{status} {body}");
        let good = application(site, "root", "n2", &request)?;
        let (status, body) = enrol("n2", &good)?;
        assert!(status == "200" && body.contains("certificate"), "{status} {body}");
        for _ in 0..2 {
            let (status, body) = enrol("n2", &good)?;
            assert!(status == "403" && body.contains("the MUNGE credential was used before"), "{status} {body}");
        }
        assert_eq!(logged(site, "the enrolment of the node n2 was refused", "was used before")?, "1");

        // Without a certificate, and with that of another authority.
        let address = addresses::node(2).to_string();
        let lines = |text: &str| -> Result<usize> { Ok(logged(site, &address, text)?.parse().unwrap()) };
        // The log is written after the answer.
        let wait_for_line = |text: &str| wait::until(text, TIMEOUT, || Ok((lines(text)? > 0).then_some(())));
        let (of_all, of_enrolments) = (lines(":")?, lines("enrol")?);
        for _ in 0..2 {
            let (status, body) = ask(site, "n2", None, TOKEN_PATH, &json!({}))?;
            assert!(status == "403" && body.contains("no certificate"), "{status} {body}");
        }
        wait_for_line("a request was refused: the connection has no certificate")?;
        assert_eq!(lines(":")? - of_all, 1, "{}", site.logs());
        site.on_node("n2", MAKE_FOREIGN)?.ok()?;
        for _ in 0..2 {
            let told = site.on_node("n2", FOREIGN)?;
            assert!(!told.success() && told.stdout.is_empty(), "{told:?}");
        }
        wait_for_line("a certificate was refused")?;
        assert_eq!(lines(":")? - of_all, 2, "{}", site.logs());
        assert_eq!(lines("enrol")? - of_enrolments, 0, "nobody was enrolled\n{}", site.logs());
        Ok(())
    })
}
