// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs with an access token: submission, renewal, visibility, end.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use testbed::drive::jobs::{Calls, Event, Job, argv_watch, calling_script, calls};
use testbed::drive::journal::Journal;
use testbed::drive::people::{self, Session};
use testbed::drive::tokens;
use testbed::site::services::agent;
use testbed::{Error, Options, Result, Site, story, story_with_own_servers, wait};

/// How long a story waits for a job.
const TIMEOUT: Duration = Duration::from_secs(60);

fn with_nodes(nodes: u8) -> Result<Options> {
    Ok(Options { nodes, ..Options::new()? })
}

/// A site with a stored mytoken of alice and an empty journal. Access tokens live `lifetime` seconds.
fn with_alice(nodes: u8, lifetime: u32, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story_with_own_servers(with_nodes(nodes)?, |site| {
        people::control(site, "/provider/lifetime", Some(&json!({"seconds": lifetime}).to_string()))?;
        people::first_mytoken(site, "alice")?;
        Journal::clear(site)?;
        body(site)
    })
}

/// A shell command that calls the resource server once and prints the status.
fn call() -> String {
    people::call("-s -o /dev/null -w %{http_code}\\\\n")
}

/// A shell command that prints 200 if the access token is a JWT that has not expired. It has no single quotes, because
/// callers put it between single quotes.
const CHECK_EXPIRY: &str = "{ cut -d. -f2 $BEARER_TOKEN_FILE | tr _- /+; echo ==; } | base64 -d 2>/dev/null | \
                    jq -e \".exp > now\" >/dev/null && echo 200";

/// A shell command that prints 200 if the resource server accepts the token. With a foreign server there is no resource
/// server, so the command reads the token's expiry.
fn check_token(site: &Site) -> String {
    if site.has_testserver() { call() } else { CHECK_EXPIRY.to_owned() }
}

/// A site with a stored mytoken of alice, with the test server or a foreign server.
fn with_alice_anywhere(nodes: u8, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story(with_nodes(nodes)?, |site| {
        people::first_mytoken(site, "alice")?;
        body(site)
    })
}

fn write_script(site: &Site, user: &str, name: &str, lines: &str) -> Result<()> {
    site.script(user, &format!("cat >{name} && chmod 755 {name}"))
        .stdin(format!("#!/bin/bash\n{lines}"))
        .run()?
        .ok()
        .map(drop)
}

/// The number of sub-tokens and the number of revocations.
fn sub_tokens_and_revocations(site: &Site) -> Result<(usize, usize)> {
    let journal = Journal::read(site)?;
    Ok((journal.sub_tokens(), journal.granted("revocation")))
}

#[test]
fn a_job_on_three_nodes_always_has_a_fresh_token_and_leaves_nothing_behind() -> Result<()> {
    with_alice(4, 15, |site| {
        write_script(site, "alice", "task", &calling_script(40))?;
        write_script(site, "alice", "job.sh", "srun ./task\n")?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --nodes=3 --ntasks-per-node=1 job.sh")?;
        job.wait_for_end(site, Duration::from_secs(120))?;

        let output = job.output(site)?;
        let calls = calls(&output);
        assert!(
            calls.len() == 3 && calls.iter().all(|Calls { refused, tokens, .. }| *refused == 0 && *tokens >= 3),
            "{output}"
        );

        let ran_on = job.nodes(site)?;
        let mut last_events = job.wait_until_settled(site, &ran_on)?;
        last_events.sort_unstable();
        let mut new_tokens = Vec::new();
        for node in &ran_on {
            let is_new_token = |event: &Event| ["started", "renewed", "dropped"].contains(&event.what.as_str());
            new_tokens.extend(job.events(site, node)?.into_iter().filter(is_new_token));
        }
        let journal = Journal::read(site)?;
        assert_eq!(
            (journal.sub_tokens(), journal.requests_to("revocation"), last_events),
            (1, 1, vec!["left".to_owned(), "left".to_owned(), "revoked".to_owned()])
        );
        // The agents and the server count the same number of access tokens.
        let count: usize = new_tokens.iter().map(|event| event.times).sum();
        assert_eq!(journal.requests_to("access_token"), count, "{new_tokens:#?}\n{journal:#?}");
        Ok(())
    })
}

