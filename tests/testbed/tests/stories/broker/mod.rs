// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs whose nodes ask a broker: it alone has the cluster's private key. Brokers and nodes have networks and munged of their own.

mod accounting;
mod commands;
pub mod escrow;
mod graceful_end;
mod keys;
mod outages;
mod permits;
mod replace;
pub mod request;
mod service;
mod slurmctld;
mod strangers;
mod theft;
mod two_budgets;

use std::time::Duration;

use serde_json::json;
use testbed::drive::jobs::{Calls, Job, calling_script, calls};
use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::site::addresses;
use testbed::site::plan::STATE_DIR;
use testbed::site::services::{agent, broker};
use testbed::{Options, Result, Site, story_with_own_servers, wait};

use request::ask;

/// How long a story waits for a job.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Key and certificate of n1.
const N1: &str = "/var/lib/mytoken.n1";

/// Those of n2.
const N2: &str = "/var/lib/mytoken.n2";

/// A site with a stored mytoken of alice and an empty journal. Access tokens live 15 s.
fn with_brokers(brokers: u8, nodes: u8, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story_with_own_servers(Options { brokers, nodes, ..Options::new()? }, |site| {
        people::control(site, "/provider/lifetime", Some("{\"seconds\": 15}"))?;
        people::first_mytoken(site, "alice")?;
        site.script("alice", "cat >task && chmod 755 task && printf '#!/bin/sh\\nsrun ./task\\n' >job.sh")
            .stdin(format!("#!/bin/bash\n{}", calling_script(40)))
            .run()?
            .ok()?;
        Journal::clear(site)?;
        body(site)
    })
}

/// Fails if a call of the job was refused, or a node had fewer than `tokens` tokens.
fn assert_fresh(site: &Site, job: &Job, nodes: usize, tokens: u32) -> Result<()> {
    let output = job.output(site)?;
    let calls = calls(&output);
    let fresh = |calls: &Calls| calls.refused == 0 && calls.tokens >= tokens;
    assert!(calls.len() == nodes && calls.iter().all(fresh), "{output}\n{}", site.logs());
    Ok(())
}

/// Waits until the journal has this number of revocations, and nothing is left on the nodes.
fn wait_for_revocations(site: &Site, number: usize) -> Result<()> {
    wait::until(
        "the revocation",
        TIMEOUT,
        || Ok((Journal::read(site)?.granted("revocation") >= number).then_some(())),
    )?;
    assert_eq!(Journal::read(site)?.requests_to("revocation"), number);
    assert_nothing_left(site)
}

/// Waits until each of this number of sub-tokens is revoked, by both brokers if nodes have asked both, and nothing is left on the nodes.
fn wait_for_revocations_by_any(site: &Site, number: usize) -> Result<()> {
    let is_revoked = |journal: &Journal| {
        let made = journal.each_sub_token();
        made.len() == number && made.iter().all(|token| token.revocations > 0)
    };
    wait::until("the revocations", TIMEOUT, || Ok(is_revoked(&Journal::read(site)?).then_some(())))?;
    let journal = Journal::read(site)?;
    assert!(journal.requests_to("revocation") <= number * site.brokers().len(), "{journal:#?}");
    assert_nothing_left(site)
}

fn assert_nothing_left(site: &Site) -> Result<()> {
    for node in site.nodes() {
        assert_eq!(site.on_node(&node, "ls /run/mytoken/jobs")?.ok()?.stdout, "", "{node}");
    }
    Ok(())
}

#[test]
fn all_nodes_of_a_job_share_the_requests_of_a_broker() -> Result<()> {
    with_brokers(1, 4, |site| {
        assert!(!site.on_node("n1", "ls -A /etc/mytoken/private")?.ok()?.stdout.contains("key"));
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --nodes=4 --ntasks-per-node=1 job.sh")?;
        job.wait_for_end(site, TIMEOUT)?;
        assert_fresh(site, &job, 4, 3)?;
        wait_for_revocations(site, 1)?;
        let journal = Journal::read(site)?;
        // 40 s with tokens of 15 s: at most ceil(R / (0.5 L)), as in direct mode one node needs.
        let requests = journal.requests_to("access_token");
        assert!(journal.sub_tokens() == 1 && (3..=6).contains(&requests), "{requests} requests\n{journal:#?}");
        Ok(())
    })
}

