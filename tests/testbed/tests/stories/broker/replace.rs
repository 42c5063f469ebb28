// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl replace` for jobs that wait: brokers keep their new credentials, also over a restart. And for jobs that run.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::drive::jobs::Job;
use testbed::drive::journal::{Journal, SubToken};
use testbed::drive::people;
use testbed::site::services::broker;
use testbed::{Options, Result, Site, story_with_own_servers, wait};

/// How long the story waits for what a job or the broker does.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Life of the credential that expires in the queue.
const SHORT: Duration = Duration::from_secs(20);

/// A profile whose credential ends before its job begins.
const PROFILE: &str = r#"cat >>/etc/mytoken/jobs.toml <<'END'
[[profile]]
name = "short"
server = "testbed"
scope = "storage.read"
audience = "https://testbed"
max_lifetime = "20s"
END"#;

/// What a job of the story says as soon as it has a token.
const TOKEN: &str = "has a token";

fn held(site: &Site, user: &str, options: &str) -> Result<Job> {
    let script = format!("until test -s $BEARER_TOKEN_FILE; do sleep 0.2; done; echo {TOKEN}; sleep 600");
    Ok(Job::submit(site, user, &format!("sbatch --hold {options} --wrap '{script}'"))?.0)
}

/// Lets a job start, and waits for its token.
fn starts_with_token(site: &Site, job: &Job) -> Result<()> {
    site.sh("root", &format!("scontrol release {}", job.id))?.ok()?;
    wait::until(&format!("the token of job {}", job.id), TIMEOUT, || {
        // Slurm makes the file a moment after the start.
        Ok(job.output(site).ok().filter(|output| output.contains(TOKEN)).map(drop))
    })
}

fn sub_tokens(site: &Site) -> Result<Vec<SubToken>> {
    Ok(Journal::read(site)?.each_sub_token())
}

/// Waits until these of the sub-tokens are revoked, each once.
fn wait_for_revocations(site: &Site, numbers: &[usize]) -> Result<()> {
    wait::until("the revocations", TIMEOUT, || {
        let made = sub_tokens(site)?;
        let is_revoked = |number: &usize| made.get(*number).is_some_and(|token| token.revocations > 0);
        Ok(numbers.iter().all(is_revoked).then_some(()))
    })?;
    let made = sub_tokens(site)?;
    let once = |number: &usize| made.get(*number).is_some_and(|token| token.revocations == 1);
    assert!(numbers.iter().all(once), "{made:#?}");
    Ok(())
}

/// Sends the broker a new credential of alice for `job` from n1, with the certificate of that node. Returns the answer.
fn replace_from_node(site: &Site, job: &Job, sealed: &str) -> Result<String> {
    let own = "--cert /var/lib/mytoken.n1/node.pem --key /var/lib/mytoken.n1/node.key";
    let script = format!(
        "curl -s --max-time 20 --cacert /etc/mytoken/keys/broker-ca.pem {own} -d @- https://b1:7512/v1/replace"
    );
    let body = json!({"uid": 2001, "job": job.id, "sealed": sealed, "follows": true});
    Ok(site.script("root", &script).on("n1").stdin(body.to_string()).run()?.ok()?.stdout)
}

