// SPDX-License-Identifier: MIT OR Apache-2.0
//! Outages of servers and agents, and faulty answers of servers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::drive::jobs::Job;
use testbed::drive::journal::Journal;
use testbed::drive::{askpass, people, tokens};
use testbed::site::command::CommandOutcome;
use testbed::site::services::agent;
use testbed::{Error, Need, Options, Result, Site, story_needing, story_with_own_servers, wait};

const KEY_LOGIN: &str = "ssh -o BatchMode=yes -o PreferredAuthentications=publickey -i .ssh/site_key testbed true";
const PLAIN_SSH: &str =
    "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 testbed true";
const TIMEOUT: Duration = Duration::from_secs(60);

/// `deadline` of the site's login.toml and of `[submit]`, plus the time of ssh, PAM and Slurm on a busy machine.
const DEADLINE: Duration = Duration::from_secs(10 + 5);

/// How long the helper waits for a token, plus the time of ssh.
const HELPER_LIMIT: Duration = Duration::from_secs(20 + 5);

fn with_alice(nodes: u8, body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    story_with_own_servers(Options { nodes, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        body(site)
    })
}

/// The same at any server, for outages of the provider.
fn with_alice_and_a_provider(body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    let needs = [Need::FirstToken, Need::ProviderFaults];
    let options = Options { nodes: 1, ..Options::new()? };
    story_needing(&needs, options, |site| people::first_mytoken(site, "alice").and_then(|_| body(site)))
}

fn control(site: &Site, path: &str, body: &Value) -> Result<()> {
    people::control(site, path, Some(&body.to_string())).map(drop)
}

fn set_token_server_outage(site: &Site, out: bool) -> Result<()> {
    control(site, "/outage", &json!({"service": "mytoken", "on": out}))
}

/// The provider answers with error pages, so the mytoken server answers 200 with an empty access token (MT-12).
fn break_provider(site: &Site) -> Result<()> {
    control(site, "/provider/fault", &json!({"name": "500-html"}))
}

fn clear_faults(site: &Site) -> Result<()> {
    control(site, "/clear", &json!({}))
}

fn timed(act: impl FnOnce() -> Result<CommandOutcome>) -> Result<(Duration, CommandOutcome)> {
    let start = Instant::now();
    let outcome = act()?;
    Ok((start.elapsed(), outcome))
}

/// Logs in with a short token at the prompt. Without the helper every failure comes from PAM.
fn log_in_by_hand(site: &Site, token: &str) -> Result<(Duration, CommandOutcome)> {
    timed(|| askpass::run_with_answers(site, "alice", &[token], PLAIN_SSH))
}

fn short_token(site: &Site) -> Result<String> {
    tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))
}

/// Logs in with the token, so that the host caches the servers' documents and keys, like a host in use. After a failure
/// the host does not fetch them again for a minute.
fn fill_the_hosts_caches(site: &Site, token: String) -> Result<String> {
    log_in_by_hand(site, &token)?.1.ok()?;
    Ok(token)
}

/// The messages of the product in a command's standard error, without ssh's own message about a refusal.
fn messages(outcome: &CommandOutcome) -> Vec<&str> {
    let is_of_ssh = |line: &&str| {
        line.contains("Permission denied") || line.contains("the token was sent") || line.trim().is_empty()
    };
    outcome.stderr.lines().filter(|line| !is_of_ssh(line)).collect()
}

/// Waits until every node is idle: neither drained nor down nor completing.
fn wait_for_idle_nodes(site: &Site) -> Result<()> {
    let idle = "test \"$(sinfo -h -N -o %T | tee /dev/stderr | sort -u)\" = idle";
    site.wait_for("idle nodes", Duration::from_secs(20), "root", idle).map(drop)
}