#[test]
fn a_broker_that_is_killed_costs_no_token() -> Result<()> {
    with_brokers(2, 2, |site| {
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --nodes=2 --ntasks-per-node=1 job.sh")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        site.stop(&broker::name("b1"), "KILL")?;
        job.wait_for_end(site, TIMEOUT)?;
        assert_fresh(site, &job, 2, 3)?;
        wait_for_revocations(site, 1)
    })
}

#[test]
fn an_end_while_all_brokers_are_away_is_revoked_afterwards() -> Result<()> {
    with_brokers(2, 2, |site| {
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --nodes=2 --wrap 'sleep 600'")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        for broker in site.brokers() {
            site.stop(&broker::name(&broker), "KILL")?;
        }
        site.sh("alice", &format!("scancel {}", job.id))?.ok()?;
        job.wait_for_end(site, TIMEOUT)?;
        for broker in site.brokers() {
            site.restart(&broker::name(&broker))?;
        }
        wait_for_revocations(site, 1)
    })
}

#[test]
fn without_network_to_the_broker_and_without_slurmctld_running_jobs_keep_their_tokens() -> Result<()> {
    with_brokers(1, 2, |site| {
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --nodes=2 --ntasks-per-node=1 job.sh")?;
        job.wait_for_start(site)?;
        for node in site.nodes() {
            job.wait_for_token(site, &node)?;
        }
        // By TERM it saves its jobs.
        site.stop("slurmctld", "TERM")?;
        // Shorter than the rest of a token's life at its renewal: at least a quarter of 15 s, less the second to which a node rounds it
        // down. A node that asks early gets the token that the other one has, so this happens.
        let broker = addresses::broker(1);
        let cut = format!("ip route add blackhole {broker}/32; sleep 2; ip route del blackhole {broker}/32");
        for _ in 0..2 {
            site.on_node("n1", &cut)?.ok()?;
            std::thread::sleep(Duration::from_secs(8));
        }
        site.restart("slurmctld")?;
        job.wait_for_end(site, TIMEOUT)?;
        assert_fresh(site, &job, 2, 3)?;
        wait_for_revocations(site, 1)
    })
}

/// A certificate for n1 that another authority has signed.
const FOREIGN: &str = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=n1 \
    -addext subjectAltName=URI:mytoken:node:n1 -keyout own.key -out own.pem 2>/dev/null";

/// The certificate of n1 without its key. OpenSSL sends it only with the key of it, which it knows by the public key in the file.
const KEYLESS: &str = r#"cp /var/lib/mytoken.n1/node.pem own.pem
hex() { od -An -v -tx1 | tr -d ' \n'; }
public=$(openssl x509 -in own.pem -noout -pubkey | openssl pkey -pubin -outform DER | tail -c 65 | hex)
private=$(head -c 31 /dev/urandom | hex)
printf '%s\n' asn1=SEQUENCE:key '[key]' version=INTEGER:1 private=FORMAT:HEX,OCTETSTRING:00$private \
    params=EXPLICIT:0,OID:prime256v1 public=EXPLICIT:1,FORMAT:HEX,BITSTRING:$public >own.conf
openssl asn1parse -genconf own.conf -noout -out own.der
(echo '-----BEGIN EC PRIVATE KEY-----'; base64 own.der; echo '-----END EC PRIVATE KEY-----') >own.key"#;

/// Shows such a certificate to the broker.
const SHOW: &str = "curl -s --max-time 10 --cacert /etc/mytoken/keys/broker-ca.pem --cert own.pem --key own.key \
    -d '{}' https://b1:7512/v1/token";