#[test]
fn a_job_is_submitted_from_a_login_session_with_the_delegated_mytoken() -> Result<()> {
    story(with_nodes(2)?, |site| {
        people::first_mytoken(site, "alice")?;
        let mut session = Session::open(site, "alice", "mytoken-ssh ssh --delegate testbed bash -s")?;
        // The stored mytoken is on the laptop, not here.
        site.sh("alice", "mv .config/mytoken .config/laptop")?.ok()?;
        let hop = "mytoken-ssh ssh -n testbed 'test -s $BEARER_TOKEN_FILE && test -z $MYTOKEN_FILE && echo inside'";
        let hop = session.run(hop, TIMEOUT)?.ok()?;
        let told =
            "mytoken-ssh: with the mytoken \"ssh session alice@testbed\" of $MYTOKEN_FILE, /run/mytoken/sessions/";
        assert!(hop.stdout.starts_with(told) && hop.stdout.ends_with("\ninside\n"), "{hop:?}");
        let outcome =
            session.run("sbatch --mytoken --nodes=2 --wrap 'srun wc -c $BEARER_TOKEN_FILE'", TIMEOUT)?.ok()?;
        let job = Job::submitted("alice", &outcome)?;
        job.wait_for_end(site, TIMEOUT)?;
        let output = job.output(site)?;
        let file = format!("/run/mytoken/jobs/{}/bt_u2001", job.id);
        assert_eq!(
            output.lines().filter(|line| line.ends_with(&file) && !line.starts_with("0 ")).count(),
            2,
            "{output}"
        );
        session.close()
    })
}

#[test]
fn no_command_line_holds_a_token_between_login_and_job() -> Result<()> {
    with_alice(2, 15, |site| {
        let watch = site.script("bob", &argv_watch("(( SECONDS < 300 )) && test ! -e /tmp/seen-enough")).spawn()?;
        let mut session = Session::open(site, "alice", "mytoken-ssh ssh --delegate testbed bash -s")?;
        session.run(&call(), TIMEOUT)?.ok()?;
        write_script(site, "alice", "task", &calling_script(8))?;
        let outcome = session.run("sbatch --mytoken --nodes=2 --wrap 'srun ./task'", TIMEOUT)?.ok()?;
        Job::submitted("alice", &outcome)?.wait_for_end(site, TIMEOUT)?;
        // A control: bob's search must find this one.
        session.run("bash -c 'sleep 1; true' careless eyJcareless", TIMEOUT)?.ok()?;
        site.sh("root", "touch /tmp/seen-enough")?.ok()?;
        let seen = watch.wait_with_output().map_err(|error| Error::Refused(error.to_string()))?.stdout;
        let seen = String::from_utf8_lossy(&seen);
        assert!(seen.contains("careless eyJcareles"), "{seen}");
        let tokens: BTreeSet<&str> = seen.lines().filter(|line| !line.contains("careless")).collect();
        assert!(tokens.is_empty(), "{tokens:#?}");
        session.close()
    })
}

#[test]
fn srun_and_salloc_jobs_get_a_valid_token() -> Result<()> {
    with_alice_anywhere(2, |site| {
        let srun = site.sh("alice", &format!("srun --mytoken -N2 bash -c '{}'", check_token(site)))?;
        let salloc = site.sh("alice", &format!("salloc --mytoken -N2 srun bash -c '{}'", check_token(site)))?;
        assert_eq!((srun.lines(), salloc.lines()), (vec!["200"; 2], vec!["200"; 2]), "{srun:?}\n{salloc:?}");
        Ok(())
    })
}

