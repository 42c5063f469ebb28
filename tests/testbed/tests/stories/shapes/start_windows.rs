// SPDX-License-Identifier: MIT OR Apache-2.0
//! A job whose profile has windows that count from the job's start: on its first node, on one whose first step comes later, and after a
//! requeue.

use std::time::Duration;

use serde_json::json;
use testbed::drive::jobs::Job;
use testbed::drive::tokens;
use testbed::{Options, Result, Site, story_with_own_servers, wait};

/// End of the first window, and begin of the second one, in seconds after the start.
const FIRST: i64 = 20;
const SECOND: i64 = 50;

const PROFILE: &str = r#"
mkdir -p /etc/mytoken/jobs.d && cat >/etc/mytoken/jobs.d/staged.toml <<END
[[profile]]
name = "staged"
server = "testbed"
scope = "storage.read"
audience = "https://testbed"
start_windows = [{ until = "20s" }, { from = "50s", until = "10m" }]
END
"#;

/// Writes for each half second of each run, and for a step on the other node in the gap, whether there is a token.
const JOB: &str = r#"#!/bin/bash
look() { test -s "$BEARER_TOKEN_FILE" && echo "$(date +%s) yes" || echo "$(date +%s) no"; }
run=${SLURM_RESTART_COUNT:-0}
squeue -h -j $SLURM_JOB_ID -o %S >run.$run.start
( while sleep 0.5; do look; done ) >run.$run &
sleep 25
srun -N1 -n1 -r1 bash -c 'test -s "$BEARER_TOKEN_FILE" && echo yes || echo no' >run.$run.late
for try in $(seq 1200); do test -e go && break; sleep 0.1; done
"#;

/// Seconds after the start of a run, and whether there was a token.
fn seen(site: &Site, run: u32) -> Result<Vec<(i64, bool)>> {
    let start = site.sh("alice", &format!("date -d \"$(cat run.{run}.start)\" +%s"))?.ok()?.stdout;
    let start: i64 = start.trim().parse().unwrap_or_default();
    let lines = site.sh("alice", &format!("cat run.{run}"))?.ok()?.stdout;
    let line = |line: &str| {
        let (time, token) = line.split_once(' ')?;
        Some((time.parse::<i64>().ok()? - start, token == "yes"))
    };
    Ok(lines.lines().filter_map(line).collect())
}

/// A run has a token in both windows, and none in between. An agent needs some seconds for a new one.
fn check_run(site: &Site, run: u32) -> Result<()> {
    wait::until("a token in the second window", Duration::from_secs(120), || {
        let seen = seen(site, run)?;
        Ok(seen.iter().any(|(time, token)| *time >= SECOND && *token).then_some(()))
    })?;
    let seen = seen(site, run)?;
    assert!(seen.iter().any(|(time, token)| *time < FIRST && *token), "run {run}: none in the first window: {seen:?}");
    // slurmctld's start is a whole second.
    let wrong = seen.iter().find(|(time, token)| (FIRST + 2..SECOND).contains(time) && *token);
    assert_eq!(wrong, None, "run {run}: {seen:?}");
    assert!(seen.iter().any(|(time, _)| (FIRST + 2..SECOND).contains(time)), "run {run}: {seen:?}");
    let late = site.sh("alice", &format!("cat run.{run}.late"))?.ok()?.stdout;
    assert_eq!(late, "no\n", "the other node counts from the job's start, too");
    Ok(())
}

#[test]
fn windows_count_from_the_start_of_each_run_on_each_node() -> Result<()> {
    story_with_own_servers(Options { nodes: 2, ..Options::new()? }, |site| {
        tokens::store(site, "alice", &tokens::mytoken(site, "alice", &json!({}))?)?;
        site.sh("root", PROFILE)?.ok()?;
        let shown = site.sh("alice", "mytokenctl profile show staged")?.ok()?.stdout;
        assert!(shown.contains("from 0s to 20s and from 50s to 10m after the start of a job"), "{shown}");
        site.script("alice", "cat >staged.sh").stdin(JOB).run()?.ok()?;
        let (job, _) = Job::submit(site, "alice", "sbatch -N2 -w n1,n2 --requeue --mytoken=staged staged.sh")?;
        let why = "the start_windows of its profile give this job access tokens from 2";
        let told = wait::until("the reason in the status", Duration::from_secs(90), || {
            let asked = site.script("alice", &format!("mytokenctl status {}; echo $?", job.id)).on("n1").run()?;
            Ok(asked.stdout.contains(why).then_some(asked.stdout))
        })?;
        assert!(told.contains("the credential gives the next from ") && told.ends_with("\n3\n"), "{told}");
        check_run(site, 0)?;
        site.sh("root", &format!("scontrol requeue {}", job.id))?.ok()?;
        let waits = format!("squeue -h -j {} -t PD -o %i | grep -q .", job.id);
        site.wait_for("the job in the queue", Duration::from_secs(60), "root", &waits)?;
        // Slurm would wait two minutes.
        site.sh("root", &format!("sleep 2; scontrol update jobid={} starttime=now", job.id))?.ok()?;
        site.wait_for("the second run", Duration::from_secs(60), "alice", "test -s run.1.start")?;
        check_run(site, 1)?;
        site.sh("alice", "touch go")?.ok()?;
        job.wait_for_end(site, Duration::from_secs(60))?;
        let output = job.output(site)?;
        assert!(output.contains(&format!("mytoken: no access token yet: {why}")), "the step in the gap: {output}");
        job.wait_until_settled(site, &job.nodes(site)?).map(drop)
    })
}