#[test]
fn who_has_no_right_to_a_token_is_refused_and_logged_once() -> Result<()> {
    with_brokers(1, 2, |site| {
        people::first_mytoken(site, "bob")?;
        let run = |user: &str, node: &str| -> Result<Job> {
            let (job, _) = Job::submit(
                site,
                user,
                &format!("sbatch --mytoken -w {node} --wrap 'echo $SLURM_MYTOKEN; sleep 600'"),
            )?;
            job.wait_for_start(site)?;
            job.wait_for_token(site, node)?;
            Ok(job)
        };
        let (first, second, of_bob) = (run("alice", "n1")?, run("alice", "n2")?, run("bob", "n2")?);
        let sealed = wait::until("the text", TIMEOUT, || {
            Ok(Some(first.output_so_far(site)?.trim().to_owned()).filter(|text| text.starts_with("mt1.")))
        })?;
        let request = |job: &Job, uid: u32| json!({"job": job.id, "uid": uid, "sealed": sealed, "patience": 5000});
        let own = ask(site, "n1", Some(N1), "/v1/token", &request(&first, 2001))?;
        assert!(own.0 == "200" && own.1.contains("\"token\""), "{own:?}");
        for (what, node, identity, job, uid, status, reason) in [
            ("a job on another node", "n2", Some(N2), &first, 2001, "200", "does not run on n2"),
            ("another user's job", "n2", Some(N2), &of_bob, 2002, "200", "was made for user 2001"),
            ("a copied text", "n2", Some(N2), &second, 2001, "200", "the credential belongs to job"),
            ("no certificate", "n1", None, &first, 2001, "403", "no certificate"),
        ] {
            // slurmctld is not asked for the last ones.
            for _ in 0..6 {
                let (told, body) = ask(site, node, identity, "/v1/token", &request(job, uid))?;
                assert!(
                    told == status && body.contains(reason) && !body.contains("\"token\""),
                    "{what}: {told} {body}"
                );
            }
        }
        let logs = site.logs();
        for reason in ["does not run on n2", "was made for user 2001", "the credential belongs to job"] {
            assert_eq!(
                logs.lines().filter(|line| line.contains("node n2") && line.contains(reason)).count(),
                1,
                "{reason}\n{logs}"
            );
        }
        let lines = |reason: &str| site.logs().lines().filter(|line| line.contains(reason)).count();
        assert_eq!(lines("a request was refused: the connection has no certificate"), 1, "{logs}");
        for (script, reason) in
            [(FOREIGN, "a certificate was refused"), (KEYLESS, "the other end does not have its key")]
        {
            for _ in 0..3 {
                let shown = site.on_node("n1", &format!("set -e; cd /root; {script}\n{SHOW}"))?;
                assert!(!shown.success() && shown.stdout.is_empty(), "{shown:?}");
            }
            wait::until("the line", TIMEOUT, || Ok((lines(reason) > 0).then_some(())))?;
            assert_eq!(lines(reason), 1, "{reason}\n{}", site.logs());
        }
        assert_eq!(lines("a certificate was refused"), 2, "{}", site.logs());
        let revoked = Journal::read(site)?.requests_to("revocation");
        assert_eq!(revoked, 0, "no attack ends a submission");
        Ok(())
    })
}

/// An authority of the site, and a certificate of it for a host, beside the agent's socket there.
const SITE: &str = r#"
set -e; cd /root
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=site -keyout ca.key -out ca.pem \
    -addext keyUsage=critical,keyCertSign 2>/dev/null
install -m 644 ca.pem /etc/mytoken/site-ca.pem
for host in testbed n1; do
    openssl req -new -newkey rsa:2048 -nodes -subj /CN=$host -keyout $host.key -out $host.csr 2>/dev/null
    printf 'subjectAltName=DNS:%s.site.example\nextendedKeyUsage=clientAuth\n' $host >extensions
    openssl x509 -req -in $host.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile extensions -out $host.pem 2>/dev/null
done
install -m 644 testbed.pem /run/mytoken/site.pem; install -m 600 testbed.key /run/mytoken/site.key
mkdir -p /etc/mytoken/jobs.d
cat >/etc/mytoken/jobs.d/site.toml <<END
[broker]
site_ca_file = "/etc/mytoken/site-ca.pem"
site_domain = "site.example"
site_cert_file = "/run/mytoken/site.pem"
site_key_file = "/run/mytoken/site.key"
END
"#;

#[test]
fn a_node_with_a_certificate_of_the_site_needs_no_enrolment() -> Result<()> {
    with_brokers(1, 1, |site| {
        site.sh("root", SITE)?.ok()?;
        let own =
            "install -m 644 /root/n1.pem /run/mytoken/site.pem; install -m 600 /root/n1.key /run/mytoken/site.key";
        site.on_node("n1", own)?.ok()?;
        let daemons = [broker::name("b1"), agent::name("n1")];
        daemons.iter().try_for_each(|daemon| site.stop(daemon, "TERM"))?;
        site.sh("root", "rm -r /var/lib/mytoken.b1/nodes /var/lib/mytoken.n1")?.ok()?;
        daemons.iter().try_for_each(|daemon| site.restart(daemon))?;
        let (job, _) =
            Job::submit(site, "alice", "sbatch --mytoken -w n1 --wrap 'test -s $BEARER_TOKEN_FILE; sleep 60'")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        assert!(site.logs().contains("node n1: enrolled with a certificate of the site"), "{}", site.logs());
        assert!(!site.on_node("n1", "test -e /var/lib/mytoken.n1/node.key")?.success());
        let shown = site.on_node("n1", "mytokenctl node enrol")?;
        assert!(!shown.success() && shown.stderr.contains("needs no enrolment"), "{shown:?}");
        Ok(())
    })
}