#[test]
fn a_job_without_the_users_environment_has_its_token() -> Result<()> {
    with_alice_anywhere(1, |site| {
        write_script(site, "alice", "call", &check_token(site))?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --export=NONE --wrap 'srun ./call'")?;
        job.wait_for_end(site, TIMEOUT)?;
        assert_eq!(job.output(site)?, "200\n");
        Ok(())
    })
}

#[test]
fn the_tasks_of_an_array_share_one_sub_token_until_the_last_one_ends() -> Result<()> {
    with_alice(2, 60, |site| {
        let name = "mytokenctl status ${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID.batch >status.$SLURM_ARRAY_TASK_ID";
        let script = format!("sleep $((SLURM_ARRAY_TASK_ID * 3)); {}; {name}\n", call());
        write_script(site, "alice", "job.sh", &script)?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --array=1-3 --output=task.%a job.sh")?;
        job.wait_for_end(site, TIMEOUT)?;
        let revoked = wait::until("the end of the sub-token", TIMEOUT, || {
            let counts = sub_tokens_and_revocations(site)?;
            Ok((counts.1 > 0).then_some(counts))
        })?;
        assert_eq!(site.sh("alice", "cat task.1 task.2 task.3")?.stdout, "200\n200\n200\n");
        assert_eq!(revoked, (1, 1));
        let first = format!("JOB {}_2  profile default  user alice  ", job.id);
        let shown = site.sh("alice", "cat status.2")?.stdout;
        assert!(shown.starts_with(&first) && shown.contains("  access token valid until"), "{shown}");

        // A component of a heterogeneous job, asked for by Slurm's name and by its number.
        let ask = "mytokenctl status ${SLURM_JOB_ID_HET_GROUP_0}+1 --json; mytokenctl status $SLURM_JOB_ID_HET_GROUP_1 --json";
        write_script(site, "alice", "ask", ask)?;
        let het = "salloc --mytoken -n1 : -n1 srun --het-group=1 ./ask | jq -r '.jobs[] | .name + \" \" + .state'";
        let names = site.sh("alice", het)?;
        let is_component = |line: &&str| line.contains("+1 valid");
        assert_eq!(names.lines().into_iter().filter(is_component).count(), 2, "{names:?}");
        let other = site.sh("alice", "sbatch --mytoken -n1 --wrap true : --mytoken=other -n1")?;
        assert!(!other.success() && other.stderr.contains("the first component chooses for all"), "{other:?}");
        Ok(())
    })
}

#[test]
fn a_profile_that_does_not_exist_is_refused_in_one_line() -> Result<()> {
    with_alice_anywhere(1, |site| {
        let optional = site.sh("alice", "sbatch --mytoken=nope --wrap true")?;
        let required = site.sh("alice", "sbatch --mytoken=required:nope --wrap true")?;
        let line = "sbatch: error: mytoken: no credential: there is no profile \"nope\"; this cluster has: default";
        assert_eq!((optional.stderr.trim_end(), optional.code), (&*format!("{line} (submitting without)"), 0));
        assert_eq!((required.stderr.trim_end(), required.code), (line, 1), "{required:?}");
        assert!(!required.stdout.contains("Submitted"), "{required:?}");
        Ok(())
    })
}

#[test]
fn a_rotating_mytoken_serves_submissions_at_the_same_time() -> Result<()> {
    with_alice(1, 60, |site| {
        let rotating = tokens::mytoken(site, "alice", &json!({"rotation": {"on_AT": true, "on_other": true}}))?;
        tokens::store(site, "alice", &rotating)?;
        Journal::clear(site)?;
        let submit_four = "for i in 1 2 3 4; do sbatch --mytoken=required --hold --wrap true & done; wait";
        let outcome = site.sh("alice", submit_four)?;
        // Each use replaces the token. Two uses at once, or a successor that is not stored, would lose it.
        let told: Vec<&str> =
            outcome.stderr.lines().filter(|line| !line.contains("this job's credential ends")).collect();
        assert_eq!((outcome.lines().len(), told), (4, vec![]), "{outcome:?}");
        assert_eq!(Journal::read(site)?.sub_tokens(), 4);
        assert!(tokens::is_valid(site, &tokens::stored(site, "alice")?)?);
        Ok(())
    })
}

