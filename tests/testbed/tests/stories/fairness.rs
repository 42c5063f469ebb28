// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nobody stops the others: what a user's many jobs, or a provider that hangs, leave to the jobs and logins of other users.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::drive::jobs::Job;
use testbed::drive::journal::Journal;
use testbed::drive::{people, tokens};
use testbed::site::command::finish;
use testbed::site::servers::{AUDIENCE, MYTOKEN_SERVER};
use testbed::{Options, Result, Site, story_with_own_servers, wait};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A site of two nodes with a stored mytoken of alice.
fn with_alice(body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story_with_own_servers(Options { nodes: 2, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        site.sh("alice", "printf '#!/bin/sh\\ntrue\\n' >job.sh && chmod 755 job.sh")?.ok()?;
        body(site)
    })
}

/// A profile for a mytoken of the mytoken server's own provider (MT-54).
const OTHER_PROFILE: &str =
    "[[profile]]\nname = \"other\"\nserver = \"testbed\"\nscope = \"openid\"\naudience = \"https://testbed\"\n";

/// How long the provider hangs: longer than the agent waits for an answer.
const HANG_MS: u64 = 40_000;

/// How much longer than usual it may take: less than a step waits for the agent's answer (2 s), so that no step has waited for it.
const MORE: Duration = Duration::from_millis(1_500);

/// So often each time is measured. The middle one counts: a busy machine delays one of them, a provider that hangs all.
const MEASUREMENTS: usize = 3;

/// The times of a job of bob at the other provider, and of a step of his job that has a token of the provider that hangs.
fn times_of_bob(site: &Site, own: &Job) -> Result<[Duration; 2]> {
    let has_token = "sh -c 'test -s $BEARER_TOKEN_FILE'";
    let at_other = format!("srun --mytoken=required:other -w n1 -n1 {has_token}");
    let with_token = format!("srun --overlap --jobid {} --mytoken=required -w n1 -N1 -n1 {has_token}", own.id);
    Ok([median_time(site, &at_other)?, median_time(site, &with_token)?])
}

/// How long a command of bob takes.
fn median_time(site: &Site, command: &str) -> Result<Duration> {
    let mut times = [Duration::ZERO; MEASUREMENTS];
    for time in &mut times {
        let begin = Instant::now();
        site.sh("bob", command)?.ok()?;
        *time = begin.elapsed();
    }
    times.sort_unstable();
    Ok(times.into_iter().nth(MEASUREMENTS / 2).unwrap_or_default())
}

#[test]
fn a_provider_that_hangs_for_six_jobs_of_a_user_delays_no_other_user() -> Result<()> {
    with_alice(|site| {
        people::first_mytoken(site, "bob")?;
        let (own, _) = Job::submit(site, "bob", "sbatch --mytoken -w n1 --wrap 'sleep 600'")?;
        own.wait_for_start(site)?;
        own.wait_for_token(site, "n1")?;
        site.write("/etc/mytoken/jobs.d/other.toml", OTHER_PROFILE, "0644")?;
        let guests = format!("{MYTOKEN_SERVER}/api/v0/guests");
        let clause = json!({"scope": "openid", "audience": [AUDIENCE]});
        let of_guest = tokens::mytoken(site, "bob", &json!({"issuer": guests, "restrictions": [clause]}))?;
        tokens::store(site, "bob", &of_guest)?;
        let usual = times_of_bob(site, &own)?;

        let fault = json!({"name": "latency", "endpoint": "token", "argument": HANG_MS});
        people::control(site, "/provider/fault", Some(&fault.to_string()))?;
        let submit = |_| Ok(Job::submit(site, "alice", "sbatch --mytoken -w n1 --wrap 'sleep 600'")?.0);
        let hanging = (0..6).map(submit).collect::<Result<Vec<Job>>>()?;
        for job in &hanging {
            job.wait_for_start(site)?;
            let begun = format!("test -d /run/mytoken/jobs/{}", job.id);
            wait::until("the job at the agent", TIMEOUT, || Ok(site.on_node("n1", &begun)?.success().then_some(())))?;
        }
        let during = times_of_bob(site, &own)?;
        for (usual, during) in usual.into_iter().zip(during) {
            assert!(during < usual + MORE, "{usual:?} before, {during:?} during the hang");
        }
        for job in &hanging {
            assert_eq!(job.token(site, "n1")?, None, "the provider hangs");
        }
        Ok(())
    })
}

#[test]
fn a_loop_leaves_requests_for_logins_and_jobs_of_others() -> Result<()> {
    with_alice(|site| {
        people::first_mytoken(site, "bob")?;
        Journal::clear(site)?;
        // Without sharing, this is more than the mytoken server's limit of 100 requests in 300 s.
        let submissions =
            "for i in $(seq 150); do sbatch --hold --mytoken --output=/dev/null job.sh || exit 1; done >sent 2>told";
        let alice = site.script("alice", submissions).timeout(Duration::from_secs(240)).spawn()?;
        site.wait_for("the end of her share", Duration::from_secs(120), "alice", "grep -q 'used up for you' told")?;

        let login = site.sh("bob", "mytoken-ssh ssh testbed id -un")?.ok()?;
        assert_eq!(login.stdout, "bob\n");
        let script = "test -s $BEARER_TOKEN_FILE && echo has one";
        let (job, told) = Job::submit(site, "bob", &format!("sbatch --mytoken=required --wrap '{script}'"))?;
        assert_eq!(told.stderr, "");
        job.wait_for_end(site, Duration::from_secs(60))?;
        assert_eq!(job.output(site)?, "has one\n");

        finish(alice)?.ok()?;
        let told = site.sh("alice", "wc -l <sent; cat told")?.ok()?.stdout;
        let (count, told) = told.split_once('\n').unwrap();
        assert_eq!(count, "150", "every job was submitted: {told}");
        let reason = "the site's budget of requests to the mytoken server \"testbed\" is used up for you until ";
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines.len() > 50 && lines.iter().all(|line| line.contains(reason)), "{told}");
        let required = site.sh("alice", "sbatch --hold --mytoken=required job.sh")?;
        assert!(required.code == 1 && required.stderr.contains(reason), "{required:?}");

        let journal = Journal::read(site)?;
        let statuses: Vec<Option<u16>> = journal.requests().iter().map(|request| request.status).collect();
        assert!(!statuses.contains(&Some(429)), "{statuses:?}");
        let shown = site.sh("root", "mytokenctl status")?.stdout;
        let line = shown.lines().next().unwrap_or_default();
        assert!(line.starts_with("REQUESTS to https://mytoken.testbed:8443: "), "{shown}");
        assert!(
            line.ends_with(" left of 100 in 300 s") && shown.contains("(alice ") && shown.contains(", bob "),
            "{shown}"
        );
        let shown = site.sh("alice", "mytokenctl status")?.stdout;
        assert!(shown.contains("you can send 0 more submissions now") && !shown.contains("bob"), "{shown}");
        Ok(())
    })
}
