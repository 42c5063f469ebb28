// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check` about brokers: the host of a site as a broker and as a node, with one fault after the other.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use mytoken::config::FileTrust;
use mytoken::private_files::{Directory, Owner};
use mytoken::{Clock, SystemClock};
use mytokend::broker::identity::{Authority, CertificateRequest, StateDir};
use mytokend::control::check::kinds_broker;
use testbed::site::daemon::Daemon;
use testbed::site::services::{agent, broker};
use testbed::{Options, Result, Site, story};

use crate::checked::{Found, findings, healthy};

const KEYS: &str = "/etc/mytoken/keys";

/// What the only host of a site, which runs jobs as well, lacks as a node.
const NODE: &str = "node-not-enrolled";

/// How long a story waits for a broker.
const TIMEOUT: Duration = Duration::from_secs(20);

/// jobs.toml with brokers of these names. No broker runs in this site.
fn brokers(names: &str) -> String {
    format!("mkdir -p /etc/mytoken/jobs.d; printf '[broker]\\nnames = [{names}]\\n' >/etc/mytoken/jobs.d/broker.toml")
}

/// Runs a script, and sees these findings besides those about brokers that do not answer.
fn sees(site: &Site, script: &str, ids: &[&str]) -> Result<Vec<Found>> {
    site.sh("root", &format!("set -e; {script}"))?.ok()?;
    let (mut found, _) = findings(site, "--offline")?;
    found.retain(|found| !["broker-unreachable", "brokers-unreachable"].contains(&found.id.as_str()));
    let seen: Vec<&str> = found.iter().map(|found| found.id.as_str()).collect();
    assert_eq!(seen, ids, "{script}: {found:#?}");
    Ok(found)
}

/// Puts files of an authority that was made ten years ago, and of a node that enrolled eleven months ago, into the site.
fn old_files(site: &Site) -> Result<()> {
    const DAY: u64 = 86_400;
    let (temp, now) = (tempfile::tempdir().unwrap(), SystemClock.now());
    Authority::create(&Directory::open(temp.path()).unwrap(), "testbed", now - 3_600 * DAY).unwrap();
    let [key, certificate] = ["broker-ca.key", "broker-ca.pem"].map(|name| temp.path().join(name));
    let authority = Authority::load(&key, &certificate, FileTrust::user(Owner::current().uid)).unwrap();
    let files = StateDir::open_or_make(temp.path()).unwrap().node_files("n1".parse().unwrap());
    let identity = files.load().unwrap();
    let request = CertificateRequest::read(&identity.request().unwrap()).unwrap();
    files.store(identity, &authority.sign_node(&request, files.node(), now - 340 * DAY).unwrap().pem).unwrap();
    site.sh("root", "mkdir -p /var/lib/mytoken")?.ok()?;
    for (name, directory, mode) in [
        ("broker-ca.key", KEYS, "0600"),
        ("broker-ca.pem", KEYS, "0644"),
        ("node.key", "/var/lib/mytoken", "0600"),
        ("node.pem", "/var/lib/mytoken", "0644"),
    ] {
        let text = std::fs::read_to_string(temp.path().join(name)).unwrap();
        site.write(&format!("{directory}/{name}"), &text, mode)?;
    }
    Ok(())
}

#[test]
fn certificates_that_end_soon_are_found() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        old_files(site)?;
        let found = sees(site, &brokers("\"testbed\""), &["broker-authority-ends", "node-certificate-ends"])?;
        assert_eq!(found[1].fix, "mytokenctl node enrol");
        // What the other fix begins with.
        site.sh("root", &found[0].fix)?.ok()?;
        site.sh("root", "test -e /root/new-authority/broker-ca.pem")?.ok()?;
        // Two certificates are trusted, and the old key still signs.
        let both = format!("cat /root/new-authority/broker-ca.pem >>{KEYS}/broker-ca.pem");
        sees(site, &both, &["broker-authority-ends", "node-certificate-ends"])?;
        let new = format!("mv /root/new-authority/broker-ca.key {KEYS}/");
        sees(site, &new, &["node-certificate-ends"])?;
        Ok(())
    })
}

