// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two builds of the product on one cluster with two brokers, in the middle of an upgrade: the present one, and that of an earlier commit
//! which has brokers, and does not know the new credentials of jobs that wait. `make earlier` builds it.

use std::time::Duration;

use serde_json::json;
use testbed::drive::jobs::{Calls, Job, calling_script, calling_script_while, calls};
use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::site::command::finish;
use testbed::site::earlier::{self, EARLIER_PROGRAM, Earlier, PRESENT};
use testbed::site::plan::{EARLIER_INSIDE, STATE_DIR};
use testbed::site::services::agent::{self, PROGRAM};
use testbed::site::services::broker;
use testbed::{Options, Result, Site, skip, story_with_own_servers, wait};

use crate::broker::escrow;
use crate::broker::request::ask;

/// How long a story waits for a job, an agent or a broker.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Begin of the script of a task. A busy agent may bring the token a moment after the task has begun.
const WITH_TOKEN: &str = "#!/bin/bash\nuntil [[ -s $BEARER_TOKEN_FILE ]]; do sleep 0.1; done\n";

/// A job with a task on each of the two nodes. The name of its script follows.
const ON_BOTH_NODES: &str = "sbatch --mytoken --nodes=2 --ntasks-per-node=1";

/// Requests of the present build that the earlier brokers do not know.
const NEW_REQUESTS: [&str; 3] = ["/v1/replace", "/v1/replaced", "/v1/forget"];

/// A site in which these hosts have the earlier build, and the others the present one. Access tokens live 15 s.
fn with_earlier(hosts: Earlier, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    if earlier::programs().is_none() {
        return skip("there are no programs of an earlier commit; run `make earlier` in a clone with its history");
    }
    story_with_own_servers(Options { brokers: 2, nodes: 2, earlier: Some(hosts), ..Options::new()? }, |site| {
        let (of_agents, of_brokers) = match hosts {
            Earlier::Nodes => (EARLIER_PROGRAM, PROGRAM),
            Earlier::Brokers => (PROGRAM, EARLIER_PROGRAM),
        };
        for node in site.nodes() {
            wait_for_program(site, &agent::name(&node), of_agents)?;
        }
        for broker in site.brokers() {
            wait_for_program(site, &broker::name(&broker), of_brokers)?;
        }
        people::control(site, "/provider/lifetime", Some("{\"seconds\": 15}"))?;
        people::first_mytoken(site, "alice")?;
        for (name, script) in [
            ("task", format!("{WITH_TOKEN}{}", calling_script(30))),
            ("job.sh", "#!/bin/sh\nsrun ./task\n".to_owned()),
            ("long-task", format!("{WITH_TOKEN}{}", calling_script_while("[[ ! -e enough ]]"))),
            ("long-job.sh", "#!/bin/sh\nsrun ./long-task\n".to_owned()),
        ] {
            write_script(site, name, &script)?;
        }
        Journal::clear(site)?;
        body(site)
    })
}

fn write_script(site: &Site, name: &str, script: &str) -> Result<()> {
    site.script("alice", &format!("cat >{name} && chmod 755 {name}")).stdin(script).run()?.ok().map(drop)
}

/// Waits until a daemon that was started is this program.
fn wait_for_program(site: &Site, daemon: &str, program: &str) -> Result<()> {
    let is_it = format!("cmp -s /proc/$(cat {STATE_DIR}/pid/{daemon})/exe {program}");
    site.wait_for(&format!("the program of {daemon}"), TIMEOUT, "root", &is_it).map(drop)
}

/// Starts a daemon, which has been stopped, with the program of the present build.
fn start_present(site: &Site, daemon: &str) -> Result<()> {
    site.use_program(daemon, PROGRAM)?;
    site.restart(daemon)?;
    wait_for_program(site, daemon, PROGRAM)
}

/// Fails if there are not so many tasks in the output of jobs, or if a call of one was refused, or if one had fewer than `tokens` tokens.
fn assert_fresh(site: &Site, output: &str, tasks: usize, tokens: u32) {
    let calls = calls(output);
    let fresh = |calls: &Calls| calls.accepted > 0 && calls.refused == 0 && calls.tokens >= tokens;
    assert!(calls.len() == tasks && calls.iter().all(fresh), "{output}\n{}", site.logs());
}

