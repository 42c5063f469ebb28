// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs whose nodes ask a broker: it alone has the cluster's private key. Brokers and nodes have networks and munged of their own.

use std::time::Duration;

use testbed::drive::jobs::{Calls, Job, calling_script, calls};
use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::site::services::broker;
use testbed::{Options, Result, Site, story_with_own_servers, wait};

/// How long a story waits for a job.
const TIMEOUT: Duration = Duration::from_secs(120);

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