#[test]
fn a_cluster_of_more_than_16_nodes_needs_a_broker() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        for (last, ids) in [(15, &[][..]), (16, &["direct-mode-nodes"])] {
            let line = format!("NodeName=x[1-{last}] NodeAddr=192.0.2.[100-{}] CPUs=1 State=DOWN", 99 + last);
            let write = format!("sed -i '/^NodeName=x/d; /^PartitionName/i {line}' /etc/slurm/slurm.conf");
            site.sh("root", &write)?.ok()?;
            site.stop("slurmctld", "TERM")?;
            site.restart("slurmctld")?;
            site.wait_for("slurmctld", Duration::from_secs(30), "root", "scontrol ping | grep -q UP")?;
            sees(site, "true", ids)?;
        }
        Ok(())
    })
}

#[test]
fn each_fault_of_a_broker_is_found_alone() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        sees(site, "true", &[])?;
        // slurmd runs beside the broker here, so it is a node as well.
        let found = sees(site, &brokers("\"testbed\""), &["broker-authority"])?;
        assert!(found[0].fix.starts_with("mytokenctl broker-ca "), "{found:?}");
        let made = site.sh("root", &found[0].fix)?.ok()?.stdout;
        assert!(made.contains("/broker-ca.key   for the brokers only"), "{made}");
        let found = sees(site, "true", &["node-not-enrolled"])?;
        assert_eq!(found[0].fix, "mytokenctl node enrol");
        let key = format!("{KEYS}/broker-ca.key");
        sees(site, &format!("chmod 644 {key}"), &["broker-authority", "node-not-enrolled"])?;
        sees(
            site,
            &format!("chmod 600 {key}; mv {KEYS}/cluster.key /root/"),
            &["broker-without-key", "node-not-enrolled"],
        )?;
        sees(site, &format!("mv /root/cluster.key {KEYS}/"), &["node-not-enrolled"])?;
        let (found, code) = findings(site, "--offline")?;
        let away = found.iter().find(|found| found.id == "brokers-unreachable").expect("no broker runs here");
        assert!(code == 2 && away.text.starts_with("no safe connection to the broker testbed:7512: "), "{found:#?}");
        Ok(())
    })
}

#[test]
fn each_fault_of_a_node_is_found_alone() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        site.sh("root", &brokers("\"testbed\""))?.ok()?;
        site.sh("root", "mytokenctl broker-ca")?.ok()?;
        // Another broker than this host.
        site.sh("root", &format!("echo 192.0.2.99 broker1 >>/etc/hosts; {}", brokers("\"broker1\"")))?.ok()?;
        let found = sees(site, "true", &["broker-authority-elsewhere", "cluster-key-on-node", "node-not-enrolled"])?;
        for found in &found[..2] {
            site.sh("root", &found.fix)?.ok()?;
        }
        sees(site, "true", &["node-not-enrolled"])?;
        let found = sees(site, &format!("mv {KEYS}/broker-ca.pem /root/"), &["broker-ca-file"])?;
        assert!(found[0].fix.starts_with("scp -p BROKER:/etc/mytoken/keys/broker-ca.pem "), "{found:?}");
        sees(site, &format!("mv /root/broker-ca.pem {KEYS}/"), &["node-not-enrolled"])?;
        let found = sees(site, &brokers("\"no-such-broker\""), &["node-not-enrolled", "broker-name"])?;
        assert!(site.sh("root", &found[1].fix)?.code != 0, "{found:?}");
        // Without brokers, the agent needs the key again.
        sees(site, "rm /etc/mytoken/jobs.d/broker.toml", &["agent-key-file"])?;
        Ok(())
    })
}

