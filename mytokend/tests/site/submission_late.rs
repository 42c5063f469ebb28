// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-submit` and `mytokenctl attach` when the server fails or answers too late, and when nobody waits for the answer.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{TestSite, eventually};

/// `mytokenctl attach`.
pub fn attach(site: &TestSite) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mytokenctl"));
    command.args(["attach", "--config"]).arg(site.config());
    command.env("HOME", site.home()).env("MYTOKEN_FILE", site.dir.path().join("mt"));
    command
}

/// Status of each request to the endpoint.
fn answers(site: &TestSite, endpoint: &str) -> Vec<u64> {
    let requests = site.journal();
    let mine = requests.iter().filter(|request| request["endpoint"] == endpoint);
    mine.map(|request| request["status"].as_u64().unwrap_or_default()).collect()
}

/// A site with a session, whose discovery document is in the user's cache, and an empty journal.
fn warm_site() -> TestSite {
    let site = TestSite::new(60);
    site.log_in();
    let sub_token = site.open(&site.submit().0).sub_token;
    site.revoke(&sub_token);
    assert_eq!(site.sub_tokens(), Vec::<String>::new());
    site.clear_journal();
    site
}

/// The same with a deadline of 10 s.
fn patient_site() -> TestSite {
    let site = warm_site();
    let drop_ins = site.config().join("jobs.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("deadline.toml"), "[submit]\ndeadline = '10s'\n").unwrap();
    site
}

/// Waits until no process is left, and compares the numbers of sub-tokens that were made and revoked.
fn assert_revoked(site: &TestSite, made: usize, revoked: usize) {
    eventually("the revocation", || answers(site, "revocation").len() >= revoked);
    eventually("the end of mytoken-submit", || site.submitting().is_empty());
    assert_eq!((answers(site, "mytoken"), answers(site, "revocation")), (vec![200; made], vec![204; revoked]));
    assert_eq!(site.sub_tokens().len(), made - revoked);
}

/// Waits until the sub-token that nobody took is revoked and no process is left.
fn assert_revoked_once(site: &TestSite) {
    assert_revoked(site, 1, 1);
}

#[test]
fn a_single_failure_of_the_server_costs_one_request_more() {
    let site = warm_site();
    site.control("/mytoken/fault", &json!({"name": "500-html", "endpoint": "mytoken", "times": 1}));
    let (_, handle) = site.submit();
    assert_eq!(answers(&site, "mytoken"), [500, 200]);
    assert_eq!(site.sub_tokens(), [format!("site:{handle}")]);
    site.control("/mytoken/fault", &json!({"name": "500-html", "endpoint": "mytoken", "times": 2}));
    let printed = site.submit_with(&["--profile", "default"]);
    assert!(printed.line["error"].as_str().unwrap().contains("try again later"), "{printed:?}");
    assert_eq!(answers(&site, "mytoken"), [500, 200, 500, 500]);
}

#[test]
fn a_rotating_mytoken_is_not_used_twice_after_a_failure() {
    let site = warm_site();
    fs::remove_file(site.dir.path().join("mt")).unwrap();
    site.store(&site.mytoken(&json!({"rotation": {"on_AT": true, "on_other": true}})));
    site.clear_journal();
    site.control("/mytoken/fault", &json!({"name": "500-html", "endpoint": "mytoken", "times": 1}));
    assert!(site.submit_with(&["--profile", "default"]).line["error"].is_string());
    assert_eq!(answers(&site, "mytoken"), [500]);
    site.submit();
}

#[test]
fn a_server_that_starts_again_costs_nothing() {
    let site = warm_site();
    site.control("/outage", &json!({"service": "mytoken", "on": true}));
    std::thread::scope(|scope| {
        let submission = scope.spawn(|| site.submit());
        std::thread::sleep(Duration::from_millis(100));
        site.control("/outage", &json!({"service": "mytoken", "on": false}));
        submission.join().unwrap();
    });
}

#[test]
fn what_comes_after_the_deadline_is_revoked() {
    let site = warm_site();
    // The deadline is 3 s. The server makes each sub-token at once and answers late.
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 5000, "endpoint": "mytoken", "times": 2}));
    let printed = site.submit_with(&["--profile", "default"]);
    assert!(printed.line["error"].as_str().unwrap().contains("did not answer within 3 s"), "{printed:?}");
    assert!(printed.took < Duration::from_secs(4), "{:?}", printed.took);
    assert_eq!(site.sub_tokens().len(), 2, "the server has made them");
    assert_revoked(&site, 2, 2);
}

#[test]
fn one_request_that_hangs_costs_no_credential() {
    let site = patient_site();
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 8000, "endpoint": "mytoken", "times": 1}));
    let printed = site.submit_with(&["--profile", "default"]);
    assert!(printed.status.success() && printed.took < Duration::from_secs(6), "{printed:?}");
    let credential = site.open(printed.line["sealed"].as_str().unwrap());
    assert_eq!((answers(&site, "mytoken").len(), site.sub_tokens().len()), (2, 2));
    assert_revoked(&site, 2, 1);
    assert!(site.access_token(&credential.sub_token).is_ok(), "it was the other one");
}