#[test]
fn jobs_that_wait_get_new_credentials_through_a_broker() -> Result<()> {
    story_with_own_servers(Options { brokers: 1, nodes: 2, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        site.sh("root", PROFILE)?.ok()?;
        Journal::clear(site)?;
        let submitted = Instant::now();
        let (short, long) = (held(site, "alice", "--mytoken=short")?, held(site, "alice", "--mytoken")?);
        let (cancelled, of_bob) = (held(site, "alice", "--mytoken")?, held(site, "bob", "")?);

        // Another user, and a node that was taken over: it has a certificate, and makes a credential of its own.
        let refused = site.sh("bob", &format!("mytokenctl replace {}", long.id))?;
        assert!(!refused.success() && refused.stderr.contains("you have no job"), "{refused:?}");
        let sealed = site.sh("alice", "mytokenctl attach | sed -n 's/^SLURM_MYTOKEN=//p'")?.ok()?.stdout;
        for _ in 0..2 {
            let answer = replace_from_node(site, &long, sealed.trim())?;
            assert!(answer.contains("was submitted on testbed, and only there"), "{answer}");
        }
        let answer = replace_from_node(site, &of_bob, sealed.trim())?;
        assert!(answer.contains("belongs to another user"), "{answer}");
        let logs = site.logs();
        let line = format!("host n1, job {} uid 2001: its credential is not replaced", long.id);
        assert_eq!(logs.lines().filter(|logged| logged.contains(&line)).count(), 1, "{logs}");

        let told = site.sh("alice", "mytokenctl replace --all")?.ok()?;
        let id = |line: &str| {
            line.strip_prefix("job ")?.split_once(": gets its new credential when it starts;")?.0.parse().ok()
        };
        let replaced: Vec<u32> = told.stdout.lines().filter_map(id).collect();
        let mut all = replaced.clone();
        all.sort_unstable();
        assert_eq!(all, [short.id, long.id, cancelled.id], "{told:?}");
        // The old ones and the one of the node were made first, and the new ones in the order of the lines.
        let new = |job: &Job| 4 + replaced.iter().position(|id| *id == job.id).unwrap();

        site.stop(&broker::name("b1"), "KILL")?;
        site.restart(&broker::name("b1"))?;
        site.sh("alice", &format!("scancel {}", cancelled.id))?.ok()?;
        starts_with_token(site, &long)?;
        std::thread::sleep((SHORT + Duration::from_secs(2)).saturating_sub(submitted.elapsed()));
        starts_with_token(site, &short)?;
        // The job goes on when its old one is revoked. One that has expired need not be.
        wait_for_revocations(site, &[1, new(&cancelled)])?;
        let made = sub_tokens(site)?;
        let used: Vec<usize> = (0..7).filter(|number| made[*number].access_tokens > 0).collect();
        let mut expected = vec![new(&short), new(&long)];
        expected.sort_unstable();
        assert_eq!(used, expected, "{made:#?}");
        assert!(long.token(site, "n1")?.or(long.token(site, "n2")?).is_some());

        for job in [&short, &long] {
            site.sh("alice", &format!("scancel {}", job.id))?.ok()?;
            job.wait_for_end(site, TIMEOUT)?;
        }
        wait_for_revocations(site, &[1, new(&cancelled), new(&short), new(&long)])?;
        assert_eq!(sub_tokens(site)?[0].revocations, 0, "it has expired");
        wait::until("the end of the files", TIMEOUT, || {
            let kept = site.sh("root", "ls /var/lib/mytoken.b1/replacements")?.ok()?.stdout;
            Ok(kept.trim().is_empty().then_some(()))
        })?;
        assert_eq!(site.sh("root", "sinfo -h -t drain,drained,down,fail -o %N")?.ok()?.stdout.trim(), "");
        Ok(())
    })
}

#[test]
fn a_running_job_gets_a_new_credential_that_a_broker_opens() -> Result<()> {
    story_with_own_servers(Options { brokers: 1, nodes: 2, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken -N2 -n2 --wrap 'srun sleep 600'")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        job.wait_for_token(site, "n2")?;
        Journal::clear(site)?;

        let before = [job.token(site, "n1")?, job.token(site, "n2")?];
        let told = site.sh("alice", &format!("mytokenctl replace {}", job.id))?.ok()?;
        let line = format!("job {}: has a new credential; the old one stays until the job ends: ", job.id);
        assert!(told.stdout.starts_with(&line), "{told:?}");
        let after = [job.token(site, "n1")?, job.token(site, "n2")?];
        assert!(after.iter().all(Option::is_some) && after[0] != before[0] && after[1] != before[1], "{told:?}");
        let journal = Journal::read(site)?;
        assert_eq!((journal.sub_tokens(), journal.granted("revocation")), (1, 0));

        site.sh("alice", &format!("scancel {}", job.id))?.ok()?;
        job.wait_for_end(site, TIMEOUT)?;
        wait::until("the revocations of both", TIMEOUT * 2, || {
            Ok((Journal::read(site)?.granted("revocation") == 2).then_some(()))
        })
    })
}
