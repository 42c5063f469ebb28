// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokend agent` and `mytokenctl`, from the start of a job to its end.

use std::fs;
use std::path::{Path, PathBuf};

use mytoken::Error;
use mytoken::private_files::Owner;
use mytoken::server::ServerError;
use mytoken_wire::agent::{EventKind, JobState};
use mytokend::jobs::sealed::JobCredential;
use serde_json::json;

use crate::harness::{TestSite, eventually};

fn me() -> u32 {
    Owner::current().uid
}

fn site_with_agent(lifetime: u64) -> TestSite {
    let mut site = TestSite::new(lifetime);
    site.log_in();
    site.begin_agent();
    site
}

#[test]
fn a_job_always_has_a_valid_token_and_its_sub_token_is_revoked_at_the_end() {
    // A renewal has 2.5 s at least. Shorter-lived ones expire on a machine with much else to do, before their renewal
    // or between reading and use.
    let site = site_with_agent(10);
    let (sealed, _) = site.submit();
    let started = site.start(7, me(), &sealed);
    assert_eq!((started.state, started.reason), (JobState::Ready, None));
    let file = PathBuf::from(started.path);
    let mut tokens = Vec::new();
    eventually("four tokens", || {
        assert_eq!(site.use_token(&file), 200);
        tokens.push(fs::read_to_string(&file).unwrap());
        tokens.dedup();
        tokens.len() == 4
    });
    site.squeue_prints("7|7|COMPLETED|1|2|n[1-2]|n1");
    site.end(7);
    assert!(!file.exists());
    eventually("the revocation", || site.has_event(7, &EventKind::Revoked));
    let refused = site.access_token(&site.open(&sealed).sub_token).unwrap_err();
    assert!(matches!(refused, Error::Server(ServerError::TokenRefused { .. })), "{refused}");
    assert_eq!(site.requests("revocation"), 1);
}

#[test]
fn another_users_job_gets_no_token_for_a_copied_credential() {
    let site = site_with_agent(60);
    let (sealed, _) = site.submit();
    let before = site.journal().len();
    let started = site.start(8, me() + 1, &sealed);
    assert_eq!(started.state, JobState::Failed);
    assert!(!Path::new(&started.path).exists());
    assert_eq!(site.journal().len(), before);
    let (screen, _) = site.ctl(&["status", "8", "--socket", site.socket().to_str().unwrap()]);
    assert!(screen.contains("JOB 8") && screen.contains("a copied SLURM_MYTOKEN cannot be used"), "{screen}");
    let (nothing, good) = site.ctl(&["status", "9", "--socket", site.socket().to_str().unwrap()]);
    assert!(!good && nothing.contains("no job 9"), "{nothing}");
}

#[test]
fn during_an_outage_of_the_provider_the_old_token_stays() {
    let site = site_with_agent(6);
    let (sealed, _) = site.submit();
    let file = PathBuf::from(site.start(7, me(), &sealed).path);
    let first = fs::read_to_string(&file).unwrap();
    site.control("/mytoken/fault", &json!({"name": "empty-access-token"}));
    eventually("a failed renewal", || site.has_event(7, &EventKind::Retry));
    assert_eq!(fs::read_to_string(&file).unwrap(), first);
    assert_eq!(site.use_token(&file), 200);
    let (screen, _) = site.ctl(&["status", "7", "--socket", site.socket().to_str().unwrap()]);
    assert!(screen.contains("provider is probably down") && screen.contains("the old access token stays"), "{screen}");
    site.control("/clear", &json!({}));
    eventually("a new token", || fs::read_to_string(&file).is_ok_and(|token| token != first));
    assert_eq!(site.use_token(&file), 200);
}

#[test]
fn a_job_that_starts_during_an_outage_gets_its_token_later() {
    let site = site_with_agent(60);
    let (sealed, _) = site.submit();
    site.control("/outage", &json!({"service": "mytoken", "on": true}));
    let started = site.start(7, me(), &sealed);
    assert_eq!(started.state, JobState::Pending);
    assert!(started.reason.unwrap().contains("tries again"));
    site.control("/outage", &json!({"service": "mytoken", "on": false}));
    eventually("the token", || Path::new(&started.path).exists());
    assert_eq!(site.use_token(Path::new(&started.path)), 200);
}

#[test]
fn the_agent_stops_on_sigterm_and_continues_after_a_restart() {
    let mut site = site_with_agent(5);
    let (sealed, _) = site.submit();
    let file = PathBuf::from(site.start(7, me(), &sealed).path);
    assert_eq!(site.end_agent().code(), Some(0));
    assert!(!site.socket().exists() && file.exists());
    let JobCredential { id, sub_token, .. } = site.open(&sealed);
    let name = format!("submission-{}-{id}.json", me());
    let state = fs::read_to_string(site.dir.path().join("run/state").join(name)).unwrap();
    assert!(!state.contains(sub_token.expose()) && !state.contains("eyJ"), "the state holds ciphertext only");
    site.begin_agent();
    let first = fs::read_to_string(&file).unwrap();
    eventually("the next token", || fs::read_to_string(&file).is_ok_and(|token| token != first));
    assert_eq!(site.use_token(&file), 200);
}

