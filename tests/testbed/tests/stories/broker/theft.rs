// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who has a copy of a node's key and certificate can do nothing with it at another address. Where the broker does not check addresses, he is
//! that node until root keeps it out.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::drive::jobs::Job;
use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::site::addresses;
use testbed::site::plan::STATE_DIR;
use testbed::site::services::{agent, broker};
use testbed::{Options, Result, Site, story_with_own_servers, wait};

use super::request::ask;

/// How long the story waits for a job, an agent or the broker.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Key and certificate of n1.
const N1: &str = "/var/lib/mytoken.n1";

/// The copy of both.
const STOLEN: &str = "/root/stolen";

const TOKEN: &str = "/v1/token";

/// What `mytokenctl node` on the broker needs: the broker of a site has its state in a directory of its own.
pub const OWN_STATE: &str = "mkdir -p /var/lib/mytoken; mount --bind /var/lib/mytoken.b1 /var/lib/mytoken";

/// A job of alice with a token on `node`, and the node's request for it.
fn job_on(site: &Site, node: &str) -> Result<(Job, Value)> {
    let submit = format!("sbatch --mytoken -w {node} --wrap 'echo $SLURM_MYTOKEN; sleep 600'");
    let (job, _) = Job::submit(site, "alice", &submit)?;
    job.wait_for_start(site)?;
    job.wait_for_token(site, node)?;
    let sealed = wait::until("the sealed text", TIMEOUT, || {
        Ok(Some(job.output_so_far(site)?.trim().to_owned()).filter(|text| text.starts_with("mt1.")))
    })?;
    let request = json!({"job": job.id, "uid": 2001, "sealed": sealed, "patience": 5000});
    Ok((job, request))
}

/// Number of lines in all logs that have both texts.
pub fn logged(site: &Site, one: &str, other: &str) -> Result<String> {
    let count = format!("cat /var/log/*.log | grep -F '{one}' | grep -cF '{other}'");
    Ok(site.sh("root", &count)?.stdout.trim().to_owned())
}

/// Lets the broker serve nodes at any address.
fn check_no_address(site: &Site) -> Result<()> {
    let settings =
        "mkdir -p /etc/mytoken/jobs.d; printf '[broker]\ncheck_address = false\n' >/etc/mytoken/jobs.d/address.toml";
    site.sh("root", settings)?.ok()?;
    site.sh("root", &format!("kill -HUP $(cat {STATE_DIR}/pid/{})", broker::name("b1")))?.ok()?;
    Ok(())
}

#[test]
fn a_stolen_certificate_is_of_no_use_elsewhere_or_gives_what_its_node_has_until_the_node_is_kept_out() -> Result<()> {
    story_with_own_servers(Options { brokers: 1, nodes: 2, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        let (job, own) = job_on(site, "n1")?;
        let (_, other) = job_on(site, "n2")?;
        site.sh("root", &format!("cp -a {N1} {STOLEN}"))?.ok()?;
        let steal = |path: &str, body: &Value| ask(site, "n2", Some(STOLEN), path, body);
        let at_broker = |command: &str| site.on_node("b1", &format!("mytokenctl node {command} n1"))?.ok();

        let requests = Journal::read(site)?.requests_to("access_token");
        let (at, enrolled) = (addresses::node(2), addresses::node(1));
        for path in [TOKEN, "/v1/end", "/v1/jobs", "/v1/permit", "/v1/renew"] {
            let (status, body) = steal(path, &own)?;
            let reason = format!("the connection comes from {at}, which is not an address of the node n1");
            assert!(status == "403" && body.contains(&reason), "{path}: {status} {body}");
        }
        let line = format!("node n1 at {at}, enrolled at {enrolled}: its requests are");
        assert_eq!(logged(site, &line, "refused, because its name does not have this address")?, "1");
        assert_eq!(ask(site, "n1", Some(N1), TOKEN, &own)?.0, "200", "the node itself");

        // Without the check, the address of n2 makes no difference. The thief sees the token that n1 has, and causes no request to the
        // server.
        check_no_address(site)?;
        wait::until("the reload", TIMEOUT, || Ok((steal(TOKEN, &own)?.0 == "200").then_some(())))?;
        let held = job.token(site, "n1")?.unwrap_or_default();
        let (status, body) = steal(TOKEN, &own)?;
        let answer: Value = serde_json::from_str(&body).unwrap();
        let stolen = answer["outcome"]["token"]["token"].as_str();
        assert_eq!((status.as_str(), stolen), ("200", Some(held.trim())));
        assert_eq!(Journal::read(site)?.requests_to("access_token"), requests);
        assert_eq!(logged(site, &line, "served, but its name does not have this address")?, "1");
        // No token of a job on another node, and no end of a job that runs.
        for _ in 0..2 {
            let (status, body) = steal(TOKEN, &other)?;
            assert!(status == "200" && body.contains("does not run on n1") && !body.contains("\"token\""), "{body}");
        }
        assert_eq!(logged(site, "node n1, job", "does not run on n1")?, "1");
        let (status, body) = steal("/v1/end", &own)?;
        assert!(status == "200" && body.contains("waits"), "{status} {body}");

        site.on_node("b1", OWN_STATE)?.ok()?;
        at_broker("block")?;
        let limit = Duration::from_secs(10);
        wait::until("the end of the theft", limit, || Ok((steal(TOKEN, &own)?.0 == "403").then_some(())))?;
        for path in [TOKEN, "/v1/end", "/v1/jobs", "/v1/permit"] {
            let (status, body) = steal(path, &own)?;
            let is_refused = status == "403" && body.contains("the node n1 is not enrolled with this key");
            assert!(is_refused, "{path}: {status} {body}");
        }
        assert_eq!(logged(site, "node n1: a request was refused", "is not enrolled with this key")?, "1");

        // The node is clean again, and has a key of which there is no copy.
        site.stop(&agent::name("n1"), "TERM")?;
        site.sh("root", &format!("rm {N1}/node.*"))?.ok()?;
        at_broker("remove")?;
        assert_eq!(steal(TOKEN, &own)?.0, "403", "it was removed");
        site.restart(&agent::name("n1"))?;
        site.wait_for("the enrolment with a new key", TIMEOUT, "root", &format!("test -e {N1}/node.pem"))?;
        let (status, body) = ask(site, "n1", Some(N1), TOKEN, &own)?;
        assert!(status == "200" && body.contains("\"token\""), "{status} {body}");
        assert_eq!(steal(TOKEN, &own)?.0, "403", "the node has another key");
        assert_eq!(Journal::read(site)?.requests_to("revocation"), 0, "the thief has ended no submission");
        Ok(())
    })
}