#[test]
fn a_full_disk_does_not_lose_a_rotating_token() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, ..Options::new()? }, |site| {
        let small = "mkdir -p ~alice/.config/mytoken && mount -t tmpfs -o size=64k,mode=0700,uid=2001 none ~alice/.config/mytoken && \
                     chown alice ~alice/.config";
        site.sh("root", small)?.ok()?;
        let rotating = tokens::mytoken(site, "alice", &json!({"rotation": {"on_AT": true, "on_other": true}}))?;
        tokens::store(site, "alice", &rotating)?;
        site.sh("alice", "! cat /dev/zero >.config/mytoken/ballast")?.ok()?;
        Journal::clear(site)?;
        let full = site.sh("alice", "mytoken-ssh ssh testbed true; mytoken-ssh login")?;
        assert_eq!(full.stderr.matches("there is no room for a new token").count(), 2, "{full:?}");
        assert_eq!(Journal::read(site)?.sub_tokens(), 0, "the token was used");

        site.sh("alice", "rm .config/mytoken/ballast")?.ok()?;
        site.sh("alice", "mytoken-ssh ssh testbed true")?.ok()?;
        assert_ne!(tokens::stored(site, "alice")?, rotating, "the token was not replaced");
        Ok(())
    })
}

#[test]
fn without_the_token_server_key_logins_work_and_token_logins_fail_in_time() -> Result<()> {
    with_alice(1, |site| {
        let token = fill_the_hosts_caches(site, short_token(site)?)?;
        let (before, _) = timed(|| site.sh("alice", KEY_LOGIN)?.ok())?;
        set_token_server_outage(site, true)?;
        let (during, _) = timed(|| site.sh("alice", KEY_LOGIN)?.ok())?;
        assert!(during < before * 3 + Duration::from_millis(500), "a key login took {during:?} instead of {before:?}");

        let (took, by_hand) = log_in_by_hand(site, &token)?;
        assert!(!by_hand.success() && took < DEADLINE, "{took:?} {by_hand:?}");
        assert_eq!(
            by_hand.stderr.matches("the login service is unavailable at the moment; try again later").count(),
            1,
            "{by_hand:?}"
        );
        let (took, by_helper) = timed(|| site.sh("alice", "mytoken-ssh ssh testbed true"))?;
        let messages = messages(&by_helper);
        assert!(!by_helper.success() && took < DEADLINE && messages.len() == 1, "{took:?} {by_helper:?}");
        assert!(messages.concat().contains("https://mytoken.testbed:8443"), "{messages:?}");

        set_token_server_outage(site, false)?;
        // The breaker blocks requests for 15 s.
        wait::until("a successful login", Duration::from_secs(25), || {
            Ok(log_in_by_hand(site, &token)?.1.success().then_some(()))
        })
    })
}

#[test]
fn without_the_token_server_jobs_run_and_no_node_drains() -> Result<()> {
    with_alice(2, |site| {
        set_token_server_outage(site, true)?;
        let plain = site.sh("alice", "srun -N2 echo plain")?;
        assert_eq!((plain.stdout.as_str(), plain.stderr.as_str()), ("plain\nplain\n", ""));
        let (took, optional) = timed(|| site.sh("alice", "sbatch --mytoken -N2 --wrap 'srun echo started'"))?;
        assert!(
            took < DEADLINE && optional.stderr.lines().count() == 1 && optional.stderr.contains("submitting without"),
            "{took:?} {optional:?}"
        );
        let required = site.sh("alice", "sbatch --mytoken=required --wrap 'echo never'")?;
        assert!(
            required.code == 1 && required.stdout.is_empty() && required.stderr.lines().count() == 1,
            "{required:?}"
        );
        let job = Job::submitted("alice", &optional)?;
        job.wait_for_end(site, TIMEOUT)?;
        let output = without_reason(&job.output(site)?, "cannot be reached");
        assert_eq!(output, "started\nstarted\n");
        wait_for_idle_nodes(site)
    })
}