#[test]
fn the_log_contains_no_secret() {
    let mut site = site_with_agent(3);
    let (sealed, _) = site.submit();
    let file = PathBuf::from(site.start(7, me(), &sealed).path);
    let access_token = fs::read_to_string(&file).unwrap();
    site.start(8, me() + 1, &sealed);
    site.control("/mytoken/fault", &json!({"name": "500-html"}));
    eventually("a failed renewal", || site.has_event(7, &EventKind::Retry));
    site.squeue_prints("7|7|COMPLETED|1|2|n1|n1");
    site.end(7);
    // A thread of the agent writes the lines. They are all there when the agent has ended.
    assert_eq!(site.end_agent().code(), Some(0));
    let log = fs::read_to_string(site.dir.path().join("agent.log")).unwrap();
    let sub_token = site.open(&sealed).sub_token;
    assert!(log.contains("job 7") && log.contains("retry"), "{log}");
    for secret in [access_token.as_str(), sub_token.expose(), sealed.as_str(), "eyJ"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn check_finds_no_error_in_a_working_site() {
    let site = site_with_agent(60);
    let (config, socket) = (site.config(), site.socket());
    let arguments = ["check", "--config", config.to_str().unwrap(), "--socket", socket.to_str().unwrap()];
    let (screen, _) = site.ctl(&arguments);
    // For root it also looks at this machine, which may have no Slurm, and whose target directory is on a disk.
    assert!(screen.contains("\n0 errors, "), "{screen}");
    site.control("/outage", &json!({"service": "mytoken", "on": true}));
    let (json, good) = site.ctl(&[&arguments[..], &["--json"]].concat());
    let findings: serde_json::Value = serde_json::from_str(&json).unwrap();
    let errors: Vec<_> =
        findings["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] == "error").collect();
    assert!(!good && errors.len() == 1 && errors[0]["fix"].is_string(), "{json}");
}

/// Measures a hundred jobs: without optimisation, a thousand requests would take a minute. `make bench` measures a thousand jobs with the
/// release build.
#[test]
fn a_job_needs_little_memory() {
    const JOBS: u32 = 100;
    let site = site_with_agent(3600);
    let (sealed, _) = site.submit();
    let jobs = site.dir.path().join("run/jobs");
    let ready = || (1..=JOBS).filter(|job| jobs.join(format!("{job}/bt_u{}", me())).exists()).count();
    let start = |job| drop(site.start(job, me(), &sealed));
    // The first jobs are not counted, because they also allocate the memory that all jobs share.
    (1..=20).for_each(start);
    eventually("the first tokens", || ready() == 20);
    let before = site.memory("VmRSS");
    (21..=JOBS).for_each(start);
    eventually("a token for each", || ready() == JOBS as usize);
    let (after, most) = (site.memory("VmRSS"), site.memory("VmHWM"));
    println!("{before} KiB with 20 jobs, {after} KiB with {JOBS}, at most {most} KiB");
    assert!(after.saturating_sub(before) < 16 * u64::from(JOBS - 20), "{before} KiB before, {after} KiB after");
}

#[test]
fn a_login_host_without_the_private_key_serves_sessions_and_refuses_jobs() {
    let mut site = TestSite::new(60);
    site.log_in();
    let (sealed, _) = site.submit();
    let key = site.config().join("keys/cluster.key");
    fs::rename(&key, site.dir.path().join("elsewhere")).unwrap();
    site.begin_agent();
    let log = fs::read_to_string(site.dir.path().join("agent.log")).unwrap();
    assert!(log.contains(&format!("serves sessions only: there is no {}", key.display())), "{log}");
    let refused = site.start(7, me(), &sealed);
    assert_eq!(refused.state, JobState::Failed);
    let reason = refused.reason.unwrap();
    assert!(reason.contains("cannot open job credentials") && reason.contains("cluster.key"), "{reason}");
}

#[test]
fn an_agent_whose_private_key_others_can_read_does_not_start() {
    use std::os::unix::fs::PermissionsExt;
    let site = TestSite::new(60);
    let key = site.config().join("keys/cluster.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let mut agent = std::process::Command::new(env!("CARGO_BIN_EXE_mytokend"));
    let output = agent.args(["agent", "--stderr", "--config"]).arg(site.config()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("cluster.key"), "{error}");
}
