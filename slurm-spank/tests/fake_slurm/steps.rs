// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hooks in slurmstepd and in epilogs.

use std::path::Path;
use std::time::{Duration, Instant};

use super::agent::FakeAgent;
use super::host::{ALLOCATOR, HANDLE, Host, HostOutput, JOB_SCRIPT, LOCAL, SEALED};

pub const BATCH: u32 = 0xffff_fffb;

/// The step of the shell of salloc.
const INTERACTIVE: u32 = 0xffff_fffa;
const EXTERN: u32 = 0xffff_fffc;

pub fn credential_variables() -> [String; 2] {
    [format!("job SLURM_MYTOKEN {SEALED}"), format!("job SLURM_SPANK_MYTOKEN_H {HANDLE}")]
}

/// Runs the hooks in slurmstepd's order, with the task in its own process.
pub fn step(host: Host, agent: &FakeAgent, environment: &[&str]) -> HostOutput {
    host.line(&agent.argument())
        .lines(environment)
        .lines(&["load", "hook init", "hook init_post_opt", "task task_init"])
        .run()
}

pub fn with_credential(agent: &FakeAgent, more: &[&str]) -> HostOutput {
    let [sealed, handle] = credential_variables();
    step(Host::step(BATCH).lines(&[&sealed, &handle]), agent, more)
}

pub fn started(state: &str, required: bool) -> String {
    format!(
        r#"{{"v":1,"started":{{"path":"/run/mytoken/jobs/4711/bt_u2001","state":"{state}","reason":"the sub-token has expired","required":{required}}}}}"#
    )
}

pub const TASK_RUNS: &str = "task status 0 signal 0";
pub const TASK_REFUSED: &str = "task status 1 signal 0";

#[test]
fn a_job_without_credential_sends_no_request() {
    let agent = FakeAgent::ready();
    let seen = step(Host::step(BATCH), &agent, &["job HOME /home/alice", "job BEARER_TOKEN mine"]);
    assert!(seen.all_zero() && seen.has(TASK_RUNS) && seen.logs().is_empty());
    assert_eq!((seen.job("BEARER_TOKEN_FILE"), seen.job("BEARER_TOKEN")), (None, Some("mine")));
    assert!(agent.requests().is_empty());
}

#[test]
fn a_step_with_credential_asks_the_agent_once_and_gets_the_file() {
    let agent = FakeAgent::ready();
    let inherited = ["job BEARER_TOKEN mine", "job BEARER_TOKEN_FILE /run/mytoken/sessions/2001/x/bt_u2001"];
    let seen = with_credential(&agent, &inherited);
    assert!(seen.all_zero() && seen.has("task hook 0") && seen.has(TASK_RUNS), "{:?}", seen.lines);
    assert_eq!(seen.job("BEARER_TOKEN_FILE"), Some("/run/mytoken/jobs/4711/bt_u2001"));
    assert_eq!(seen.job("BEARER_TOKEN"), None);
    // Steps on other nodes get the credential from the environment of this step.
    assert_eq!(seen.job("SLURM_MYTOKEN"), Some(SEALED));
    let wanted = format!(
        r#"{{"v":1,"call":"job_start","job":4711,"step":{BATCH},"uid":2001,"gid":3001,"sealed":"{SEALED}","handle":"{HANDLE}"}}"#
    );
    assert_eq!(agent.requests(), [wanted]);
}

#[test]
fn a_requeued_job_without_a_token_is_told_of_replaced_credentials() {
    for (answer, restarts, told) in [
        (started("failed", false), "job SLURM_RESTART_COUNT 1", 1),
        (started("failed", false), "job HOME /home/alice", 0),
        (started("ready", false), "job SLURM_RESTART_COUNT 1", 0),
    ] {
        let seen = with_credential(&FakeAgent::answering(Some(&answer)), &[restarts]);
        let lines = seen.logs();
        let about = lines.iter().filter(|line| line.contains("only the nodes where it ran then know that one"));
        assert_eq!(about.count(), told, "{lines:?}");
    }
}

