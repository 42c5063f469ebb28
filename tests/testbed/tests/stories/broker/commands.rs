// SPDX-License-Identifier: MIT OR Apache-2.0
//! What root does for brokers and nodes: `mytokenctl broker-ca` and `mytokenctl node`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use testbed::site::command::CommandOutcome;
use testbed::site::services::broker;
use testbed::{Options, Result, Site, story};

/// Brokers in jobs.toml.
const BROKERS: &str =
    "mkdir -p /etc/mytoken/jobs.d; printf '[broker]\\nnames = [\"broker1\"]\\n' >/etc/mytoken/jobs.d/broker.toml";

/// Runs a script of a user that fails with this exit status, and has this text on standard error.
fn refused(site: &Site, user: &str, script: &str, status: i32, text: &str) -> Result<()> {
    let outcome = site.sh(user, script)?;
    assert!(outcome.code == status && outcome.stderr.contains(text), "{script}: {outcome:?}");
    Ok(())
}

#[test]
fn root_makes_an_authority_and_codes_and_keeps_nodes_out() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        refused(
            site,
            "root",
            "mytokenctl node list",
            1,
            "this host is not a broker: it has no /etc/mytoken/keys/broker-ca.key",
        )?;
        refused(site, "root", "mytokenctl node enrol", 1, "jobs.toml names no broker")?;
        assert!(!site.exists("/var/lib/mytoken")?);

        let made = site.sh("root", "mytokenctl broker-ca")?.ok()?.stdout;
        assert!(!made.contains("jobs.toml") && made.lines().count() == 3, "{made}");
        let modes = site.sh("root", "cd /etc/mytoken/keys; stat -c '%n %a %U' broker-ca.*")?.ok()?.stdout;
        assert_eq!(modes, "broker-ca.key 600 root\nbroker-ca.pem 644 root\n");
        let ends =
            site.sh("root", "openssl x509 -in /etc/mytoken/keys/broker-ca.pem -noout -subject -ext basicConstraints")?;
        assert!(ends.stdout.contains("mytoken authority testbed") && ends.stdout.contains("CA:TRUE"), "{ends:?}");
        refused(site, "root", "mytokenctl broker-ca", 1, "there is an authority already")?;
        let elsewhere = site.sh("root", "mytokenctl broker-ca --dir /root/other")?.ok()?.stdout;
        assert!(elsewhere.contains("ca_key_file = \"/root/other/broker-ca.key\""), "{elsewhere}");

        for command in ["list", "remove n1", "block n1", "code n1", "enrol"] {
            refused(site, "alice", &format!("mytokenctl node {command}"), 1, "only root can do this")?;
        }
        refused(site, "alice", "mytokenctl broker-ca --dir /etc/mytoken/other", 1, "/etc/mytoken/other")?;
        for wrong in ["remove", "remove ../n1", "code", "enrol --code 0123"] {
            refused(site, "root", &format!("mytokenctl node {wrong}"), 2, "")?;
        }

        let list = site.sh("root", "mytokenctl node list")?.ok()?.stdout;
        assert_eq!(list, "no node is enrolled at this broker\n");
        let code = site.sh("root", "mytokenctl node code n1")?.ok()?;
        assert!(code.stdout.trim().len() == 39 && code.stderr.contains("mytokenctl node enrol --code"), "{code:?}");
        let digits = code.stdout.trim().replace('-', "");
        let kept =
            site.sh("root", &format!("grep -rlE '{}|{digits}' /var/lib/mytoken /var/log", code.stdout.trim()))?;
        assert_eq!(kept.stdout, "", "a code is kept nowhere");

        let blocked = site.sh("root", "mytokenctl node block n1 n2")?.ok()?.stdout;
        assert_eq!(blocked.lines().count(), 2, "{blocked}");
        let list = site.sh("root", "mytokenctl node list --json")?.ok()?.stdout;
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        assert_eq!((&list["nodes"][1]["node"], &list["nodes"][1]["blocked"]), (&"n2".into(), &true.into()), "{list}");
        refused(
            site,
            "root",
            "mytokenctl node code n1",
            1,
            "n1 is blocked; to let it enrol again: mytokenctl node remove n1",
        )?;
        let removed = site.sh("root", "mytokenctl node remove n1 n3")?;
        assert_eq!((removed.code, removed.stdout.as_str()), (1, "n1: removed; it can enrol again, with any key\n"));
        assert_eq!(removed.stderr, "mytokenctl: n3: it is not enrolled at this broker\n");
        // A file that is damaged keeps its node out, and is told.
        site.sh("root", "echo x >/var/lib/mytoken/nodes/n2.json")?.ok()?;
        refused(site, "root", "mytokenctl node list", 1, "/var/lib/mytoken/nodes/n2.json")?;

        site.sh("root", BROKERS)?.ok()?;
        refused(site, "root", "mytokenctl node enrol --node n1", 1, "no broker can be reached: broker1:7512: ")?;
        let key = site.sh("root", "stat -c '%a %U' /var/lib/mytoken /var/lib/mytoken/node.key")?.ok()?.stdout;
        assert_eq!(key, "755 root\n600 root\n");
        Ok(())
    })
}

