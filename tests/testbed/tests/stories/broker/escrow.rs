// SPDX-License-Identifier: MIT OR Apache-2.0
//! Brokers keep the sealed credentials of submissions: jobs bring only a handle, through `--export-file` too.

use std::time::Duration;

use testbed::drive::jobs::Job;
use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::site::services::{agent, broker};
use testbed::{Error, Options, Result, Site, story_with_own_servers, wait};

/// How long the story waits for what a job or a broker does.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long the agent of the submit host may take to be sure that a submission is over of which no job has started.
const SURE: Duration = Duration::from_secs(240);

/// What each job prints: whether it has a token, and how much of the credential is in its environment.
const LOOK: &str = "test -s \"$BEARER_TOKEN_FILE\" && echo has a token; echo carries $(env | grep -c ^SLURM_MYTOKEN=)";

/// Switches `broker.escrow` on.
pub fn switch_on(site: &Site) -> Result<()> {
    site.sh("root", "sed -i 's/^\\[broker\\]/[broker]\\nescrow = true/' /etc/mytoken/jobs.toml")?.ok()?;
    let restart = |daemon: String| site.stop(&daemon, "TERM").and_then(|()| site.restart(&daemon));
    site.brokers().iter().try_for_each(|broker| restart(broker::name(broker)))?;
    // An agent that does not reach the first broker asks the other one from then on. If a job's nodes ask both, both revoke.
    broker::wait(site)?;
    site.nodes().iter().try_for_each(|node| restart(agent::name(node)))?;
    restart("agent".to_owned())
}

/// Names of the texts that a broker keeps.
pub fn kept(site: &Site, broker: &str) -> Result<Vec<String>> {
    let list = site.sh("root", &format!("ls /var/lib/mytoken.{broker}/escrow"))?.ok()?.stdout;
    Ok(list.lines().map(str::to_owned).collect())
}

/// Submits a job that looks and ends, and waits for its output.
fn looks(site: &Site, options: &str) -> Result<(Job, String)> {
    let (job, _) = Job::submit(site, "alice", &format!("sbatch --mytoken {options} --wrap '{LOOK}'"))?;
    job.wait_for_end(site, TIMEOUT)?;
    let output = job.output(site)?;
    Ok((job, output))
}

fn held(site: &Site, user: &str) -> Result<Job> {
    Ok(Job::submit(site, user, &format!("sbatch --hold --mytoken --wrap '{LOOK}'"))?.0)
}

fn released(site: &Site, job: &Job) -> Result<String> {
    site.sh("root", &format!("scontrol release {}", job.id))?.ok()?;
    job.wait_for_end(site, TIMEOUT)?;
    job.output(site)
}

/// Number of sub-tokens that are revoked.
fn revoked(site: &Site) -> Result<usize> {
    Ok(Journal::read(site)?.each_sub_token().iter().filter(|token| token.revocations > 0).count())
}

/// Waits until so many sub-tokens are revoked. A broker that starts anew revokes again what a node tells it.
fn wait_until_revoked(site: &Site, count: usize) -> Result<()> {
    wait::until("the revocations", TIMEOUT, || Ok((revoked(site)? >= count).then_some(())))?;
    assert_eq!(revoked(site)?, count);
    Ok(())
}

/// A submission of which no job starts: the agent of the submit host revokes it, and tells both brokers. Bob has no other jobs: among several
/// of the same minutes, the agent would wait 20 minutes for a node to revoke it.
fn cancelled_in_the_queue(site: &Site) -> Result<()> {
    people::first_mytoken(site, "bob")?;
    let earlier = kept(site, "b1")?;
    let cancelled = held(site, "bob")?;
    let new: Vec<String> = kept(site, "b1")?.into_iter().filter(|name| !earlier.contains(name)).collect();
    let [text] = new.as_slice() else { return Err(Error::Refused(format!("{new:?} beside {earlier:?}"))) };
    assert!(kept(site, "b2")?.contains(text));
    site.sh("bob", &format!("scancel {}", cancelled.id))?.ok()?;
    for broker in ["b1", "b2"] {
        wait::until("the end of the text", SURE, || Ok((!kept(site, broker)?.contains(text)).then_some(())))?;
    }
    wait::until("all revocations", SURE, || {
        let tokens = Journal::read(site)?.each_sub_token();
        Ok(tokens.iter().all(|token| token.revocations > 0).then_some(()))
    })
}

#[test]
fn brokers_keep_the_credentials_of_submissions() -> Result<()> {
    story_with_own_servers(Options { brokers: 2, nodes: 2, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        switch_on(site)?;
        Journal::clear(site)?;

        // The environment of a job has no credential, and it has a token all the same: also of the steps on two nodes, and of salloc.
        let (_, output) = looks(site, "")?;
        assert_eq!(output.trim(), "has a token\ncarries 0");
        site.sh("alice", "env -0 >exported")?.ok()?;
        let (_, output) = looks(site, "--export-file=exported")?;
        assert_eq!(output.trim(), "has a token\ncarries 0");
        let steps = site.sh("alice", &format!("salloc --mytoken -N2 srun sh -c '{LOOK}'"))?.ok()?.stdout;
        assert_eq!(steps.matches("has a token").count(), 2, "{steps}");
        let srun = site.sh("alice", &format!("srun --mytoken -N2 sh -c '{LOOK}'"))?.ok()?.stdout;
        assert_eq!(srun.matches("has a token").count(), 2, "{srun}");
        wait_until_revoked(site, 4)?;
        assert_eq!(Journal::read(site)?.requests_to("revocation"), 4);
        wait::until("the end of the texts", TIMEOUT, || Ok(kept(site, "b1")?.is_empty().then_some(())))?;

        // A job that waits outlives the broker, and needs only one of them.
        let (restarted, alone) = (held(site, "alice")?, held(site, "alice")?);
        let names = kept(site, "b1")?;
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names.iter().all(|name| kept(site, "b2").is_ok_and(|own| own.contains(name))));
        site.stop(&broker::name("b1"), "KILL")?;
        site.restart(&broker::name("b1"))?;
        assert_eq!(released(site, &restarted)?.trim(), "has a token\ncarries 0");
        site.stop(&broker::name("b1"), "KILL")?;
        assert_eq!(released(site, &alone)?.trim(), "has a token\ncarries 0");
        wait_until_revoked(site, 6)?;

        // Without brokers, a job carries its credential, and one that cannot is told.
        site.stop(&broker::name("b2"), "KILL")?;
        let (carried, said) = Job::submit(site, "alice", &format!("sbatch --hold --mytoken --wrap '{LOOK}'"))?;
        assert!(said.stderr.contains("no broker keeps the credential, so the job carries it"), "{said:?}");
        let refused = site.sh("alice", "sbatch --mytoken=required --export-file=exported --wrap true")?;
        assert!(!refused.success() && refused.stderr.contains("and no broker keeps it"), "{refused:?}");
        site.restart(&broker::name("b1"))?;
        site.restart(&broker::name("b2"))?;
        assert_eq!(released(site, &carried)?.trim(), "has a token\ncarries 1");

        wait_until_revoked(site, 7)?;
        if Options::is_long() {
            cancelled_in_the_queue(site)?;
        }
        assert_eq!(site.sh("root", "sinfo -h -t drain,drained,down,fail -o %N")?.ok()?.stdout.trim(), "");
        Ok(())
    })
}