#[test]
fn other_users_see_only_ciphertext() -> Result<()> {
    with_alice(2, 60, |site| {
        site.sh("root", "scontrol setdebug debug3 && echo SlurmdDebug=debug3 >>/etc/slurm/slurm.conf")?.ok()?;
        for node in site.nodes() {
            site.stop(&format!("slurmd.{node}"), "TERM")?;
            site.restart(&format!("slurmd.{node}"))?;
        }
        write_script(site, "alice", "job.sh", "env >batch.env; srun bash -c 'env >step.env; sleep 20'\n")?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken job.sh")?;
        job.wait_for_start(site)?;
        let node = job.nodes(site)?.concat();
        job.wait_for_token(site, &node)?;
        site.wait_for("the step", TIMEOUT, "alice", "test -s step.env")?;
        let token = job.token(site, &node)?.unwrap_or_default();

        // Each place, and a pattern that must match there: it shows that the right place is searched.
        let sealed = "mt1\\.[0-9a-f]{8}\\.";
        let places = [
            ("cat /home/alice/*.env", sealed),
            ("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'", sealed),
            ("grep -rahE . /var/spool/slurmctld", sealed),
            ("scontrol -dd show job; squeue -O all", "JobId="),
            ("cat /var/log/slurm/slurmctld.log", "debug3:"),
            ("cat /var/log/slurm/slurmd.*.log", "debug3:"),
            ("cat /var/log/*.log", "mytokend"),
            ("grep -rahE . /var/spool /var/log /tmp /run/testbed", sealed),
        ];
        for (place, expected) in places {
            site.sh("root", &format!("{{ {place}; }} >/dev/shm/seen"))?;
            let count = |pattern: &str| -> Result<u32> {
                let found = site.script("root", "grep -acE -f - /dev/shm/seen").stdin(format!("{pattern}\n")).run()?;
                Ok(found.stdout.trim().parse().unwrap_or(u32::MAX))
            };
            let (expected, jwts) = (count(expected)?, count("eyJ[A-Za-z0-9_-]+\\.eyJ[A-Za-z0-9_-]+")?);
            let signatures = count(token.rsplit('.').next().filter(|signature| signature.len() > 20).unwrap_or("."))?;
            assert!(
                expected > 0 && expected < u32::MAX && (jwts, signatures) == (0, 0),
                "{place}: {expected} {jwts} {signatures}"
            );
        }
        site.run("alice", ["scancel", &job.id.to_string()])?.ok().map(drop)
    })
}

#[test]
fn a_copied_credential_is_refused_to_another_user() -> Result<()> {
    with_alice(2, 60, |site| {
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --wrap 'echo $SLURM_MYTOKEN; sleep 30'")?;
        site.wait_for("alice's job", TIMEOUT, "alice", &format!("grep -q mt1 slurm-{}.out", job.id))?;
        let copy = job.output(site)?;
        let before = Journal::read(site)?;

        let steal = "sbatch --export=ALL,SLURM_MYTOKEN=$(cat) --output=stolen --wrap 'cat $BEARER_TOKEN_FILE'";
        let outcome = site.script("bob", steal).stdin(copy.trim()).run()?.ok()?;
        let theft = Job::submitted("bob", &outcome)?;
        theft.wait_for_end(site, TIMEOUT)?;
        let node = theft.nodes(site)?.concat();
        let stolen = site.sh("bob", "cat stolen")?.stdout;
        assert!(!stolen.contains("eyJ"), "{stolen}");
        let events = theft.events(site, &node)?;
        assert!(
            events
                .iter()
                .any(|event| event.what == "refused" && event.text.contains("the credential was made for user 2001")),
            "{events:?}\n{outcome:?}\n{stolen}"
        );
        let after = Journal::read(site)?;
        assert_eq!(
            after.requests_to("revocation"),
            before.requests_to("revocation"),
            "bob's job revoked alice's sub-token"
        );
        site.run("alice", ["scancel", &job.id.to_string()])?.ok().map(drop)
    })
}