#[test]
fn a_job_started_during_an_outage_gets_its_token_afterwards() -> Result<()> {
    with_alice(1, |site| {
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --hold --wrap 'srun sleep 300'")?;
        set_token_server_outage(site, true)?;
        site.run("root", ["scontrol", "release", &job.id.to_string()])?.ok()?;
        job.wait_for_start(site)?;
        wait::until("the agent's first failure", TIMEOUT, || {
            Ok(job.events(site, "n1")?.iter().any(|event| event.what == "retry").then_some(()))
        })?;
        assert_eq!(job.token(site, "n1")?, None);
        set_token_server_outage(site, false)?;
        job.wait_for_token(site, "n1")
    })
}

#[test]
fn a_provider_outage_is_reported_at_login_and_loses_no_token() -> Result<()> {
    with_alice_and_a_provider(|site| {
        let (token, stored) = (short_token(site)?, tokens::stored(site, "alice")?);
        break_provider(site)?;
        let (took, by_hand) = log_in_by_hand(site, &token)?;
        let by_helper = site.sh("alice", "mytoken-ssh ssh --scope 'openid profile' testbed true")?;
        let sentence = "the login service is unavailable at the moment";
        assert!(!by_hand.success() && by_hand.stderr.matches(sentence).count() == 1, "{took:?} {by_hand:?}");
        // The helper itself asks for the token.
        let told = messages(&by_helper);
        assert!(!by_helper.success() && told.len() == 1 && told.concat().contains("try again later"), "{by_helper:?}");
        assert!(!by_helper.stderr.contains(sentence), "{by_helper:?}");
        clear_faults(site)?;
        assert_eq!(tokens::stored(site, "alice")?, stored);
        log_in_by_hand(site, &token)?.1.ok()?;
        site.sh("alice", "mytoken-ssh ssh testbed true")?.ok().map(drop)
    })
}

#[test]
fn a_rotating_mytoken_survives_a_login_that_fails() -> Result<()> {
    with_alice_and_a_provider(|site| {
        let rotating = tokens::mytoken(site, "alice", &json!({"rotation": {"on_AT": true, "on_other": true}}))?;
        tokens::store(site, "alice", &rotating)?;
        break_provider(site)?;
        let failed = site.sh("alice", "mytoken-ssh ssh --delegate testbed true")?;
        assert!(!failed.success(), "{failed:?}");
        let successor = tokens::stored(site, "alice")?;
        assert_ne!(successor, rotating, "the failed login did not rotate the token");
        clear_faults(site)?;
        site.sh("alice", "mytoken-ssh ssh testbed true")?.ok()?;
        assert!(tokens::is_valid(site, &tokens::stored(site, "alice")?)?);
        Ok(())
    })
}

#[test]
fn in_a_provider_outage_the_agent_keeps_the_old_token_and_recovers() -> Result<()> {
    with_alice(1, |site| {
        control(site, "/provider/lifetime", &json!({"seconds": 30}))?;
        let (job, _) = Job::submit(site, "alice", "sbatch --mytoken --wrap 'srun sleep 300'")?;
        job.wait_for_start(site)?;
        job.wait_for_token(site, "n1")?;
        let first = job.token(site, "n1")?;
        break_provider(site)?;
        let retry = wait::until("the agent's failure", TIMEOUT, || {
            Ok(job.events(site, "n1")?.into_iter().find(|event| event.what == "retry"))
        })?;
        assert!(retry.text.contains("the old access token stays, the agent tries again"), "{retry:?}");
        assert_eq!(job.token(site, "n1")?, first);
        clear_faults(site)?;
        wait::until("a new access token", TIMEOUT, || {
            Ok(job.token(site, "n1")?.filter(|token| Some(token) != first.as_ref()).map(drop))
        })
    })
}

/// A job's output without its first line, which says why the job has no access token.
fn without_reason(output: &str, reason: &str) -> String {
    let (first, rest) = output.split_once('\n').unwrap_or_default();
    assert!(first.contains("mytoken: no access token: ") && first.contains(reason), "{output}");
    rest.to_owned()
}

