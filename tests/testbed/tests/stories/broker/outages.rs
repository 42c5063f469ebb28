// SPDX-License-Identifier: MIT OR Apache-2.0
//! Outages that are longer than the rest of a token's life: all brokers are away, or a node's packets to them are lost without a word.

use std::time::{Duration, Instant};

use testbed::drive::jobs::{Calls, Job, calls};
use testbed::site::addresses;
use testbed::site::servers::{CA, RESOURCE_SERVER};
use testbed::site::services::broker;
use testbed::{Result, Site, wait};

use super::{TIMEOUT, wait_for_revocations, wait_for_revocations_by_any, with_brokers};

/// How long an outage lasts. An access token lives 15 s.
const AWAY: Duration = Duration::from_secs(20);

/// How long packets are lost.
const LOST: Duration = Duration::from_secs(30);

/// How long a node may need for a token after an outage: the longest pause of its attempts is 10 s, and one attempt takes at most 30 s.
const RECOVERY: Duration = Duration::from_secs(45);

/// The expiry of the access token on standard input, a JWT.
const EXPIRY: &str = r#"jq -Rr 'split(".")[1] | gsub("-";"+") | gsub("_";"/") | @base64d | fromjson.exp'"#;

/// Writes `job.sh`. Its task on each node calls the resource server until there is a file `enough`, but not while it has no token. A call
/// is refused if the file had an expired token, or the server did not accept a valid one. A token may end between reading and calling.
fn write_job(site: &Site) -> Result<()> {
    let task = format!(
        r#"#!/bin/bash
node=$SLURMD_NODENAME accepted=0 refused=0 tokens=0 last=
while [[ ! -e enough ]]; do
  before=$EPOCHSECONDS
  token=$(cat "$BEARER_TOKEN_FILE" 2>/dev/null)
  if [[ -n $token ]]; then
    [[ $token == "$last" ]] || tokens=$((tokens+1)); last=$token
    expiry=$({EXPIRY} <<<"$token")
    code=$(curl -s -o /dev/null -w %{{http_code}} --max-time 10 --cacert {CA} -H @- {RESOURCE_SERVER}/data <<<"Authorization: Bearer $token")
    if [[ $code == 200 ]]; then accepted=$((accepted+1))
    elif (( expiry <= before || expiry > EPOCHSECONDS )); then refused=$((refused+1)); fi
  fi
  sleep 0.2
done
echo "calls: $node $accepted $refused $tokens"
"#
    );
    let write = "cat >task && chmod 755 task && printf '#!/bin/sh\\nsrun ./task\\n' >job.sh";
    site.script("alice", write).stdin(task).run()?.ok().map(drop)
}

/// A job on two nodes that calls the resource server on both, and has a token there.
fn calling_job(site: &Site) -> Result<Job> {
    write_job(site)?;
    let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --nodes=2 --ntasks-per-node=1 job.sh")?;
    job.wait_for_start(site)?;
    site.nodes().iter().try_for_each(|node| job.wait_for_token(site, node))?;
    Ok(job)
}

/// Waits until the job has an access token again on `node`.
fn wait_for_recovery(site: &Site, job: &Job, node: &str) -> Result<()> {
    wait::until(&format!("a new token on {node}"), RECOVERY, || Ok(job.token(site, node)?.map(drop)))
}

/// Ends the job. Fails if a call was refused, or a node had fewer than two tokens.
fn assert_no_call_was_refused(site: &Site, job: &Job) -> Result<()> {
    // With the new token, too.
    std::thread::sleep(Duration::from_secs(2));
    site.sh("alice", "touch enough")?.ok()?;
    job.wait_for_end(site, TIMEOUT)?;
    let output = job.output(site)?;
    let calls = calls(&output);
    let is_good = |calls: &Calls| calls.refused == 0 && calls.accepted >= 10 && calls.tokens >= 2;
    assert!(calls.len() == 2 && calls.iter().all(is_good), "{output}\n{}", site.logs());
    Ok(())
}

#[test]
fn without_brokers_for_longer_than_a_token_lives_no_expired_one_is_left_and_a_new_one_comes_after() -> Result<()> {
    with_brokers(2, 2, |site| {
        let job = calling_job(site)?;
        for broker in site.brokers() {
            site.stop(&broker::name(&broker), "KILL")?;
        }
        std::thread::sleep(AWAY);
        for node in site.nodes() {
            assert_eq!(job.token(site, &node)?, None, "it has expired on {node}\n{}", site.logs());
        }
        // Nodes go on with the first broker if it is there before the other one. If they asked both, both would revoke.
        site.restart(&broker::name("b1"))?;
        site.wait_for("b1", TIMEOUT, "root", "timeout 1 bash -c '</dev/tcp/b1/7512'")?;
        site.restart(&broker::name("b2"))?;
        for node in site.nodes() {
            wait_for_recovery(site, &job, &node)?;
        }
        assert_no_call_was_refused(site, &job)?;
        wait_for_revocations(site, 1)
    })
}

#[test]
fn packets_that_are_lost_for_half_a_minute_cost_one_node_a_pause_and_no_end_is_forgotten() -> Result<()> {
    with_brokers(2, 2, |site| {
        let job = calling_job(site)?;
        let (ends, _) =
            Job::submit(site, "alice", "sbatch --mytoken -w n1 --wrap 'until test -e leave; do sleep 0.2; done'")?;
        ends.wait_for_start(site)?;
        ends.wait_for_token(site, "n1")?;

        // The brokers' hosts send nothing to n1, and no error either: what n1 sends on open or new connections stays without an answer.
        let (begin, of_n1) = (Instant::now(), addresses::node(1));
        for broker in site.brokers() {
            site.on_node(&broker, &format!("ip route add blackhole {of_n1}/32"))?.ok()?;
        }
        site.sh("alice", "touch leave")?.ok()?;
        ends.wait_for_end(site, TIMEOUT)?;
        let removed = format!("test ! -e /run/mytoken/jobs/{}", ends.id);
        wait::until("the end of the token", Duration::from_secs(10), || {
            Ok(site.on_node("n1", &removed)?.success().then_some(()))
        })?;
        while begin.elapsed() < LOST {
            assert!(job.token(site, "n2")?.is_some(), "n2 reaches the brokers\n{}", site.logs());
            std::thread::sleep(Duration::from_millis(500));
        }
        assert_eq!(job.token(site, "n1")?, None, "it has expired\n{}", site.logs());
        for broker in site.brokers() {
            site.on_node(&broker, &format!("ip route del blackhole {of_n1}/32"))?.ok()?;
        }
        wait_for_recovery(site, &job, "n1")?;
        assert_no_call_was_refused(site, &job)?;

        // n1 may have gone on with the other broker.
        wait_for_revocations_by_any(site, 2)
    })
}