/// Another broker at the socket. Its answer is that of the site's own, changed by this command of sed.
fn other_broker(edit: &str) -> String {
    format!(
        "mytokenctl broker status --json | sed '{edit}' >/root/status; cd /run/mytoken-broker; mv broker.sock broker.away; \
         setsid --fork perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Local => \"broker.sock\", Listen => 5) or die; \
         while ($c = $s->accept) {{ print $c `cat /root/status`; close $c }}' >/dev/null 2>&1 </dev/null; \
         for i in $(seq 50); do test -S broker.sock && break; sleep 0.1; done"
    )
}

const END_OTHER_BROKER: &str = "pkill -f '[I]O::Socket::UNIX'; cd /run/mytoken-broker && mv -f broker.away broker.sock";

#[test]
fn a_broker_that_runs_with_other_keys_settings_or_programs_than_on_disk_is_found() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        site.sh("root", &format!("{}; mytokenctl broker-ca", brokers("\"testbed\"")))?.ok()?;
        site.start_daemon(Daemon::new("broker", [agent::PROGRAM, "broker"]))?;
        let until = |condition: &str| site.wait_for("the broker", TIMEOUT, "root", condition);
        until("mytokenctl broker status")?;
        sees(site, "true", &[NODE])?;

        sees(site, "mytokenctl key new >/root/new", &["broker-key-not-read", NODE])?;
        let new = site.sh("root", "awk '{ printf \"%s\", substr($3, 1, 8); exit }' /root/new")?.ok()?.stdout;
        let put_new = format!("cp {KEYS}/{new}.pub {KEYS}/cluster.pub");
        let found = sees(site, &put_new, &["broker-key", NODE])?;
        site.sh("root", &found[0].fix)?.ok()?;
        until(&format!("mytokenctl broker status | grep -q '^keys: .*{new}'"))?;
        sees(site, "true", &[NODE])?;
        let put_other = format!("mytokenctl keygen --dir /root/other; cp /root/other/cluster.pub {KEYS}/cluster.pub");
        sees(site, &put_other, &["keys-differ", "broker-key", NODE])?;
        sees(site, &put_new, &[NODE])?;

        // `systemctl reload` asks the check first, and sends no signal then. Others do.
        let refused = format!("chmod 644 {KEYS}/cluster.key; pkill -HUP -f '^[^ ]*mytokend broker'");
        site.sh("root", &refused)?.ok()?;
        until("mytokenctl broker status | grep -q '^configuration: .* was refused: '")?;
        sees(site, "true", &["private-key", "broker-reload-refused", NODE])?;
        let found = sees(site, &format!("chmod 600 {KEYS}/cluster.key"), &["broker-reload-refused", NODE])?;
        site.sh("root", &found[0].fix)?.ok()?;
        until("mytokenctl broker status >/root/status && ! grep '^configuration' /root/status")?;
        sees(site, "true", &[NODE])?;

        // Where it keeps the credentials of submissions.
        let escrow = "/var/lib/mytoken/escrow";
        let on = "printf 'escrow = true\\n' >>/etc/mytoken/jobs.d/broker.toml";
        let found = sees(site, &format!("rm -rf {escrow}; {on}"), &["broker-escrow", NODE])?;
        assert!(found[0].text.contains("does not exist"), "{found:?}");
        sees(site, &format!("install -d -m 755 {escrow}"), &["broker-escrow", NODE])?;
        sees(site, &format!("chmod 700 {escrow}"), &[NODE])?;
        let small = format!("mount -t tmpfs -o size=1m,mode=0700 none {escrow}");
        sees(site, &small, &["broker-escrow-room", NODE])?;
        sees(site, &format!("umount {escrow}"), &[NODE])?;

        // A broker of another version, and one of the first, which does not tell it.
        for edit in ["s/\"version\": \"[^\"]*\"/\"version\": \"0.0.9\"/", "/\"version\"/d"] {
            sees(site, &other_broker(edit), &["broker-version", NODE])?;
            site.sh("root", END_OTHER_BROKER)?.ok()?;
        }
        sees(site, "true", &[NODE]).map(drop)
    })
}

