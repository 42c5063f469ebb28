// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cluster's key is replaced while a broker holds it: jobs that wait get their tokens, and one whose key is gone is told that.

use std::time::Duration;

use testbed::drive::jobs::Job;
use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::site::plan::STATE_DIR;
use testbed::site::services::broker;
use testbed::{Options, Result, Site, story_with_own_servers, wait};

/// How long the story waits for what a reload or a job does.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Reloads the broker and waits until it says so for the `times`th time.
fn reload(site: &Site, times: usize) -> Result<()> {
    site.sh("root", &format!("kill -HUP $(cat {STATE_DIR}/pid/{})", broker::name("b1")))?.ok()?;
    let reloads = || site.logs().lines().filter(|line| line.contains("broker") && line.contains("reloaded: ")).count();
    wait::until("the reload of the broker", TIMEOUT, || Ok((reloads() >= times).then_some(())))
}

/// A job in the queue that will print whether it has a token.
fn held(site: &Site) -> Result<Job> {
    let script = "test -s $BEARER_TOKEN_FILE && echo has a token; sleep 600";
    Ok(Job::submit(site, "alice", &format!("sbatch --hold --mytoken --wrap '{script}'"))?.0)
}

/// Lets a job start.
fn release(site: &Site, job: &Job) -> Result<()> {
    site.sh("root", &format!("scontrol release {}", job.id))?.ok()?;
    job.wait_for_start(site)
}

/// The key to which submissions are sealed.
fn public_key(site: &Site) -> Result<String> {
    let list = site.on_node("b1", "mytokenctl key list")?.ok()?.stdout;
    let line = list.lines().find(|line| line.contains("submissions on this host are sealed to it")).unwrap_or_default();
    Ok(line.get(..8).unwrap_or_default().to_owned())
}

#[test]
fn the_key_of_a_broker_is_replaced_while_jobs_wait() -> Result<()> {
    story_with_own_servers(Options { brokers: 1, nodes: 1, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        let (waits, too_late) = (held(site)?, held(site)?);
        let old = public_key(site)?;

        let made = site.on_node("b1", "mytokenctl key new")?.ok()?.stdout;
        let new = made.strip_prefix("key pair ").and_then(|rest| rest.get(..8)).unwrap_or_default().to_owned();
        assert!(new.len() == 8 && new != old && made.contains(&format!("mytokenctl key retire {old}")), "{made}");
        let refused = site.on_node("b1", &format!("mytokenctl key retire {old}"))?;
        assert!(!refused.success() && refused.stderr.contains("submissions are sealed to it"), "{refused:?}");
        reload(site, 1)?;
        site.sh("root", &format!("cp /etc/mytoken/keys/{new}.pub /etc/mytoken/keys/cluster.pub"))?.ok()?;
        assert_eq!(public_key(site)?, new);

        let later = held(site)?;
        for job in [&waits, &later] {
            release(site, job)?;
            job.wait_for_token(site, "n1")?;
        }
        site.sh("alice", &format!("scancel {}", waits.id))?.ok()?;
        waits.wait_for_end(site, TIMEOUT)?;
        wait::until("its revocation", TIMEOUT, || Ok((Journal::read(site)?.granted("revocation") == 1).then_some(())))?;

        let retired = site.on_node("b1", &format!("mytokenctl key retire {old}"))?.ok()?.stdout;
        assert!(retired.contains("jobs that are sealed to it get no further token here"), "{retired}");
        let list = site.on_node("b1", "mytokenctl key list")?.ok()?.stdout;
        assert!(list.contains(&format!("{old}  retired")) && list.contains(&format!("{new}  private")), "{list}");
        reload(site, 2)?;
        release(site, &too_late)?;
        let reason = format!("the job credential is sealed to the key {old}, which was retired; submit the job again");
        let output = wait::until("the reason in the job's output", TIMEOUT, || {
            // Slurm makes the file a moment after the start.
            Ok(too_late.output(site).ok().filter(|output| output.contains(&reason)))
        })?;
        assert!(!output.contains("has a token") && output.lines().count() == 1, "{output}");
        assert_eq!(Journal::read(site)?.requests_to("revocation"), 1, "the later job goes on");
        assert!(later.token(site, "n1")?.is_some());
        assert_eq!(site.sh("root", "sinfo -h -t drain,drained,down,fail -o %N")?.ok()?.stdout.trim(), "");
        let logs = site.logs();
        let told = logs.lines().filter(|line| line.contains("node n1, job") && line.contains(&reason)).count();
        assert_eq!(told, 1, "{logs}");
        Ok(())
    })
}
