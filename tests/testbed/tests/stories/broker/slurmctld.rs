// SPDX-License-Identifier: MIT OR Apache-2.0
//! slurmctld is away for a minute while nodes ask a broker for the tokens of their jobs; with `TESTBED_LONG=1` for ten minutes.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::drive::jobs::{Job, calling_script_while, calls};
use testbed::drive::journal::{Journal, SubToken};
use testbed::drive::people;
use testbed::site::services::agent;
use testbed::{Error, Options, Result, Site, story_with_own_servers, wait};

/// How long the story waits for what a job, an agent or a broker does.
const TIMEOUT: Duration = Duration::from_secs(90);

/// What root sees of the broker.
const STATUS: &str = "mytokenctl broker status --runtime-dir /run/mytoken-broker.b1";

/// Writes `job.sh`. Its task on each node waits for its token, and then calls the resource server until there is a file `enough`.
fn write_job(site: &Site) -> Result<()> {
    let task = format!(
        "#!/bin/bash\nuntil [[ -s $BEARER_TOKEN_FILE ]]; do sleep 0.1; done\n{}",
        calling_script_while("[[ ! -e enough ]]")
    );
    let write = "cat >task && chmod 755 task && printf '#!/bin/sh\\nsrun ./task\\n' >job.sh";
    site.script("alice", write).stdin(task).run()?.ok().map(drop)
}

/// The sub-tokens of the story's three jobs, in the order of their submissions.
fn sub_tokens(site: &Site) -> Result<[SubToken; 3]> {
    let made = Journal::read(site)?.each_sub_token();
    made.try_into().map_err(|made: Vec<SubToken>| Error::Refused(format!("these are not three sub-tokens: {made:?}")))
}

#[test]
fn slurmctld_that_is_away_costs_no_running_job_its_token_and_delays_starts_and_ends() -> Result<()> {
    let away = Duration::from_secs(if Options::is_long() { 600 } else { 60 });
    // A token is renewed at half of its life: about eight times meanwhile.
    let lifetime = away.as_secs() / 4;
    story_with_own_servers(Options { brokers: 1, nodes: 2, ..Options::new()? }, |site| {
        people::control(site, "/provider/lifetime", Some(&json!({"seconds": lifetime}).to_string()))?;
        people::first_mytoken(site, "alice")?;
        write_job(site)?;
        Journal::clear(site)?;
        // The jobs begin while n2, which is enrolled, has no agent: nobody asks the broker for their tokens there.
        site.wait_for("the enrolment of n2", TIMEOUT, "root", "test -e /var/lib/mytoken.n2/node.pem")?;
        site.stop(&agent::name("n2"), "KILL")?;
        let submit = |options: &str| -> Result<Job> {
            let (job, _) = Job::submit(site, "alice", &format!("sbatch --mytoken --time=60 {options}"))?;
            job.wait_for_start(site)?;
            Ok(job)
        };
        let known = submit("--nodes=2 --ntasks-per-node=1 job.sh")?;
        known.wait_for_token(site, "n1")?;
        let ends = submit("-w n1 --wrap 'until test -e leave; do sleep 0.2; done; touch left'")?;
        ends.wait_for_token(site, "n1")?;
        let unknown = submit("-w n2 --wrap 'until test -e enough; do sleep 0.2; done'")?;
        let records = format!("cd /run/mytoken/missed && ls {}.json {}.json", known.id, unknown.id);
        wait::until("the records of n2", TIMEOUT, || Ok(site.on_node("n2", &records)?.success().then_some(())))?;

        // By TERM it saves its jobs.
        site.stop("slurmctld", "TERM")?;
        let begin = Instant::now();
        let before = sub_tokens(site)?;
        site.restart(&agent::name("n2"))?;
        // slurmctld's last answer shows this job on both nodes.
        known.wait_for_token(site, "n2")?;
        site.sh("alice", "touch leave")?.ok()?;
        site.wait_for("the end of a job's script", TIMEOUT, "alice", "test -e left")?;
        wait::until("the reason why there is no token", TIMEOUT, || {
            let told = unknown.events(site, "n2")?;
            Ok(told.iter().any(|event| event.what == "retry" && event.text.contains("slurmctld")).then_some(()))
        })?;
        wait::until("what root sees of slurmctld", TIMEOUT, || {
            let status = site.on_node("b1", STATUS)?.ok()?.stdout;
            Ok(status.contains(" s ago, without an answer: ").then_some(()))
        })?;
        std::thread::sleep(away.saturating_sub(begin.elapsed()));
        let after = sub_tokens(site)?;
        let renewals = after[0].access_tokens - before[0].access_tokens;
        assert!(renewals >= 4, "{renewals} renewals in {away:?}\n{}", site.logs());
        assert_eq!(after.each_ref().map(|token| token.revocations), [0; 3], "nothing is known of an end");
        assert_eq!((unknown.token(site, "n2")?, after[2].access_tokens), (None, 0), "the broker does not know the job");

        site.restart("slurmctld")?;
        unknown.wait_for_token(site, "n2")?;
        wait::until("the revocation", TIMEOUT, || Ok((sub_tokens(site)?[1].revocations > 0).then_some(())))?;
        let revocations = sub_tokens(site)?.map(|token| token.revocations);
        assert_eq!(revocations, [0, 1, 0], "only one job has ended");
        site.sh("alice", "touch enough")?.ok()?;
        known.wait_for_end(site, TIMEOUT)?;
        let output = known.output(site)?;
        let calls = calls(&output);
        assert!(
            calls.len() == 2 && calls.iter().all(|calls| calls.refused == 0 && calls.tokens >= 3),
            "{output}\n{}",
            site.logs()
        );
        Ok(())
    })
}
