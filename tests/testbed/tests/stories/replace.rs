// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl replace` for a job whose first node has never seen its credential.

use std::time::{Duration, Instant};

use testbed::drive::jobs::Job;
use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::{Options, Result, story_with_own_servers, wait};

const TIMEOUT: Duration = Duration::from_secs(60);

#[test]
fn a_job_whose_steps_run_on_the_second_node_gets_a_new_credential() -> Result<()> {
    story_with_own_servers(Options { nodes: 2, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        Journal::clear(site)?;
        site.sh("alice", "salloc --mytoken -N2 srun -N1 -n1 -w n2 sleep 600 >out 2>&1 &")?.ok()?;
        let id = wait::until("the job", TIMEOUT, || {
            Ok(site.sh("root", "squeue -h -t R -o %i")?.stdout.trim().parse().ok())
        })?;
        let job = Job { id, user: "alice".to_owned() };
        job.wait_for_token(site, "n2")?;
        assert_eq!(job.token(site, "n1")?, None);
        let before = job.token(site, "n2")?;
        let told = site.sh("alice", &format!("mytokenctl replace {id}"))?;
        let line =
            format!("job {id}: has a new credential; the old one stays for nodes on which no step of it has run\n");
        assert_eq!((told.stdout.as_str(), told.code), (line.as_str(), 0), "{told:?}");
        assert_ne!(job.token(site, "n2")?, before);
        site.run("alice", ["scancel", &id.to_string()])?.ok().map(drop)
    })
}

/// An owner must not wait for an agent that does not answer as long as for a mytoken server that is slow.
#[test]
fn a_stopped_agent_is_told_soon_and_keeps_the_jobs_credential() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken -w n1 --wrap 'sleep 600'")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        let signal =
            |signal: &str| site.on_node("n1", &format!("kill -{signal} $(pgrep -f 'agent [-]-node n1')"))?.ok();
        let replace = format!("mytokenctl replace {}", job.id);
        signal("STOP")?;
        let began = Instant::now();
        let told = site.script("alice", &replace).timeout(Duration::from_secs(150)).run()?;
        let took = began.elapsed();
        signal("CONT")?;
        assert!(told.code == 1 && took < Duration::from_secs(45), "{took:?} {told:?}");
        assert!(told.stderr.contains("not replaced: ") && told.stderr.contains("agent"), "{told:?}");
        assert!(job.token(site, "n1")?.is_some());
        site.on_node("n1", "mytokenctl status --all")?.ok()?;
        let replaced = site.sh("alice", &replace)?.ok()?;
        assert!(replaced.stdout.contains("has a new credential; the old one was revoked"), "{replaced:?}");
        site.run("alice", ["scancel", &job.id.to_string()])?.ok().map(drop)
    })
}