/// Waits until so many sub-tokens are revoked, and fails if one was revoked twice, or if files of a job are left.
fn each_is_revoked_once(site: &Site, number: usize) -> Result<()> {
    wait::until("the revocations", TIMEOUT, || {
        let made = Journal::read(site)?.each_sub_token();
        Ok((made.len() >= number && made.iter().all(|token| token.revocations > 0)).then_some(()))
    })?;
    // A broker that starts anew revokes again what a node has not been told yet. `mytokenctl status` of either build asks.
    let is_told = "mytokenctl status --all --json | tee /dev/stderr | jq -e 'all(.jobs[]; .state == \"revoked\")'";
    for node in site.nodes() {
        let what = format!("the end of all jobs for the agent of {node}");
        wait::until(&what, TIMEOUT, || Ok(site.on_node(&node, is_told)?.success().then_some(())))?;
        assert_eq!(site.on_node(&node, "ls /run/mytoken/jobs")?.ok()?.stdout, "", "{node}");
    }
    let journal = Journal::read(site)?;
    let made = journal.each_sub_token();
    assert!(made.len() == number && made.iter().all(|token| token.revocations == 1), "{made:#?}\n{}", site.logs());
    assert_eq!(journal.requests_to("revocation"), number);
    Ok(())
}

/// A batch job on both nodes, an array of three and an srun, side by side. Each task calls a service for two lives of a token.
fn play_each_kind_of_job(site: &Site) -> Result<()> {
    let srun = site.script("alice", "srun --mytoken ./task").timeout(TIMEOUT).spawn()?;
    let (batch, _) = Job::submit(site, "alice", &format!("{ON_BOTH_NODES} job.sh"))?;
    let (array, _) = Job::submit(site, "alice", "sbatch --mytoken --array=1-3 task")?;
    batch.wait_for_end(site, TIMEOUT)?;
    array.wait_for_end(site, TIMEOUT)?;
    let mut output = site.sh("alice", &format!("cat slurm-{}_*.out", array.id))?.ok()?.stdout;
    output += &batch.output(site)?;
    output += &finish(srun)?.ok()?.stdout;
    assert_fresh(site, &output, 6, 2);
    each_is_revoked_once(site, 3)
}

/// Two jobs on both nodes that run until [`end_long_jobs`]: one carries its credential, and the brokers keep that of the other one.
fn begin_long_jobs(site: &Site) -> Result<[Job; 2]> {
    let begin = || -> Result<Job> {
        let (job, _) = Job::submit(site, "alice", &format!("{ON_BOTH_NODES} long-job.sh"))?;
        job.wait_for_start(site)?;
        site.nodes().iter().try_for_each(|node| job.wait_for_token(site, node))?;
        Ok(job)
    };
    let carries = begin()?;
    escrow::switch_on(site)?;
    site.wait_for("the agent", TIMEOUT, "root", "! mytokenctl status 2>&1 | grep 'did not answer'")?;
    let is_kept = begin()?;
    for broker in site.brokers() {
        assert_eq!(escrow::kept(site, &broker)?.len(), 1, "{broker}");
    }
    Ok([carries, is_kept])
}

/// Waits until both nodes have newer tokens of the jobs.
fn wait_for_renewals(site: &Site, jobs: &[Job]) -> Result<()> {
    let read = || -> Result<Vec<Option<String>>> {
        let mut tokens = Vec::new();
        for job in jobs {
            for node in site.nodes() {
                tokens.push(job.token(site, &node)?);
            }
        }
        Ok(tokens)
    };
    let before = read()?;
    wait::until("newer tokens", TIMEOUT, || {
        let now = read()?;
        Ok(now.iter().zip(&before).all(|(now, before)| now.is_some() && now != before).then_some(()))
    })
}

/// Ends the jobs. Each of their calls was accepted, and their tokens were renewed at least twice.
fn end_long_jobs(site: &Site, jobs: &[Job]) -> Result<()> {
    // A task calls once in a second: each is to have called with its last token, too.
    site.sh("alice", "sleep 3; touch enough")?.ok()?;
    for job in jobs {
        job.wait_for_end(site, TIMEOUT)?;
        assert_fresh(site, &job.output(site)?, 2, 3);
    }
    Ok(())
}

/// A short job that must have a token.
fn play_short_job(site: &Site) -> Result<()> {
    let job =
        site.sh("alice", "srun -Q --mytoken=required sh -c 'test -s \"$BEARER_TOKEN_FILE\" && echo with'")?.ok()?;
    assert_eq!(job.stdout, "with\n", "{job:?}");
    Ok(())
}

