// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two brokers know nothing of each other: each has a budget of its own for the site, and keeps it over a restart.

use std::time::Duration;

use testbed::drive::jobs::Job;
use testbed::site::services::broker;
use testbed::{Options, Result, Site, story_with_own_servers, wait};

use super::permits::{give_mytoken, submissions_of};

/// How long the story waits for what a job, an agent or a broker does.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Submits until the site's budget has nothing left for the user, and prints how often there was a permit.
const LOOP: &str = "for sent in $(seq 0 60); do \
    sbatch --hold --mytoken --output=/dev/null --wrap true 2>&1 | grep -q 'used up for you' && echo $sent && exit; \
    done; exit 1";

/// How many submissions of alice this broker has counted.
fn counted(site: &Site, name: &str) -> Result<usize> {
    let status = format!("mytokenctl broker status --runtime-dir /run/mytoken-broker.{name}");
    Ok(submissions_of("alice", &site.on_node(name, &status)?.ok()?.stdout).unwrap_or_default())
}

#[test]
fn each_of_two_brokers_counts_for_itself_and_a_restart_gives_no_new_budget() -> Result<()> {
    let options = Options { brokers: 2, nodes: 1, request_limit: "40/300s", ..Options::new()? };
    story_with_own_servers(options, |site| {
        give_mytoken(site, "alice")?;
        // The broker learns the limit from the answer to its first request. A restarted agent asks the first broker of the list.
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken -w n1 --wrap 'sleep 600'")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        site.wait_for("the enrolment of the submit host", TIMEOUT, "root", "test -e /var/lib/mytoken/node.pem")?;
        site.stop("agent", "TERM")?;
        site.restart("agent")?;
        site.wait_for("the agent", TIMEOUT, "root", "! mytokenctl status 2>&1 | grep 'did not answer'")?;

        let sent = site.script("alice", LOOP).timeout(Duration::from_secs(240)).run()?.ok()?.stdout;
        let sent: usize = sent.trim().parse().unwrap();
        // A question that takes too long on a busy machine is asked at both.
        let (of_b1, of_b2) = (counted(site, "b1")?, counted(site, "b2")?);
        assert!((10..=20).contains(&sent), "of the 28 for submissions: {sent}");
        assert!(of_b1.abs_diff(sent) <= 2 && of_b2 <= 1, "{sent} were sent, b1 has {of_b1}, b2 has {of_b2}");

        site.stop(&broker::name("b1"), "TERM")?;
        let submit = "sbatch --hold --mytoken=required --wrap true";
        site.sh("alice", submit)?.ok()?;
        wait::until(
            "the count of the other broker",
            TIMEOUT,
            || Ok((counted(site, "b2")? == of_b2 + 1).then_some(())),
        )?;

        site.restart(&broker::name("b1"))?;
        site.wait_for("b1", TIMEOUT, "root", "timeout 1 bash -c '</dev/tcp/b1/7512'")?;
        site.stop(&broker::name("b2"), "TERM")?;
        let refused = site.sh("alice", submit)?;
        assert!(!refused.success() && refused.stderr.contains("used up for you"), "{refused:?}\n{}", site.logs());
        assert_eq!(counted(site, "b1")?, of_b1);
        Ok(())
    })
}