#[test]
fn a_step_from_outside_the_job_gets_the_file_of_a_job_with_a_directory() {
    let agent = FakeAgent::ready();
    let attached = |agent: &FakeAgent| step(Host::step(7), agent, &["job HOME /home/alice", "arg agent_seconds=1"]);
    std::fs::create_dir_all(Path::new(&agent.file(4712, 2001)).parent().unwrap()).unwrap();
    assert_eq!(attached(&agent).job("BEARER_TOKEN_FILE"), None, "the directory is another job's");
    assert!(agent.requests().is_empty());
    std::fs::create_dir_all(Path::new(&agent.file(4711, 2001)).parent().unwrap()).unwrap();
    let seen = attached(&agent);
    assert!(seen.all_zero() && seen.has(TASK_RUNS) && seen.logs().is_empty(), "{:?}", seen.lines);
    assert_eq!(seen.job("BEARER_TOKEN_FILE"), Some("/run/mytoken/jobs/4711/bt_u2001"));
    assert_eq!(agent.requests(), [r#"{"v":1,"call":"job_start","job":4711,"step":7,"uid":2001,"gid":3001}"#]);
    // Its user is told when there is no token, although it is not the job's first step.
    let refused = FakeAgent::answering(Some(&started("failed", false)));
    std::fs::create_dir_all(Path::new(&refused.file(4711, 2001)).parent().unwrap()).unwrap();
    let seen = attached(&refused);
    assert!(seen.has(TASK_RUNS) && seen.logs().contains(&"error mytoken: no access token: the sub-token has expired"));
}

#[test]
fn a_step_from_outside_that_wants_a_token_is_told_where_there_is_none() {
    let agent = FakeAgent::ready();
    let wanted = |option: &str| {
        let lines = [&agent.argument(), "job SLURM_MYTOKEN_WANTED 1", "load", "hook init", option];
        Host::step(7).lines(&lines).lines(&["hook init_post_opt", "task task_init"]).run()
    };
    let seen = wanted("option-null");
    assert!(seen.all_zero() && seen.has(TASK_RUNS) && seen.job("BEARER_TOKEN_FILE").is_none(), "{:?}", seen.lines);
    assert!(
        seen.logs()[1].starts_with("error mytoken: no access token: no step from inside the job"),
        "{:?}",
        seen.logs()
    );
    let seen = wanted("option required");
    assert!(seen.all_zero() && seen.has(TASK_REFUSED), "{:?}", seen.lines);
    assert!(seen.logs()[1].contains("does not start without it: no step from inside the job"), "{:?}", seen.logs());
    assert!(agent.requests().is_empty());
}

#[test]
fn only_tasks_of_an_array_send_its_id() {
    let agent = FakeAgent::ready();
    with_credential(&agent, &["item 30 4700", "item 31 3"]);
    assert!(agent.requests()[0].contains(r#""array_job":4700"#), "{:?}", agent.requests());
    with_credential(&agent, &["item 30 0", "item 31 0"]);
    assert!(!agent.requests()[1].contains("array_job"), "{:?}", agent.requests());
}

#[test]
fn the_extern_step_does_nothing() {
    let agent = FakeAgent::ready();
    let [sealed, handle] = credential_variables();
    let seen = step(Host::step(EXTERN).lines(&[&sealed, &handle]), &agent, &[]);
    assert!(seen.all_zero() && seen.job("BEARER_TOKEN_FILE").is_none() && agent.requests().is_empty());
}

#[test]
fn a_handle_without_sealed_text_gets_the_reason() {
    let agent = FakeAgent::answering(Some(r#"{"v":1,"error":"the credential was lost by --export-file"}"#));
    let seen = step(Host::step(BATCH).line(&credential_variables()[1]), &agent, &[]);
    assert!(seen.all_zero() && seen.has(TASK_RUNS));
    assert!(agent.requests()[0].contains(HANDLE) && !agent.requests()[0].contains("sealed"), "{:?}", agent.requests());
    let (log, output) = (seen.logs()[0], seen.logs()[1]);
    assert_eq!(log, "info mytoken: job 4711: no access token: the credential was lost by --export-file");
    assert_eq!(output, "error mytoken: no access token: the credential was lost by --export-file");
}

#[test]
fn ids_come_from_slurm_and_malformed_credentials_are_not_sent() {
    let agent = FakeAgent::ready();
    let long = format!("job SLURM_MYTOKEN mt1.0123abcd.{}", "A".repeat(16 * 1024));
    for hostile in ["job SLURM_MYTOKEN ../../etc/shadow", "job SLURM_MYTOKEN mt1.0123abcd.A\u{7f}", long.as_str()] {
        let environment = [hostile, "job SLURM_JOB_ID 1", "job SLURM_JOB_UID 0", "job SLURM_SPANK_MYTOKEN_H $(id)"];
        let seen = step(Host::step(BATCH), &agent, &environment);
        assert!(seen.all_zero() && seen.has(TASK_RUNS));
        let request = agent.requests().pop().unwrap();
        assert_eq!(request, format!(r#"{{"v":1,"call":"job_start","job":4711,"step":{BATCH},"uid":2001,"gid":3001}}"#));
    }
}

#[test]
fn steps_run_when_the_agent_is_down_hangs_or_misbehaves() {
    for agent in [
        FakeAgent::down(),
        FakeAgent::answering(None),
        FakeAgent::closing_connections(),
        FakeAgent::answering(Some("nonsense")),
        FakeAgent::answering(Some(r#"{"v":1,"done":{}}"#)),
        FakeAgent::answering(Some(r#"{"v":7,"done":{}}"#)),
        FakeAgent::answering(Some(&"x".repeat(100_000))),
        FakeAgent::answering(Some(&started("failed", false))),
    ] {
        let start = Instant::now();
        let seen = with_credential(&agent, &["arg agent_seconds=1"]);
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        assert!(seen.all_zero() && seen.has("task hook 0") && seen.has(TASK_RUNS), "{:?}", seen.lines);
        // One line in slurmd's log and one in the job's output.
        assert!(
            matches!(&seen.logs()[..], [log, output] if log.starts_with("info ") && output.starts_with("error mytoken: no access token: ")),
            "{:?}",
            seen.logs()
        );
        let file = seen.job("BEARER_TOKEN_FILE").unwrap();
        assert!(file == agent.file(4711, 2001) || file == "/run/mytoken/jobs/4711/bt_u2001", "{file}");
    }
}

#[test]
fn an_invalid_path_from_the_agent_is_not_used() {
    for path in ["relative", "/run/a\\nLD_PRELOAD=/x"] {
        let agent = FakeAgent::answering(Some(&format!(r#"{{"v":1,"started":{{"path":"{path}","state":"ready"}}}}"#)));
        let seen = with_credential(&agent, &[]);
        assert_eq!(seen.job("BEARER_TOKEN_FILE"), Some(agent.file(4711, 2001).as_str()));
    }
}

#[test]
fn a_job_that_requires_a_token_runs_with_one() {
    let agent = FakeAgent::answering(Some(&started("ready", true)));
    let seen = with_credential(&agent, &[]);
    assert!(seen.all_zero() && seen.has(TASK_RUNS) && seen.logs().is_empty(), "{:?}", seen.lines);
}

#[test]
fn a_job_that_requires_a_token_fails_with_a_reason_without_one() {
    let agent = FakeAgent::answering(Some(&started("failed", true)));
    let seen = with_credential(&agent, &[]);
    assert!(seen.all_zero() && seen.has(TASK_REFUSED), "{:?}", seen.lines);
    let wanted =
        "error mytoken: this job requires an access token and does not start without it: the sub-token has expired";
    assert_eq!(seen.logs().last(), Some(&wanted));
}

#[test]
fn a_step_waits_for_a_restarting_agent() {
    let agent = FakeAgent::restarting(Duration::from_millis(800), &started("ready", false));
    let seen = with_credential(&agent, &[]);
    assert!(seen.all_zero() && seen.has(TASK_RUNS) && seen.logs().is_empty(), "{:?}", seen.lines);
    // A job that requires its token waits longer.
    let required = ["job SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken required"];
    let agent = FakeAgent::restarting(Duration::from_millis(2200), &started("ready", true));
    let seen = with_credential(&agent, &required);
    assert!(seen.all_zero() && seen.has(TASK_RUNS) && seen.logs().is_empty(), "{:?}", seen.lines);
}

#[test]
fn only_the_first_task_of_a_node_prints_the_reason() {
    let agent = FakeAgent::answering(Some(&started("failed", true)));
    let seen = with_credential(&agent, &["item 11 5"]);
    assert!(seen.has(TASK_REFUSED) && seen.logs().iter().all(|line| line.starts_with("info ")), "{:?}", seen.lines);
}

#[test]
fn without_required_only_the_first_step_prints_the_reason() {
    let agent = FakeAgent::answering(Some(&started("failed", false)));
    let errors = |seen: &HostOutput| seen.logs().iter().filter(|line| line.starts_with("error ")).count();
    assert_eq!(errors(&with_credential(&agent, &[])), 1);
    assert_eq!(errors(&with_credential(&agent, &["item 11 5"])), 0);
    let [sealed, handle] = credential_variables();
    let later = step(Host::step(7).lines(&[&sealed, &handle]), &agent, &[]);
    assert!(later.has(TASK_RUNS) && errors(&later) == 0, "{:?}", later.logs());
}

#[test]
fn required_is_enforced_without_an_agent() {
    let agent = FakeAgent::down();
    let inherited = ["job SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken required:data"];
    assert!(with_credential(&agent, &inherited).has(TASK_REFUSED));
    let [sealed, handle] = credential_variables();
    let seen = Host::step(0)
        .line(&agent.argument())
        .lines(&[
            &sealed,
            &handle,
            "load",
            "hook init",
            "option required",
            "option required",
            "hook init_post_opt",
            "task task_init",
        ])
        .run();
    assert!(seen.all_zero() && seen.has(TASK_REFUSED), "{:?}", seen.lines);
}

#[test]
fn required_without_a_credential_has_no_effect_on_a_node() {
    let agent = FakeAgent::down();
    let seen = step(Host::step(0), &agent, &["job SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken required"]);
    assert!(seen.has(TASK_RUNS) && seen.logs().is_empty());
}

#[test]
fn an_invalid_option_on_a_node_is_ignored() {
    let seen = Host::step(0).lines(&["load", "hook init", "option ../x", "hook init_post_opt", "task task_init"]).run();
    assert!(seen.all_zero() && seen.has(TASK_RUNS) && seen.logs().is_empty(), "{:?}", seen.lines);
}

#[test]
fn a_task_waits_for_a_pending_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bt_u2001");
    let answer = started("pending", true).replace("/run/mytoken/jobs/4711/bt_u2001", &file.display().to_string());
    let agent = FakeAgent::answering(Some(&answer));
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        std::fs::write(&file, "token").unwrap();
    });
    let seen = with_credential(&agent, &[]);
    writer.join().unwrap();
    assert!(seen.has(TASK_RUNS) && seen.took >= Duration::from_millis(400), "{:?} {:?}", seen.took, seen.lines);
}

#[test]
fn a_task_waits_for_a_limited_time() {
    let agent = FakeAgent::answering(Some(&started("pending", true)));
    let seen = with_credential(&agent, &[]);
    assert!(seen.has(TASK_REFUSED) && seen.took < Duration::from_secs(9), "{:?} {:?}", seen.took, seen.lines);
    assert!(seen.logs().last().unwrap().contains("within 5 s"), "{:?}", seen.logs());
    // Without `required` a task does not wait.
    let seen = with_credential(&FakeAgent::answering(Some(&started("pending", false))), &[]);
    assert!(seen.has(TASK_RUNS) && seen.took < Duration::from_secs(3));
    let output = seen.logs().last().copied();
    assert_eq!(output, Some("error mytoken: no access token yet: the sub-token has expired"));
}

#[test]
fn a_job_is_told_once_that_it_has_no_token_whatever_step_it_begins_with() {
    let [sealed, handle] = credential_variables();
    let is_told = |agent: &FakeAgent, number: u32, reason: &str| {
        let seen = step(Host::step(number).lines(&[&sealed, &handle]), agent, &["arg agent_seconds=1"]);
        assert!(seen.has(TASK_RUNS), "{number}: {:?}", seen.lines);
        let lines = seen.logs();
        lines.iter().any(|line| line.starts_with("error mytoken: no access token: ") && line.contains(reason))
    };
    let failed = |is_first: bool| {
        let members = format!(r#""state":"failed","is_first":{is_first},"#);
        FakeAgent::answering(Some(&started("failed", false).replace(r#""state":"failed","#, &members)))
    };
    for (number, told) in [(0, true), (BATCH, true), (INTERACTIVE, true), (1, false), (7, false)] {
        assert_eq!(is_told(&failed(false), number, "the sub-token has expired"), told, "{number}");
    }
    // A further node of the job, whose first step is a later one.
    assert!(is_told(&failed(true), 7, "the sub-token has expired"));
    // Without an agent, the record of the start tells the steps apart.
    let down = FakeAgent::down();
    assert_eq!([7, 8].map(|number| is_told(&down, number, "did not answer")), [true, false]);
}

#[test]
fn the_task_hook_does_nothing_at_submission() {
    for context in [LOCAL, ALLOCATOR] {
        assert!(Host::new(context).lines(&["load", "hook init", "task task_init"]).run().has(TASK_RUNS));
    }
}

pub fn epilog(agent: &FakeAgent, more: &[&str]) -> HostOutput {
    let host = Host::new(JOB_SCRIPT).lines(&["item 0 2001", "item 1 3001", "item 2 4711"]).line(&agent.argument());
    host.lines(more).lines(&["load", "hook job_epilog"]).run()
}

#[test]
fn the_epilog_of_a_job_with_credential_calls_the_agent() {
    let agent = FakeAgent::answering(Some(r#"{"v":1,"done":{}}"#));
    let seen = epilog(&agent, &[&format!("env SPANK_MYTOKEN_H {HANDLE}")]);
    assert!(seen.all_zero() && seen.logs().is_empty());
    assert_eq!(agent.requests(), [r#"{"v":1,"call":"job_end","job":4711}"#]);
    let long = format!("env SLURM_JOB_NODELIST {}", "n1,".repeat(8_000));
    let eight = r#","nodes":"n[1-8]""#;
    for (nodes, told) in [("env SLURM_JOB_NODELIST n[1-8]", eight), ("env SLURM_NODELIST n[1-8]", eight), (&long, "")] {
        let agent = FakeAgent::answering(Some(r#"{"v":1,"done":{}}"#));
        assert!(epilog(&agent, &[&format!("env SPANK_MYTOKEN_H {HANDLE}"), nodes]).all_zero());
        assert_eq!(agent.requests(), [format!(r#"{{"v":1,"call":"job_end","job":4711{told}}}"#)]);
    }
}

#[test]
fn the_epilog_of_another_job_calls_the_agent_only_if_it_has_files() {
    let agent = FakeAgent::answering(Some(r#"{"v":1,"done":{}}"#));
    assert!(epilog(&agent, &[]).all_zero());
    assert!(agent.requests().is_empty());
    std::fs::create_dir_all(Path::new(&agent.file(4711, 2001)).parent().unwrap()).unwrap();
    assert!(epilog(&agent, &[]).all_zero());
    assert_eq!(agent.requests().len(), 1);
}

#[test]
fn an_epilog_is_short_and_never_fails() {
    for agent in [
        FakeAgent::down(),
        FakeAgent::answering(None),
        FakeAgent::closing_connections(),
        FakeAgent::answering(Some("nonsense")),
    ] {
        let seen = epilog(&agent, &[&format!("env SPANK_MYTOKEN_H {HANDLE}")]);
        assert!(seen.has("hook job_epilog 0") && seen.took < Duration::from_secs(3), "{:?}", seen.took);
        assert!(seen.logs().iter().all(|line| line.starts_with("info ")), "{:?}", seen.logs());
    }
}

#[test]
fn a_job_without_its_credential_is_told_the_reason_of_its_submission() {
    let agent = FakeAgent::ready();
    let reason = "job SLURM_MYTOKEN_REASON your session \x1b[31mhas none";
    let seen = step(Host::step(BATCH), &agent, &[reason]);
    assert!(seen.all_zero() && seen.has(TASK_RUNS), "{:?}", seen.lines);
    assert_eq!(seen.logs(), ["error mytoken: no access token: your session ?[31mhas none"]);
    assert_eq!((seen.job("SLURM_MYTOKEN_REASON"), seen.job("BEARER_TOKEN_FILE")), (None, None));
    let seen = step(Host::step(0), &agent, &[reason]);
    assert!(seen.has(TASK_RUNS) && seen.logs().is_empty(), "the batch step has told it");
    assert!(agent.requests().is_empty());
}