/// The value of a sample in the metrics of the broker `b1`.
fn metric(site: &Site, sample: &str) -> Result<Option<i64>> {
    let text = site.on_node("b1", "curl -sS -m 10 http://127.0.0.1:9512/metrics")?.ok()?.stdout;
    Ok(text.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok()))
}

#[test]
fn the_metrics_of_a_broker_follow_its_work_and_hold_up_nobody() -> Result<()> {
    with_brokers(1, 1, |site| {
        let settings = "mkdir -p /etc/mytoken/jobs.d; printf '[broker]\nmetrics = \"127.0.0.1:9512\"\n' >/etc/mytoken/jobs.d/metrics.toml";
        site.sh("root", settings)?.ok()?;
        let daemon = broker::name("b1");
        site.sh("root", &format!("kill -HUP $(cat {STATE_DIR}/pid/{daemon})"))?.ok()?;
        wait::until("the line about the restart", Duration::from_secs(10), || {
            let said = site.logs().contains("there are no metrics until the broker is restarted");
            Ok(said.then_some(()))
        })?;
        site.stop(&daemon, "TERM")?;
        site.restart(&daemon)?;
        for (sample, expected) in [
            ("mytoken_broker_submissions{state=\"open\"}", Some(0)),
            ("mytoken_broker_answers_total{result=\"token\"}", Some(0)),
            ("mytoken_broker_slurmctld_question_age_seconds", None),
            ("mytoken_broker_nodes{state=\"enrolled\"}", Some(2)),
        ] {
            assert_eq!(metric(site, sample)?, expected, "{sample}");
        }
        // More connections than it serves, which say nothing, hold up no job.
        site.on_node("b1", "for i in $(seq 40); do (exec 3<>/dev/tcp/127.0.0.1/9512; sleep 60) & done; sleep 0.5")?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken -w n1 job.sh")?;
        job.wait_for_end(site, TIMEOUT)?;
        assert_fresh(site, &job, 1, 3)?;
        wait_for_revocations(site, 1)?;
        let journal = Journal::read(site)?;
        let granted = i64::try_from(journal.requests_to("access_token") + journal.requests_to("revocation")).unwrap();
        for (sample, expected) in [
            ("mytoken_broker_requests_total{result=\"granted\"}", granted),
            ("mytoken_broker_answers_total{result=\"refused\"}", 0),
            ("mytoken_broker_submissions{state=\"open\"}", 0),
            ("mytoken_broker_submissions{state=\"settled\"}", 1),
            ("mytoken_broker_slurmctld_up", 1),
            ("mytoken_broker_configuration_up_to_date", 1),
        ] {
            assert_eq!(metric(site, sample)?, Some(expected), "{sample}");
        }
        assert!(metric(site, "mytoken_broker_answers_total{result=\"token\"}")? >= Some(3));
        let post = "curl -s -o /dev/null -w '%{http_code}' -X POST http://127.0.0.1:9512/metrics";
        assert_eq!(site.on_node("b1", post)?.ok()?.stdout, "405");

        // A port that is taken keeps no job from its token.
        site.stop(&daemon, "TERM")?;
        site.sh("root", "sed -i s/9512/7512/ /etc/mytoken/jobs.d/metrics.toml")?.ok()?;
        site.restart(&daemon)?;
        let (job, _) =
            Job::submit(site, "alice", "sbatch --mytoken -w n1 --wrap 'test -s $BEARER_TOKEN_FILE; sleep 60'")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        let logs = site.logs();
        assert!(
            logs.contains("there are no metrics at broker.metrics, 127.0.0.1:7512: Address already in use"),
            "{logs}"
        );
        Ok(())
    })
}
