// SPDX-License-Identifier: MIT OR Apache-2.0
//! A broker that is told to end while the nodes of a job wait for their first token.

use std::process::Child;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testbed::drive::jobs::{Calls, Job, calls};
use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::site::command::finish;
use testbed::site::services::broker;
use testbed::{Result, Site, wait};

use super::{TIMEOUT, wait_for_revocations, wait_for_revocations_by_any, with_brokers};

/// The server answers after this time. A broker sends a second request 1.2 s after the first one, and a third one 2.4 s after that.
const LATENCY: &str = r#"{"name": "latency", "endpoint": "access_token", "ms": 3000}"#;

/// Starts a job on all nodes at once, and sends TERM to b1 while the server has not answered. Each node must get its token all the same,
/// before b1 is there again. Returns the job's srun.
fn end_while_nodes_wait(site: &Site) -> Result<Child> {
    people::control(site, "/mytoken/fault", Some(LATENCY))?;
    // A batch job's other nodes would begin when the first one has its token.
    let start = "srun -Q --nodes=4 --ntasks-per-node=1 --mytoken=required ./task";
    let srun = site.script("alice", start).timeout(TIMEOUT).spawn()?;
    let id =
        wait::until("the job", TIMEOUT, || Ok(site.sh("root", "squeue -h -t R -o %i")?.stdout.trim().parse().ok()))?;
    let job = Job { id, user: "alice".to_owned() };
    for node in site.nodes() {
        wait::until("the first step", TIMEOUT, || Ok((!job.events(site, &node)?.is_empty()).then_some(())))?;
    }
    std::thread::sleep(Duration::from_millis(300));
    let told = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    site.stop(&broker::name("b1"), "TERM")?;
    for node in site.nodes() {
        wait::until(&format!("the token that {node} waited for"), Duration::from_secs(5), || {
            Ok(job.token(site, &node)?.map(drop))
        })?;
    }
    let journal = Journal::read(site)?;
    let answers: Vec<f64> = journal
        .requests()
        .iter()
        .filter(|request| request.endpoint == "access_token")
        .map(|request| request.time + Duration::from_millis(request.late_ms).as_secs_f64())
        .collect();
    assert!(answers.iter().all(|time| *time > told), "the nodes did not wait any more: {answers:?}, {told}");
    // A node that has no answer after 1.2 s asks once more, and then the other broker, which has requests of its own.
    let most = 2 * site.brokers().len();
    assert!((1..=most).contains(&answers.len()), "all nodes share the requests of a broker: {journal:#?}");
    people::control(site, "/mytoken/fault", Some(r#"{"name": "clear"}"#))?;
    Ok(srun)
}

/// Fails if a call of the job was refused, or a node had fewer than three tokens.
fn assert_fresh(site: &Site, srun: Child) -> Result<()> {
    let output = finish(srun)?.ok()?.stdout;
    let calls = calls(&output);
    let fresh = |calls: &Calls| calls.refused == 0 && calls.tokens >= 3;
    assert!(calls.len() == 4 && calls.iter().all(fresh), "{output}\n{}", site.logs());
    Ok(())
}

#[test]
fn a_broker_that_is_restarted_answers_the_nodes_that_wait_before_it_ends() -> Result<()> {
    with_brokers(1, 4, |site| {
        let srun = end_while_nodes_wait(site)?;
        site.restart(&broker::name("b1"))?;
        assert_fresh(site, srun)?;
        wait_for_revocations(site, 1)
    })
}

#[test]
fn nodes_of_a_broker_that_has_ended_go_on_to_the_other_one() -> Result<()> {
    with_brokers(2, 4, |site| {
        let srun = end_while_nodes_wait(site)?;
        let short = "srun -Q --nodes=4 --mytoken=required sh -c 'test -s $BEARER_TOKEN_FILE && echo with'";
        let told = site.sh("alice", short)?.ok()?.stdout;
        assert_eq!(told, "with\n".repeat(4), "{}", site.logs());
        assert_fresh(site, srun)?;
        wait_for_revocations_by_any(site, 2)
    })
}