/// Lets a host have the state that is its own, and no agent that enrols it again.
fn with_hosts(body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story(Options { nodes: 2, brokers: 2, ..Options::new()? }, |site| {
        site.stop("agent", "TERM")?;
        for node in site.nodes() {
            site.stop(&format!("agent.{node}"), "TERM")?;
            site.sh("root", &format!("rm -rf /var/lib/mytoken.{node}"))?.ok()?;
        }
        for host in site.nodes().iter().chain(&site.brokers()) {
            let own = format!(
                "mkdir -p /var/lib/mytoken /var/lib/mytoken.{host}; mount --bind /var/lib/mytoken.{host} /var/lib/mytoken"
            );
            site.on_node(host, &own)?.ok()?;
        }
        for broker in site.brokers() {
            site.on_node(&broker, "mytokenctl node remove n1 n2 testbed")?;
        }
        body(site)
    })
}

/// The nodes of a broker, each with its proof.
fn enrolled(site: &Site, broker: &str) -> Result<Vec<(String, String)>> {
    let list = site.on_node(broker, "mytokenctl node list --json")?.ok()?.stdout;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("blocked").to_owned();
    Ok(list["nodes"].as_array().unwrap().iter().map(|node| (text(&node["node"]), text(&node["proof"]))).collect())
}

#[test]
fn nodes_enrol_by_munge_and_with_a_code_and_are_kept_out() -> Result<()> {
    with_hosts(|site| {
        let row = |node: &str, proof: &str| (node.to_owned(), proof.to_owned());
        let enrol = |host: &str, node: &str| site.on_node(host, &format!("mytokenctl node enrol --node {node}"));
        let says = |outcome: &CommandOutcome, code: i32, text: &str| {
            let said = if code == 0 { &outcome.stdout } else { &outcome.stderr };
            assert!(outcome.code == code && said.contains(text), "{text}: {outcome:?}");
        };
        says(&enrol("n1", "n1")?, 0, "n1 is enrolled at b1:7512; its certificate is valid until ");
        assert_eq!(enrolled(site, "b1")?, [row("n1", "munge")]);
        assert_eq!(enrolled(site, "b2")?, [], "each broker has a register of its own");
        // Root of another node.
        let lines =
            || site.logs().lines().filter(|line| line.contains("the enrolment of the node n1 was refused")).count();
        says(&enrol("n2", "n1")?, 1, "is not an address of the node n1");
        let logged = lines();
        for _ in 0..3 {
            says(&enrol("n2", "n1")?, 1, "is not an address of the node n1");
        }
        assert!((1..=2).contains(&logged) && lines() == logged, "once at each broker: {}", site.logs());
        assert_eq!(enrolled(site, "b1")?, [row("n1", "munge")]);

        let code = site.on_node("b2", "mytokenctl node code n2")?.ok()?.stdout;
        let with_code = |node: &str| {
            site.script("root", &format!("mytokenctl node enrol --code --node {node}"))
                .on(node)
                .stdin(code.as_str())
                .run()
        };
        says(&with_code("n1")?, 1, "the one-time code is not valid for the node n1");
        says(&with_code("n2")?, 0, "n2 is enrolled at b2:7512");
        says(&with_code("n2")?, 0, "n2 is enrolled at b2:7512");
        assert_eq!(enrolled(site, "b2")?, [row("n2", "code")]);
        site.on_node("b2", "mytokenctl node remove n2")?.ok()?;
        says(&with_code("n2")?, 1, "the one-time code is not valid for the node n2");

        site.on_node("b1", "mytokenctl node block n1")?.ok()?;
        says(&enrol("n1", "n1")?, 0, "n1 is enrolled at b2:7512");
        site.on_node("b2", "mytokenctl node block n1")?.ok()?;
        says(&enrol("n1", "n1")?, 1, "the broker b1:7512 answered 403: the node n1 is blocked");
        site.on_node("b1", "mytokenctl node remove n1")?.ok()?;
        says(&enrol("n1", "n1")?, 0, "n1 is enrolled at b1:7512");

        // It was installed again.
        site.on_node("n1", "rm /var/lib/mytoken/node.*")?.ok()?;
        site.on_node("b2", "mytokenctl node remove n1")?.ok()?;
        site.stop(&broker::name("b2"), "TERM")?;
        says(&enrol("n1", "n1")?, 1, "the node n1 is enrolled with another key");
        site.on_node("b1", "mytokenctl node remove n1")?.ok()?;
        says(&enrol("n1", "n1")?, 0, "n1 is enrolled at b1:7512");
        Ok(())
    })
}
