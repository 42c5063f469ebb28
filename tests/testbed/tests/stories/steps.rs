// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps that join a job from elsewhere, and steps while the node's agent does not answer.

use std::time::Duration;

use testbed::drive::jobs::Job;
use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::site::addresses;
use testbed::site::command::CommandOutcome;
use testbed::site::daemon::Daemon;
use testbed::site::services::agent;
use testbed::{Options, Release, Result, Site, story_with_own_servers, wait};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Prints the name of the token's file and the first bytes of the token.
const SHOW: &str = "sh -c 'echo $BEARER_TOKEN_FILE; head -c 3 $BEARER_TOKEN_FILE </dev/null'";

/// A site of two nodes with a stored mytoken of alice and an empty journal.
fn with_alice(body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    on_nodes(2, body)
}

fn on_nodes(nodes: u8, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story_with_own_servers(Options { nodes, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        Journal::clear(site)?;
        body(site)
    })
}

/// The same with a job of alice that has both nodes and whose only step runs on the first.
fn with_job(body: impl FnOnce(&Site, &Job) -> Result<()>) -> Result<()> {
    with_alice(|site| {
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
fn the_first_step_on_a_further_node_says_why_it_has_no_token() -> Result<()> {
    const STEPS: &str = "srun -N1 -n1 -w n1 true; for i in 1 2; do srun -N1 -n1 -w n2 echo step $i; done";
    on_nodes(2, |site| {
        site.stop(&agent::name("n2"), "TERM")?;
        let output = site.sh("alice", &format!("sbatch -W -N2 --mytoken -o out --wrap '{STEPS}' && cat out"))?;
        let told = |line: &&str| line.contains("mytoken: no access token: ") && line.contains("did not answer");
        let lines = output.lines();
        assert_eq!(lines.iter().filter(|line| told(line)).count(), 1, "{output:?}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("step ")).count(), 2, "{output:?}");
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

/// Waits until the start of `job` is recorded on n1, for root alone.
fn wait_for_record(site: &Site, job: &Job) -> Result<()> {
    let record = format!("cd /run/mytoken/missed && stat -c '%a %U' . {}.json", job.id);
    let found = wait::until("the record of the start", TIMEOUT, || {
        Ok(Some(site.on_node("n1", &record)?).filter(CommandOutcome::success))
    })?;
    assert_eq!(found.stdout, "700 root\n600 root\n");
    Ok(())
}

#[test]
fn a_job_that_began_without_an_agent_gets_its_token_when_the_agent_is_back() -> Result<()> {
    with_alice(|site| {
        site.stop(&agent::name("n1"), "TERM")?;
        let wait = "until test -s $BEARER_TOKEN_FILE; do sleep 0.1; done; head -c 3 $BEARER_TOKEN_FILE";
        let (job, _) = Job::submit(site, "alice", &format!("sbatch --mytoken -w n1 --wrap '{wait}'"))?;
        job.wait_for_start(site)?;
        wait_for_record(site, &job)?;
        site.restart(&agent::name("n1"))?;
        job.wait_for_end(site, TIMEOUT)?;
        let output = job.output(site)?;
        assert!(output.ends_with("eyJ") && output.contains("no access token"), "{output}");
        job.wait_until_settled(site, &["n1".to_owned()])?;
        assert_eq!(site.on_node("n1", "ls -A /run/mytoken/missed")?.ok()?.stdout, "");
        let journal = Journal::read(site)?;
        assert_eq!((journal.sub_tokens(), journal.granted("revocation")), (1, 1));
        Ok(())
    })
}

#[test]
fn a_job_that_began_and_ended_without_an_agent_is_revoked_when_the_agent_is_back() -> Result<()> {
    with_alice(|site| {
        site.stop(&agent::name("n1"), "TERM")?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken -w n1 --wrap 'sleep 600'")?;
        wait_for_record(site, &job)?;
        site.sh("alice", &format!("scancel {}", job.id))?.ok()?;
        job.wait_for_end(site, TIMEOUT)?;
        // The record of the start has the only copy of the credential.
        let records = format!("{0}.end.json\n{0}.json\n", job.id);
        let left = || Ok::<_, testbed::Error>(site.on_node("n1", "LC_ALL=C ls -A /run/mytoken/missed")?.ok()?.stdout);
        wait::until("the record of the end", TIMEOUT, || Ok((left()? == records).then_some(())))?;
        site.restart(&agent::name("n1"))?;
        wait::until("the end of the records", TIMEOUT, || Ok(left()?.is_empty().then_some(())))?;
        wait::until("the revocation", TIMEOUT, || Ok((Journal::read(site)?.granted("revocation") == 1).then_some(())))
    })
}

#[test]
fn a_job_that_is_requeued_while_the_agent_is_stopped_has_its_token_when_the_agent_goes_on() -> Result<()> {
    with_alice(|site| {
        let signal =
            |signal: &str| site.on_node("n1", &format!("kill -{signal} $(pgrep -f 'agent [-]-node n1')"))?.ok();
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --requeue -w n1 --wrap 'sleep 600'")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        signal("STOP")?;
        // The request of the epilog waits in the socket of the stopped agent until the next run has begun.
        requeue(site, &job, "nodelist=n1")?;
        wait_for_record(site, &job)?;
        let records = || Ok::<_, testbed::Error>(site.on_node("n1", "ls -A /run/mytoken/missed")?.ok()?.stdout);
        assert_eq!(records()?, format!("{}.json\n", job.id), "the next run removes the record of the end");
        signal("CONT")?;
        wait::until("the end of the records", TIMEOUT, || Ok(records()?.is_empty().then_some(())))?;
        // It answers after the requests that waited.
        site.on_node("n1", "mytokenctl status --all")?.ok()?;
        assert!(job.token(site, "n1")?.is_some(), "the end was that of the run before");
        assert_eq!(Journal::read(site)?.granted("revocation"), 0);
        site.run("alice", ["scancel", &job.id.to_string()])?.ok()?;
        assert_eq!(job.wait_until_settled(site, &["n1".to_owned()])?, ["revoked"]);
        assert_eq!(Journal::read(site)?.granted("revocation"), 1);
        Ok(())
    })
}

/// Runs three steps and prints the status of each and its time in milliseconds.
const THREE_STEPS: &str = "until test -e go; do sleep 0.1; done; rm go
for i in 1 2 3; do t=$(date +%s%N); srun --overlap -n1 true; echo \"step $? $((($(date +%s%N) - t) / 1000000))\"; done";

/// How long a step waits for an agent that does not answer.
const WAIT_MS: u64 = 10_000;

fn times(output: &str) -> Vec<(u32, u64)> {
    let steps = output.lines().filter_map(|line| line.strip_prefix("step ")?.split_once(' '));
    steps.filter_map(|(code, time)| Some((code.parse().ok()?, time.parse().ok()?))).collect()
}

#[test]
fn a_stopped_agent_costs_a_job_one_wait() -> Result<()> {
    with_alice(|site| {
        let signal =
            |signal: &str| site.on_node("n1", &format!("kill -{signal} $(pgrep -f 'agent [-]-node n1')"))?.ok();
        site.write("/home/alice/steps.sh", &format!("#!/bin/bash\n{THREE_STEPS}\n"), "0755")?;
        // A wait that no slow machine has by itself.
        let line = format!("optional spank_mytoken.so agent_seconds={}\n", WAIT_MS / 1000);
        site.sh("root", "rm /etc/slurm/plugstack.conf.d/mytoken.conf")?.ok()?;
        site.write("/etc/slurm/plugstack.conf.d/mytoken.conf", &line, "0644")?;
        // This job has its token, and requires it. It needs no answer.
        let (with_token, _) = Job::submit(site, "alice", "sbatch --mytoken=required -w n1 steps.sh")?;
        with_token.wait_for_start(site)?;
        with_token.wait_for_token(site, "n1")?;
        signal("STOP")?;
        site.sh("alice", "touch go")?.ok()?;
        with_token.wait_for_end(site, TIMEOUT)?;
        let output = with_token.output(site)?;
        let steps = times(&output);
        assert!(steps.len() == 3 && steps.iter().all(|(code, took)| *code == 0 && *took < WAIT_MS), "{output}");
        // The batch step of this job waits for `agent_seconds`, its other steps do not.
        let (without, _) = Job::submit(site, "alice", "sbatch --mytoken -w n1 steps.sh")?;
        without.wait_for_start(site)?;
        site.sh("alice", "touch go")?.ok()?;
        without.wait_for_end(site, TIMEOUT)?;
        let output = without.output(site)?;
        let steps = times(&output);
        assert!(steps.len() == 3 && steps.iter().all(|(code, took)| *code == 0 && *took < WAIT_MS), "{output}");
        signal("CONT")?;
        wait::until("the end of the records", TIMEOUT, || {
            Ok(site.on_node("n1", "ls -A /run/mytoken/missed")?.ok()?.stdout.is_empty().then_some(()))
        })
    })
}

/// An sshd on the node, as on a real one: its PAM service has its name.
const NODE_SSHD: &str =
    "set -e; cp /usr/sbin/sshd /usr/sbin/sshd-node; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/node_key
cat >/etc/pam.d/sshd-node <<END
auth required pam_deny.so
account required pam_slurm_adopt.so nodename=n1 service=sshd-node action_adopt_failure=deny
session required pam_permit.so
END
mkdir -p /run/sshd";

/// The line of the user guide for such a session.
const EXPORT: &str = "export BEARER_TOKEN_FILE=/run/mytoken/jobs/$SLURM_JOB_ID/bt_u$(id -u)";

/// A login of alice on the node.
const TO_NODE: &str = "ssh -p 2222 -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR -i .ssh/site_key";

#[test]
fn a_session_that_pam_slurm_adopt_puts_into_a_job_can_use_the_jobs_token() -> Result<()> {
    let options = Options { nodes: 1, slurm_adopt: true, prolog_flags: "Contain", ..Options::new()? };
    story_with_own_servers(options, |site| {
        people::first_mytoken(site, "alice")?;
        site.sh("root", NODE_SSHD)?.ok()?;
        // OpenSSH 9.8 and newer do not take the program's name.
        let service = if site.options().release == Release::Bookworm { "" } else { " -o PAMServiceName=sshd-node" };
        let sshd = "/usr/sbin/sshd-node -D -e -p 2222 -f /dev/null -h /etc/ssh/node_key -o UsePAM=yes -o PidFile=none";
        let sshd = format!("{sshd}{service}");
        site.start_daemon(Daemon::new("sshd-node", sshd.split(' ')).on("n1"))?;
        let address = addresses::node(1);
        let login = |command: &str| site.sh("alice", &format!("{TO_NODE} {address} '{command}'"));
        let before = login("true")?;
        assert!(!before.success(), "without a job there is no session: {before:?}");
        Journal::clear(site)?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --wrap 'sleep 600'")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        let bare = login("echo $SLURM_JOB_ID $BEARER_TOKEN_FILE")?;
        assert_eq!(bare.stdout, format!("{}\n", job.id), "{bare:?}");
        // The line of the user guide.
        let seen = login(&format!("{EXPORT}; head -c 3 $BEARER_TOKEN_FILE"))?;
        assert_eq!(seen.stdout, "eyJ", "{seen:?}");
        let step = login("srun --overlap --mytoken -n1 printenv BEARER_TOKEN_FILE")?;
        assert_eq!(
            (step.stdout.as_str(), step.stderr.as_str()),
            (&*format!("/run/mytoken/jobs/{}/bt_u2001\n", job.id), "")
        );
        assert_eq!(Journal::read(site)?.sub_tokens(), 1);
        Ok(())
    })
}

#[test]
fn the_owner_renews_and_revokes_the_credential_of_a_running_job() -> Result<()> {
    with_job(|site, job| {
        let id = job.id;
        let on_node = |user: &str, command: &str| site.script(user, command).on("n1").run();
        let foreign = on_node("bob", &format!("mytokenctl renew {id}; mytokenctl revoke {id}"))?;
        assert!(!foreign.success() && foreign.stderr.matches("of yours with a credential").count() == 2, "{foreign:?}");
        let first = job.token(site, "n1")?;
        on_node("root", &format!("rm /run/mytoken/jobs/{id}/bt_u2001"))?.ok()?;
        let missing = on_node("alice", &format!("mytokenctl status {id}"))?;
        assert!(missing.code == 3 && missing.stdout.contains("mytokenctl renew writes it"), "{missing:?}");
        // A token that expires in the same second is as good, and stays.
        std::thread::sleep(Duration::from_millis(1_100));
        // From the session on the login host, through Slurm.
        let renew = format!("srun --overlap --jobid {id} -N1 -n1 -w n1 mytokenctl renew {id}");
        assert!(site.sh("alice", &renew)?.ok()?.stdout.contains("access token valid until"));
        let second = job.token(site, "n1")?;
        assert!(second.is_some() && first != second, "{:?}", job.events(site, "n1")?);

        let revoked = on_node("alice", &format!("mytokenctl revoke {id}"))?.ok()?;
        assert!(revoked.stdout.contains("  revoked since "), "{revoked:?}");
        let seen = on_node("alice", &format!("mytokenctl status {id}"))?;
        let journal = Journal::read(site)?;
        assert_eq!((seen.code, job.token(site, "n1")?, journal.granted("revocation")), (3, None, 1), "{seen:?}");
        site.run("alice", ["scancel", &id.to_string()])?.ok()?;
        wait::until("the end of the job", TIMEOUT, || {
            Ok(on_node("alice", &format!("mytokenctl status {id} | grep 'ended, revoked'"))?.success().then_some(()))
        })?;
        assert_eq!(Journal::read(site)?.granted("revocation"), 1);
        Ok(())
    })
}

#[test]
fn a_running_job_gets_a_new_credential_from_the_login_host() -> Result<()> {
    on_nodes(3, |site| {
        let submit = |nodes: u8, script: &str| -> Result<Job> {
            let (job, _) =
                Job::submit(site, "alice", &format!("sbatch --mytoken -N{nodes} -n{nodes} --wrap '{script}'"))?;
            job.wait_for_start(site)?;
            Ok(job)
        };
        let job = submit(2, "srun sleep 600")?;
        job.wait_for_token(site, "n1")?;
        job.wait_for_token(site, "n2")?;
        let (held, _) = Job::submit(site, "alice", "sbatch --hold --wrap true")?;
        let pending = site.sh("alice", &format!("mytokenctl replace {}", held.id))?;
        assert!(!pending.success() && pending.stderr.contains("it is pending: its credential is in Slurm's own files"));
        assert!(!site.sh("root", &format!("mytokenctl replace {}", job.id))?.success());
        site.run("alice", ["scancel", &held.id.to_string()])?.ok()?;
        Journal::clear(site)?;

        let before = [job.token(site, "n1")?, job.token(site, "n2")?];
        let told = site.sh("alice", "mytokenctl replace --all")?;
        let line = format!("job {}: has a new credential; the old one was revoked\n", job.id);
        assert_eq!((told.stdout.as_str(), told.code), (line.as_str(), 0), "{told:?}");
        let after = [job.token(site, "n1")?, job.token(site, "n2")?];
        assert!(after.iter().all(Option::is_some) && after[0] != before[0] && after[1] != before[1]);
        let journal = Journal::read(site)?;
        assert_eq!((journal.sub_tokens(), journal.granted("revocation")), (1, 1));

        requeue(site, &job, "excnodelist=n1")?;
        // The environment of the job has the old credential. n2 knows the new one, n3 does not.
        job.wait_for_token(site, "n2")?;
        let output = format!("grep 'mytoken: no access token: .*only the nodes where it ran' slurm-{}.out", job.id);
        site.wait_for("the reason", TIMEOUT, "alice", &output)?;
        assert_eq!(Journal::read(site)?.granted("revocation"), 1, "the new one stays");

        // A job gets one new credential in ten seconds.
        std::thread::sleep(Duration::from_secs(10));
        // The nodes take a third one, and their answers are lost.
        site.sh("alice", LOSE_ANSWERS)?.ok()?;
        let before = job.token(site, "n2")?;
        let lost = site.sh("alice", &format!("mytokenctl replace --config own {}", job.id))?;
        let fate = "Perhaps a node has the new credential; the agent of this host revokes it after the job\n";
        assert!(!lost.success() && lost.stderr.ends_with(fate), "{lost:?}");
        assert_ne!(job.token(site, "n2")?, before);
        assert_eq!(Journal::read(site)?.granted("revocation"), 1, "a node uses it");

        site.run("alice", ["scancel", &job.id.to_string()])?.ok()?;
        job.wait_until_settled(site, &["n2".to_owned(), "n3".to_owned()])?;
        wait::until("the revocations", TIMEOUT, || {
            // The second one by the first node that had it, and the third by both nodes, which do not know of each other.
            Ok((Journal::read(site)?.granted("revocation") == 4).then_some(()))
        })
    })
}

/// A configuration with an srun that loses the answers of the nodes.
const LOSE_ANSWERS: &str = r#"mkdir bin && ln -s /usr/bin/squeue bin/ && cat > bin/srun <<'END' && chmod +x bin/srun
#!/bin/sh
case $* in *--take*) /usr/bin/srun "$@" >/dev/null; exit 1;; *) exec /usr/bin/srun "$@";; esac
END
mkdir -m 700 own && cp /etc/mytoken/*.toml own/ && printf "[agent]\nsqueue = '$PWD/bin/squeue'\n" >> own/jobs.toml"#;

/// Requeues a running job, which begins again after the change `update`.
fn requeue(site: &Site, job: &Job, update: &str) -> Result<()> {
    site.run("root", ["scontrol", "requeue", &job.id.to_string()])?.ok()?;
    let pending = format!("squeue -h -j {} -t PD -o %i | grep .", job.id);
    site.wait_for("the job in the queue", TIMEOUT, "root", &pending)?;
    // SLURM-28
    std::thread::sleep(Duration::from_secs(2));
    site.sh("root", &format!("scontrol update jobid={} starttime=now {update}", job.id))?.ok()?;
    job.wait_for_start(site)
}

#[test]
fn a_revocation_on_one_node_tells_which_others_keep_a_token() -> Result<()> {
    on_nodes(3, |site| {
        let (job, _) =
            Job::submit(site, "alice", "sbatch --mytoken=required -N3 -w n1,n2,n3 --wrap 'srun -N3 -n3 sleep 600'")?;
        job.wait_for_start(site)?;
        for node in ["n1", "n2", "n3"] {
            job.wait_for_token(site, node)?;
        }
        let id = job.id;
        let told = site.script("alice", &format!("mytokenctl revoke {id}")).on("n2").run()?.ok()?;
        let command = format!("srun --overlap --jobid {id} --exclude n2 -N2 -n2 mytokenctl revoke --here {id}");
        let expected = format!(
            "mytokenctl: job {id} runs on 2 other nodes, where an access token stays until it expires or is removed: {command}\n"
        );
        assert_eq!(told.stderr, expected);
        let has_token = |node| Ok::<_, testbed::Error>(job.token(site, node)?.is_some());
        assert_eq!([has_token("n1")?, has_token("n2")?, has_token("n3")?], [true, false, true]);
        let root = site.script("root", &format!("mytokenctl revoke {id}")).on("n2").run()?;
        assert!(root.stderr.ends_with("there, too: n1 n3\n"), "{root:?}");
        let others = site.sh("alice", &command)?.ok()?;
        assert!(!others.stderr.contains("mytokenctl: "), "{others:?}");
        assert_eq!([has_token("n1")?, has_token("n2")?, has_token("n3")?], [false; 3]);
        site.run("alice", ["scancel", &id.to_string()])?.ok()?;

        // The command of a component reaches it.
        let (both, _) = Job::submit(
            site,
            "alice",
            "sbatch --mytoken -N1 -w n1 : -N1 -w n3 --wrap 'srun --het-group=0,1 sleep 600'",
        )?;
        both.wait_for_start(site)?;
        let second = Job { id: both.id + 1, user: both.user.clone() };
        both.wait_for_token(site, "n1")?;
        second.wait_for_token(site, "n3")?;
        let told = site.script("alice", &format!("mytokenctl revoke {}", both.id)).on("n1").run()?.ok()?;
        let (_, command) = told.stderr.trim().split_once("or is removed: ").unwrap_or_default();
        assert!(command.contains("--het-group=1"), "{told:?}");
        assert_eq!([both.token(site, "n1")?.is_some(), second.token(site, "n3")?.is_some()], [false, true]);
        site.sh("alice", command)?.ok()?;
        assert_eq!(second.token(site, "n3")?, None);
        site.run("alice", ["scancel", &both.id.to_string()])?.ok().map(drop)
    })
}

/// With `--no-kill` a job goes on without a node that fails. That node learns of the job's end minutes later, because Slurm runs no epilog.
#[test]
fn a_job_that_goes_on_without_a_failed_node_keeps_its_token_until_its_end() -> Result<()> {
    with_alice(|site| {
        let script = "sbatch --mytoken --no-kill -N2 -w n1,n2 --wrap 'srun -N2 -n2 sleep 600; sleep 600'";
        let (job, _) = Job::submit(site, "alice", script)?;
        job.wait_for_start(site)?;
        for node in ["n1", "n2"] {
            job.wait_for_token(site, node)?;
        }
        site.sh("root", "scontrol update nodename=n2 state=down reason=story")?.ok()?;
        wait::until("the job without the node", TIMEOUT, || {
            let nodes = site.sh("root", &format!("squeue -h -t R -j {} -o %N", job.id))?.ok()?.stdout;
            Ok((nodes == "n1\n").then_some(()))
        })?;
        assert!(job.token(site, "n1")?.is_some(), "{:?}", job.events(site, "n1")?);
        assert_eq!(Journal::read(site)?.granted("revocation"), 0, "the job needs its credential");
        site.run("alice", ["scancel", &job.id.to_string()])?.ok()?;
        wait::until("the revocation", TIMEOUT, || {
            Ok((Journal::read(site)?.granted("revocation") > 0 && job.token(site, "n1")?.is_none()).then_some(()))
        })?;
        assert_eq!(Journal::read(site)?.granted("revocation"), 1, "{:?}", job.events(site, "n2")?);
        Ok(())
    })
}

/// As docs/user/jobs.md says.
#[test]
fn a_step_on_all_nodes_of_a_job_removes_its_files_there() -> Result<()> {
    with_alice(|site| {
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken -N2 -w n1,n2 --wrap 'srun -N2 -n2 sleep 600'")?;
        job.wait_for_start(site)?;
        for node in ["n1", "n2"] {
            job.wait_for_token(site, node)?;
        }
        let revoke = format!("srun --overlap --jobid {0} -N2 -n2 mytokenctl revoke --here {0}", job.id);
        let told = site.sh("alice", &revoke)?.ok()?;
        assert_eq!(told.stderr, "");
        for node in ["n1", "n2"] {
            assert_eq!(job.token(site, node)?, None, "{node}");
        }
        site.run("alice", ["scancel", &job.id.to_string()])?.ok().map(drop)
    })
}
