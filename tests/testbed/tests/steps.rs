// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps that join a job from elsewhere, and steps while the node's agent does not answer.

use std::time::Duration;

use testbed::drive::jobs::Job;
use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::site::command::CommandOutcome;
use testbed::{Options, Result, Site, story_with_own_servers};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Prints the name of the token's file and the first bytes of the token.
const SHOW: &str = "sh -c 'echo $BEARER_TOKEN_FILE; head -c 3 $BEARER_TOKEN_FILE </dev/null'";

/// A site of two nodes, with a job of alice that has both and whose only step runs on the first.
fn with_job(body: impl FnOnce(&Site, &Job) -> Result<()>) -> Result<()> {
    story_with_own_servers(Options { nodes: 2, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        Journal::clear(site)?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken -N2 --wrap 'srun -N1 -n1 -w n1 sleep 600'")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        body(site, &job)
    })
}

/// Runs a step of `job` on `node` from a login session that is not the job's.
fn join(site: &Site, job: &Job, node: &str, options: &str) -> Result<CommandOutcome> {
    site.sh("alice", &format!("srun --overlap --jobid {} -N1 -n1 -w {node} {options} {SHOW}", job.id))
}

fn shows_token_of(outcome: &CommandOutcome, job: &Job) -> bool {
    outcome.success() && outcome.stdout == format!("/run/mytoken/jobs/{}/bt_u2001\neyJ", job.id)
}

#[test]
fn a_step_from_another_session_has_the_jobs_token_and_makes_no_second_sub_token() -> Result<()> {
    with_job(|site, job| {
        for options in ["", "--mytoken", "--mytoken=required", "--jobi=1 --mytoken"] {
            let seen = join(site, job, "n1", options)?;
            assert!(shows_token_of(&seen, job), "{options}: {seen:?}");
            assert_eq!(seen.stderr, "", "{options}");
        }
        let other = join(site, job, "n1", "--mytoken=other")?;
        let line = "srun: error: mytoken: a job has one profile, that of its submission; \"--mytoken=other\" on a step does not change it\n";
        assert!(shows_token_of(&other, job) && other.stderr == line, "{other:?}");
        // What follows the program's name belongs to the program.
        let own = site.sh("alice", "srun --mytoken -n1 sh -c 'echo $1 $BEARER_TOKEN_FILE' sh --jobid=1")?;
        assert!(own.stdout.starts_with("--jobid=1 /run/mytoken/jobs/") && own.stderr.is_empty(), "{own:?}");
        assert_eq!(Journal::read(site)?.sub_tokens(), 2, "one of the job and one of srun's own allocation");
        Ok(())
    })
}

#[test]
fn a_step_on_a_node_without_the_jobs_credential_says_so_when_it_wants_a_token() -> Result<()> {
    with_job(|site, job| {
        let silent = join(site, job, "n2", "")?;
        assert_eq!((silent.code, silent.stdout.as_str(), silent.stderr.as_str()), (0, "\n", ""));
        let sentence = "no step from inside the job has brought its credential to this node";
        let wants = join(site, job, "n2", "--mytoken")?;
        assert!(wants.success() && wants.stderr.contains(sentence), "{wants:?}");
        let requires = join(site, job, "n2", "--mytoken=required")?;
        assert!(!requires.success() && requires.stdout.is_empty(), "{requires:?}");
        assert!(
            requires.stderr.contains("does not start without it") && requires.stderr.contains(sentence),
            "{requires:?}"
        );
        assert_eq!(Journal::read(site)?.sub_tokens(), 1);
        Ok(())
    })
}

#[test]
fn interactive_steps_and_attached_terminals_have_the_jobs_token() -> Result<()> {
    with_job(|site, job| {
        let interactive =
            site.sh("alice", &format!("salloc -Q --mytoken -N1 srun --interactive --preserve-env {SHOW}"))?;
        assert!(interactive.stdout.ends_with("/bt_u2001\neyJ"), "{interactive:?}");
        // sattach shows a running step. It starts no process and loads no plugin.
        site.sh("alice", "srun --jobid 1 --overlap -N1 -n1 -w n1 sh -c 'while sleep 0.2; do echo $BEARER_TOKEN_FILE; done' >/dev/null 2>&1 &")?;
        let attach = format!(
            "for i in $(seq 50); do timeout 1 sattach {}.1 2>/dev/null | grep -m1 bt_u2001 && break; done",
            job.id
        );
        let attached = site.sh("alice", &attach)?;
        assert!(attached.stdout.ends_with("bt_u2001\n"), "{attached:?}");
        job.wait_for_token(site, "n1")?;
        site.sh("alice", &format!("scancel {}", job.id))?.ok()?;
        job.wait_for_end(site, TIMEOUT)
    })
}