#[test]
fn a_killed_agent_continues_after_its_restart() -> Result<()> {
    with_alice(1, 15, |site| {
        write_script(site, "alice", "task", &calling_script(30))?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --wrap 'srun ./task'")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        site.stop(&agent::name("n1"), "KILL")?;
        std::thread::sleep(Duration::from_secs(3));
        site.restart(&agent::name("n1"))?;
        job.wait_for_end(site, Duration::from_secs(90))?;
        let output = job.output(site)?;
        let [Calls { refused: 0, tokens, .. }] = calls(&output)[..] else { panic!("{output}") };
        assert!(tokens >= 3, "{output}");
        assert_eq!(job.wait_until_settled(site, &["n1".to_owned()])?, ["revoked"]);
        Ok(())
    })
}

#[test]
fn scancel_removes_the_files_and_revokes_the_sub_token() -> Result<()> {
    with_alice(2, 60, |site| {
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --nodes=2 --wrap 'srun sleep 300'")?;
        job.wait_for_start(site)?;
        let nodes = job.nodes(site)?;
        for node in &nodes {
            job.wait_for_token(site, node)?;
        }
        site.run("alice", ["scancel", &job.id.to_string()])?.ok()?;
        let mut last_events = job.wait_until_settled(site, &nodes)?;
        last_events.sort_unstable();
        assert_eq!(
            (last_events, sub_tokens_and_revocations(site)?),
            (vec!["left".to_owned(), "revoked".to_owned()], (1, 1))
        );
        Ok(())
    })
}

#[test]
fn a_requeued_job_keeps_its_sub_token() -> Result<()> {
    with_alice(1, 60, |site| {
        write_script(site, "alice", "job.sh", &format!("{}\n[[ $SLURM_RESTART_COUNT ]] || sleep 300\n", call()))?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --requeue --open-mode=append job.sh")?;
        let output = format!("slurm-{}.out", job.id);
        site.wait_for("the first run", TIMEOUT, "alice", &format!("grep -q 200 {output}"))?;
        site.run("root", ["scontrol", "requeue", &job.id.to_string()])?.ok()?;
        // `-t PD` lists the job only after the end of its first run.
        let pending = format!("squeue -h -j {} -t PD -o %i | grep .", job.id);
        site.wait_for("the job in the queue", TIMEOUT, "root", &pending)?;
        assert_eq!(sub_tokens_and_revocations(site)?, (1, 0), "the requeue revoked the sub-token");
        // SLURM-28: Slurm would wait two minutes, because the node refuses a launch credential from the second in which
        // the job was killed. After two seconds that second is over.
        std::thread::sleep(Duration::from_secs(2));
        site.sh("root", &format!("scontrol update jobid={} starttime=now", job.id))?.ok()?;
        let twice = format!("test $(grep -c 200 {output}) = 2");
        site.wait_for("the second run", Duration::from_secs(180), "alice", &twice)?;
        assert_eq!(job.wait_until_settled(site, &["n1".to_owned()])?, ["revoked"]);
        assert_eq!(sub_tokens_and_revocations(site)?, (1, 1));
        Ok(())
    })
}

#[test]
fn a_job_without_the_option_causes_no_request() -> Result<()> {
    with_alice(2, 60, |site| {
        let (job, outcome) = Job::submit(site, "alice", "sbatch --nodes=2 --wrap 'srun env'")?;
        job.wait_for_end(site, TIMEOUT)?;
        site.sh("alice", "srun true; salloc srun true")?;
        assert_eq!(Journal::read(site)?.requests(), []);
        let names: BTreeSet<String> =
            job.output(site)?.lines().filter(|line| line.contains("TOKEN")).map(str::to_owned).collect();
        assert!(names.is_empty() && outcome.stderr.is_empty(), "{names:?} {outcome:?}");
        Ok(())
    })
}