/// What a host finds about brokers. Each sees only its own processes, as on a machine of its own.
fn of_host(site: &Site, host: &str, ids: &[&str]) -> Result<String> {
    let run = if host.starts_with('b') { "unshare --pid --fork --mount-proc " } else { "" };
    let checked = site.on_node(host, &format!("{run}mytokenctl check --offline --json"))?;
    let report: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    let all = report["findings"].as_array().unwrap();
    let keys = ["private-key", "node-without-key", "agent-key", "agent-key-file"];
    let of_brokers = |id: &&str| keys.contains(id) || kinds_broker::ALL.iter().any(|kind| kind.id == *id);
    let seen: Vec<&str> = all.iter().filter_map(|finding| finding["id"].as_str()).filter(of_brokers).collect();
    assert_eq!(seen, ids, "{host}: {checked:#?}");
    Ok(checked.stdout)
}

#[test]
fn brokers_that_are_away_or_do_not_know_a_node_are_found() -> Result<()> {
    story(Options { nodes: 1, brokers: 2, ..Options::new()? }, |site| {
        healthy(site)?;
        for host in ["n1", "b1", "b2"] {
            let own = format!(
                "mkdir -p /var/lib/mytoken /var/lib/mytoken.{host}; mount --bind /var/lib/mytoken.{host} /var/lib/mytoken"
            );
            site.on_node(host, &own)?.ok()?;
        }
        // Its agent has enrolled it at one broker, and would do so at the other one.
        let enrolled = "until test -e /var/lib/mytoken/node.pem; do sleep 0.1; done";
        site.script("root", enrolled).on("n1").timeout(Duration::from_secs(20)).run()?.ok()?;
        let says = of_host(site, "n1", &[])?;
        assert!(says.contains("this node is enrolled, 2 of 2 brokers answer"), "{says}");
        site.stop("agent.n1", "TERM")?;
        for broker in ["b1", "b2"] {
            let says = of_host(site, broker, &[])?;
            assert!(says.contains("this host is a broker, 2 of 2 brokers answer"), "{says}");
            site.on_node(broker, "mytokenctl node remove n1; sleep 2")?;
        }
        site.on_node("n1", "rm -rf /var/lib/mytoken/*")?.ok()?;
        of_host(site, "n1", &["node-not-enrolled"])?;
        site.on_node("n1", "mytokenctl node enrol --node n1")?.ok()?;
        of_host(site, "n1", &[])?;
        // Where nodes enrol with codes.
        site.sh(
            "root",
            "mkdir -p /etc/mytoken/jobs.d; printf '[broker]\\nmunge = false\\n' >/etc/mytoken/jobs.d/codes.toml",
        )?
        .ok()?;
        of_host(site, "n1", &["node-unknown-at-broker"])?;
        let code = site.on_node("b2", "mytokenctl node code n1")?.ok()?.stdout;
        let with_code = "mytokenctl node enrol --code --node n1";
        site.script("root", with_code).on("n1").stdin(code).run()?.ok()?;
        let says = of_host(site, "n1", &[])?;
        assert!(says.contains("this node is enrolled, 2 of 2 brokers answer"), "{says}");
        // Submissions of a host without the authority's certificate carry their credentials.
        let lost = format!("echo 'escrow = true' >>/etc/mytoken/jobs.d/codes.toml; mv {KEYS}/broker-ca.pem /root/");
        site.sh("root", &lost)?.ok()?;
        let without = site.sh("root", "unshare --pid --fork --mount-proc mytokenctl check --offline --json")?.stdout;
        assert!(without.contains("\"escrow-ca-file\""), "{without}");
        site.sh("root", &format!("mv /root/broker-ca.pem {KEYS}/"))?.ok()?;
        site.stop(&broker::name("b2"), "TERM")?;
        of_host(site, "n1", &["broker-unreachable"])?;
        site.stop(&broker::name("b1"), "KILL")?;
        of_host(site, "n1", &["brokers-unreachable"; 2])?;
        Ok(())
    })
}