#[test]
fn a_broader_sub_token_is_revoked_and_no_job_gets_it() -> Result<()> {
    with_alice(1, |site| {
        Journal::clear(site)?;
        control(site, "/mytoken/fault", &json!({"name": "broader-child"}))?;
        let (job, outcome) = Job::submit(site, "alice", "sbatch --mytoken --wrap 'echo \"<$SLURM_MYTOKEN>\"'")?;
        job.wait_for_end(site, TIMEOUT)?;
        assert!(
            outcome.stderr.contains("more rights than asked for") && outcome.stderr.contains("submitting without"),
            "{outcome:?}"
        );
        let journal = Journal::read(site)?;
        assert_eq!(
            (
                journal.sub_tokens(),
                journal.granted("revocation"),
                journal.requests_to("access_token"),
                without_reason(&job.output(site)?, "more rights than asked for").as_str()
            ),
            (1, 1, 0, "<>\n")
        );
        Ok(())
    })
}

#[test]
fn a_broader_delegated_mytoken_is_revoked_and_no_host_gets_it() -> Result<()> {
    with_alice(1, |site| {
        for command in ["mytoken-ssh ssh --delegate testbed true", "mytoken-ssh code testbed"] {
            Journal::clear(site)?;
            control(site, "/mytoken/fault", &json!({"name": "broader-child", "times": 1}))?;
            let seen = site.sh("alice", command)?;
            let journal = Journal::read(site)?;
            assert!(!seen.success() && seen.stderr.contains("more rights than asked for"), "{seen:?}");
            assert_eq!(
                (journal.sub_tokens(), journal.granted("revocation"), journal.requests_to("access_token")),
                (1, 1, 0),
                "{seen:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_slow_server_delays_no_command_beyond_its_deadline() -> Result<()> {
    with_alice(1, |site| {
        let token = fill_the_hosts_caches(site, short_token(site)?)?;
        for fault in [json!({"name": "latency", "ms": 60_000}), json!({"name": "drip", "ms": 900})] {
            control(site, "/mytoken/fault", &fault)?;
            let (login, submission, helper) = std::thread::scope(|scope| {
                let submission = scope.spawn(|| timed(|| site.sh("alice", "sbatch --mytoken=required --wrap true")));
                let helper = scope.spawn(|| timed(|| site.sh("alice", "mytoken-ssh ssh testbed true")));
                (log_in_by_hand(site, &token), submission.join(), helper.join())
            });
            let panicked = |_| Error::Refused("a thread of the story panicked".into());
            let ((took, login), submission, helper) =
                (login?, submission.map_err(panicked)??, helper.map_err(panicked)??);
            assert!(!login.success() && took < DEADLINE, "{fault}: {took:?} {login:?}");
            assert_eq!(login.stderr.matches("the login service is unavailable").count(), 1, "{fault}: {login:?}");
            assert!(submission.1.code == 1 && submission.0 < DEADLINE, "{fault}: {submission:?}");
            assert!(!helper.1.success() && helper.0 < HELPER_LIMIT, "{fault}: {helper:?}");
            assert_eq!(messages(&helper.1).len(), 1, "{fault}: {helper:?}");
            clear_faults(site)?;
        }
        Ok(())
    })
}

#[test]
fn an_interrupted_submission_leaves_no_sub_token() -> Result<()> {
    with_alice(1, |site| {
        // Afterwards the server's discovery document is in alice's cache, and the interrupted request is the one for the sub-token.
        site.sh("alice", "sbatch --mytoken --wrap true")?.ok()?;
        wait::until("the end of the first job", Duration::from_secs(20), || {
            Ok((Journal::read(site)?.granted("revocation") == 1).then_some(()))
        })?;
        Journal::clear(site)?;
        control(site, "/mytoken/fault", &json!({"name": "latency", "ms": 1500}))?;
        // SIGINT goes to the whole process group, as with Ctrl-C on a terminal.
        let seen = site.sh("alice", "timeout --signal INT 1 sbatch --mytoken --wrap true")?;
        assert!(!seen.success() && !seen.stdout.contains("Submitted"), "{seen:?}");
        wait::until("the end of its sub-token", Duration::from_secs(20), || {
            let journal = Journal::read(site)?;
            Ok(((journal.sub_tokens(), journal.granted("revocation")) == (1, 1)).then_some(()))
        })
    })
}

#[test]
fn an_interrupted_submission_does_not_lose_a_rotating_mytoken() -> Result<()> {
    with_alice(1, |site| {
        let rotating = tokens::mytoken(site, "alice", &json!({"rotation": {"on_AT": true, "on_other": true}}))?;
        tokens::store(site, "alice", &rotating)?;
        // As above.
        site.sh("alice", "sbatch --mytoken=required --wrap true")?.ok()?;
        let before = tokens::stored(site, "alice")?;
        control(site, "/mytoken/fault", &json!({"name": "latency", "ms": 1500}))?;
        site.sh("alice", "timeout --signal INT 1 sbatch --mytoken --wrap true")?;
        wait::until("the successor in the store", Duration::from_secs(20), || {
            Ok((tokens::stored(site, "alice")? != before).then_some(()))
        })?;
        clear_faults(site)?;
        site.sh("alice", "sbatch --mytoken=required --wrap true")?.ok().map(drop)
    })
}

#[test]
fn error_pages_and_too_many_requests_are_reported_in_one_sentence() -> Result<()> {
    with_alice(1, |site| {
        let token = fill_the_hosts_caches(site, short_token(site)?)?;
        for (fault, sentence) in [
            (json!({"name": "500-html"}), "the login service is unavailable"),
            (json!({"name": "429", "retry_after": 7}), "too many logins at the moment; try again in"),
        ] {
            control(site, "/mytoken/fault", &fault)?;
            let (_, login) = log_in_by_hand(site, &token)?;
            assert_eq!(login.stderr.matches(sentence).count(), 1, "{fault}: {login:?}");
            let submission = site.sh("alice", "sbatch --mytoken=required --wrap true")?;
            assert!(submission.code == 1 && submission.stderr.lines().count() == 1, "{fault}: {submission:?}");
            assert!(!submission.stderr.contains('<'), "the message contains HTML: {submission:?}");
            let helper = site.sh("alice", "mytoken-ssh ssh testbed true")?;
            assert!(!helper.success() && messages(&helper).len() == 1, "{fault}: {helper:?}");
            clear_faults(site)?;
        }
        wait::until("the end of the 7 s", Duration::from_secs(20), || {
            Ok(log_in_by_hand(site, &token)?.1.success().then_some(()))
        })
    })
}

#[test]
fn without_an_agent_the_job_runs_and_its_owner_gets_a_message() -> Result<()> {
    with_alice(1, |site| {
        site.stop(&agent::name("n1"), "TERM")?;
        let ran = site.sh("alice", "srun --mytoken echo ran")?;
        assert_eq!(ran.stdout, "ran\n", "{ran:?}");
        assert!(ran.stderr.contains("no access token"), "{ran:?}");
        let required = site.sh("alice", "srun --mytoken=required echo never")?;
        assert!(
            !required.success() && required.stdout.is_empty() && required.stderr.contains("requires an access token"),
            "{required:?}"
        );
        wait_for_idle_nodes(site)
    })
}

#[test]
fn without_an_agent_a_login_still_has_its_token() -> Result<()> {
    with_alice(1, |site| {
        site.stop("agent", "KILL")?;
        let (took, inside) = timed(|| site.sh("alice", "mytoken-ssh ssh testbed 'cat $BEARER_TOKEN_FILE'"))?;
        assert!(inside.success() && inside.stdout.starts_with("eyJ") && took < DEADLINE, "{took:?} {inside:?}");
        Ok(())
    })
}