#[test]
fn one_request_that_hangs_costs_attach_no_credential() {
    let site = patient_site();
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 8000, "endpoint": "mytoken", "times": 1}));
    let begin = Instant::now();
    let output = attach(&site).output().unwrap();
    assert!(output.status.success() && begin.elapsed() < Duration::from_secs(6), "{output:?} {:?}", begin.elapsed());
    let printed = String::from_utf8(output.stdout).unwrap();
    let credential = site.open(printed.lines().find_map(|line| line.strip_prefix("SLURM_MYTOKEN=")).unwrap());
    assert_revoked(&site, 2, 1);
    assert!(site.access_token(&credential.sub_token).is_ok(), "it was the other one");
}

#[test]
fn an_attach_that_is_interrupted_leaves_no_sub_token() {
    let site = patient_site();
    for (number, signal) in (1..).zip([Signal::SIGTERM, Signal::SIGKILL]) {
        site.control("/mytoken/fault", &json!({"name": "latency", "ms": 2500, "endpoint": "mytoken", "times": 1}));
        let child = attach(&site).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The server makes it at once and answers late.
        eventually("the sub-token", || site.sub_tokens().len() == 1);
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.signal(), output.stdout), (Some(signal as i32), Vec::new()), "it had no answer");
        assert_revoked(&site, number, number);
    }
}

#[test]
fn what_attach_cannot_print_is_revoked() {
    let site = warm_site();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = attach(&site).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("mytokenctl: No space left on device"), "{output:?}");
    assert_revoked_once(&site);
}

#[test]
fn a_discovery_document_that_does_not_come_costs_no_credential() {
    let site = warm_site();
    fs::remove_dir_all(site.home().join(".cache")).unwrap();
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 5000, "times": 1}));
    site.submit();
    assert_revoked(&site, 1, 0);
}

#[test]
fn a_rotating_mytoken_is_not_used_twice_at_the_same_time() {
    let site = warm_site();
    fs::remove_file(site.dir.path().join("mt")).unwrap();
    site.store(&site.mytoken(&json!({"rotation": {"on_AT": true, "on_other": true}})));
    site.clear_journal();
    // A second request would be sent after a third of the deadline.
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 1700, "endpoint": "mytoken", "times": 1}));
    site.submit();
    assert_eq!(answers(&site, "mytoken"), [200]);
    site.submit();
}

#[test]
fn what_a_killed_submission_left_is_revoked() {
    let site = warm_site();
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 1500, "endpoint": "mytoken", "times": 1}));
    let begin = Instant::now();
    let mut child = site.submit_without_reader(Duration::from_millis(500));
    // The plugin kills the process that it has started, as after its own deadline.
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert_revoked_once(&site);
}

#[test]
fn without_a_reader_of_the_answer_the_sub_token_is_revoked() {
    let site = warm_site();
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 1500, "endpoint": "mytoken", "times": 1}));
    let begin = Instant::now();
    let mut child = site.submit_without_reader(Duration::from_millis(500));
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(begin.elapsed() < Duration::from_millis(1400), "it notices at once that nobody waits");
    assert_revoked_once(&site);
    site.submit();
    assert_eq!(answers(&site, "revocation").len(), 1, "a sub-token whose answer was read is kept");
}

#[test]
fn nothing_is_requested_for_a_submission_that_was_interrupted_before() {
    let site = warm_site();
    fs::remove_dir_all(site.home().join(".cache")).unwrap();
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 1000, "times": 1}));
    site.submit_without_reader(Duration::from_millis(300)).wait().unwrap();
    eventually("the end of mytoken-submit", || site.submitting().is_empty());
    assert_eq!(answers(&site, "mytoken"), Vec::<u64>::new());
}

#[test]
fn the_process_that_stays_belongs_to_no_session_and_holds_nothing() {
    let site = warm_site();
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 2000, "endpoint": "mytoken", "times": 1}));
    let mut child = site.submit_without_reader(Duration::from_millis(500));
    child.wait().unwrap();
    let [worker] = site.submitting().try_into().unwrap();
    let stat = fs::read_to_string(worker.join("stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let pid = worker.file_name().unwrap().to_str().unwrap();
    // Process group and session are its own; no terminal.
    assert_eq!((fields[2], fields[3], fields[4]), (pid, pid, "0"), "{stat}");
    assert_eq!(fs::read_link(worker.join("cwd")).unwrap(), std::path::Path::new("/"));
    for entry in fs::read_dir(worker.join("fd")).unwrap().flatten() {
        let file = fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
        let own = ["/dev/null", "pipe:", "socket:", "anon_inode:"].iter().any(|kind| file.starts_with(kind));
        assert!(own, "{file}");
    }
    assert_revoked_once(&site);
}
