// SPDX-License-Identifier: MIT OR Apache-2.0
//! Brokers keep the credentials of submissions, so that a cluster whose database stores the environment of each job stores none.

use std::time::Duration;

use testbed::drive::jobs::Job;
use testbed::drive::people;
use testbed::site::services::accounting;
use testbed::{Options, Release, Result, Site, skip, story_with_own_servers};

use super::escrow;

/// How long the story waits for what a job or the database does.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the job prints: whether it has a token, and how much of the credential is in its environment.
const LOOK: &str = "test -s $BEARER_TOKEN_FILE && echo has a token; echo carries $(env | grep -c =mt1)";

/// Number of credentials in the database, of which each begins like this.
fn stored(site: &Site) -> Result<String> {
    let count = "mariadb-dump --all-databases | grep -oE 'mt1\\.[0-9a-f]{8}\\.' | wc -l";
    Ok(site.sh("root", count)?.ok()?.stdout.trim().to_owned())
}

/// Waits until the environment that the database has of a job contains this text, and its end is there.
fn wait_for_record(site: &Site, job: &Job, text: &str) -> Result<()> {
    let id = job.id;
    let is_there =
        format!("sacct -j {id} --env-vars | grep -F '{text}' && sacct -n -X -j {id} -o State | grep COMPLETED");
    site.wait_for(&format!("job {id} in the database"), TIMEOUT, "root", &is_there).map(drop)
}

#[test]
fn the_database_has_the_environment_of_a_job_without_its_credential() -> Result<()> {
    let chosen = Options::new()?;
    if chosen.release != Release::Bookworm {
        return skip("slurmdbd of this release does not run with its database");
    }
    story_with_own_servers(Options { brokers: 1, nodes: 1, accounting: true, ..chosen }, |site| {
        accounting::start(site, "")?;
        people::first_mytoken(site, "alice")?;
        escrow::switch_on(site)?;
        let submit = format!("LOOK_FOR=this-job sbatch --mytoken=required --wrap '{LOOK}'");
        let (job, _) = Job::submit(site, "alice", &submit)?;
        job.wait_for_end(site, TIMEOUT)?;
        assert_eq!(job.output(site)?.trim(), "has a token\ncarries 0", "{}", site.logs());
        wait_for_record(site, &job, "LOOK_FOR=this-job")?;
        assert_eq!(stored(site)?, "0");

        // The search finds what a job has in its environment.
        let (other, _) = Job::submit(site, "alice", "CARRIES=mt1.00000000.this sbatch --wrap true")?;
        other.wait_for_end(site, TIMEOUT)?;
        wait_for_record(site, &other, "CARRIES=mt1.00000000.this")?;
        assert_ne!(stored(site)?, "0");
        Ok(())
    })
}