#[test]
fn new_brokers_serve_an_older_cluster_whose_agents_are_then_replaced_one_after_the_other() -> Result<()> {
    with_earlier(Earlier::Nodes, |site| {
        play_each_kind_of_job(site)?;
        let jobs = begin_long_jobs(site)?;
        for node in site.nodes() {
            let daemon = agent::name(&node);
            site.stop(&daemon, "TERM")?;
            start_present(site, &daemon)?;
            wait_for_renewals(site, &jobs)?;
        }
        end_long_jobs(site, &jobs)?;
        each_is_revoked_once(site, 5)?;
        // The submit host is the last one.
        site.stop("agent", "TERM")?;
        earlier::install(site, PRESENT)?;
        start_present(site, "agent")?;
        play_short_job(site)?;
        each_is_revoked_once(site, 6)
    })
}

/// The user is told that the brokers cannot replace the credential of a job that waits, and the job starts with the one that it has.
fn play_refused_replacement(site: &Site) -> Result<()> {
    let script = "until test -s $BEARER_TOKEN_FILE; do sleep 0.2; done; echo has a token";
    let (job, _) = Job::submit(site, "alice", &format!("sbatch --hold --mytoken --wrap '{script}'"))?;
    let told = site.sh("alice", &format!("mytokenctl replace {}", job.id))?;
    assert!(told.code == 1 && told.stdout.is_empty() && told.stderr.lines().count() == 1, "{told:?}");
    assert!(told.stderr.starts_with(&format!("mytokenctl: job {}: not replaced: the broker b", job.id)), "{told:?}");
    for broker in site.brokers() {
        let reason = format!(
            "the broker {broker}:7512 is of an older release, which cannot replace the credential of a job that waits"
        );
        assert!(told.stderr.contains(&reason), "{told:?}");
    }
    site.sh("root", &format!("scontrol release {}", job.id))?.ok()?;
    job.wait_for_end(site, TIMEOUT)?;
    assert_eq!(job.output(site)?, "has a token\n");
    // The credential of the submission, and the new one, which mytokenctl has revoked.
    each_is_revoked_once(site, 5)?;
    let made = Journal::read(site)?.each_sub_token();
    let used: Vec<bool> = made.iter().skip(3).map(|token| token.access_tokens > 0).collect();
    assert_eq!(used, [true, false], "{made:#?}");
    Ok(())
}

#[test]
fn new_nodes_are_served_by_older_brokers_which_are_then_replaced_one_after_the_other() -> Result<()> {
    with_earlier(Earlier::Brokers, |site| {
        play_each_kind_of_job(site)?;
        for path in NEW_REQUESTS {
            let (status, body) = ask(site, "n1", Some("/var/lib/mytoken.n1"), path, &json!({}))?;
            let is_unknown = body.contains("this broker does not know the request; it may be of an older version");
            assert!(status == "404" && is_unknown, "{path}: {status} {body}");
        }
        play_refused_replacement(site)?;
        let jobs = begin_long_jobs(site)?;
        for broker in site.brokers() {
            let daemon = broker::name(&broker);
            site.stop(&daemon, "TERM")?;
            // Now both nodes ask the other broker. If each asked its own one, both brokers would revoke in the end.
            wait_for_renewals(site, &jobs)?;
            start_present(site, &daemon)?;
            broker::wait(site)?;
        }
        end_long_jobs(site, &jobs)?;
        each_is_revoked_once(site, 7)?;
        play_short_job(site)?;
        each_is_revoked_once(site, 8)
    })
}

#[test]
fn the_plugin_is_replaced_while_a_job_runs() -> Result<()> {
    with_earlier(Earlier::Nodes, |site| {
        let is_same = format!("cmp {EARLIER_INSIDE}/libspank_mytoken.so {PRESENT}/libspank_mytoken.so");
        assert_eq!(site.sh("root", &is_same)?.code, 1, "the plugins of two builds differ");
        write_script(site, "look", &format!("{WITH_TOKEN}{}", calling_script(2)))?;
        write_script(site, "one-step.sh", "#!/bin/sh\nsrun ./look\n")?;
        let steps = "#!/bin/sh\nsrun ./look\ntouch looked\nuntil test -e replaced; do sleep 0.2; done\nsrun ./look\n";
        write_script(site, "two-steps.sh", steps)?;

        let (first, _) = Job::submit(site, "alice", &format!("{ON_BOTH_NODES} two-steps.sh"))?;
        site.wait_for("the first step", TIMEOUT, "alice", "test -e looked")?;
        earlier::install(site, PRESENT)?;
        let (second, _) = Job::submit(site, "alice", &format!("{ON_BOTH_NODES} one-step.sh"))?;
        second.wait_for_end(site, TIMEOUT)?;
        assert_fresh(site, &second.output(site)?, 2, 1);
        site.sh("alice", "touch replaced")?.ok()?;
        first.wait_for_end(site, TIMEOUT)?;
        assert_fresh(site, &first.output(site)?, 4, 1);
        each_is_revoked_once(site, 2)
    })
}
