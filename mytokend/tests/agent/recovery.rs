// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files of an earlier run that the agent cannot read, and a file system that is full for a while.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mytoken_wire::agent::{EventKind, JobState};

use crate::files::agent_with;
use crate::harness::{EXPIRY, NOW, RENEWAL, SETTLE, TestAgent, me, outage};
use crate::skipped::skip;

/// The stored lease of the submission `h<job>`.
fn state_file(agent: &TestAgent, job: u32) -> PathBuf {
    agent.dir.path().join(format!("mytoken/state/submission-{}-h{job}.json", me().uid))
}

/// Six hours and a minute: an access token that does not say when it ends is removed by then.
const OPAQUE_END: Duration = Duration::from_secs(6 * 3600 + 60);

/// Stops the agent, changes the job's stored lease, and starts it again.
fn restart_with(agent: &mut TestAgent, job: u32, change: impl FnOnce(String) -> String) {
    agent.end();
    let path = state_file(agent, job);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, change(text)).unwrap();
    write_time(agent, job);
    agent.begin();
}

/// The tokens of these tests have the time of the test's clock, not of this machine.
fn write_time(agent: &TestAgent, job: u32) {
    let token = fs::File::options().read(true).open(agent.token(job)).unwrap();
    token.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(agent.clock.now())).unwrap();
}

#[test]
fn a_damaged_lease_costs_the_job_no_token_before_its_end() {
    let mut agent = TestAgent::new();
    for job in [7, 8, 9] {
        agent.start(job, &format!("h{job}"));
    }
    restart_with(&mut agent, 7, |text| text[..text.len() / 2].to_owned());
    assert_eq!(agent.read_token(7), "token-1");
    let status = agent.status(7);
    assert_eq!(status.state, JobState::Ready);
    assert!(status.events[0].text.contains("its stored lease cannot be read"), "{status:?}");
    // The others are as they were, and the job's next step brings the credential again.
    assert_eq!(agent.status(8).state, JobState::Ready);
    // The step does not wait, because the old token is still valid.
    assert_eq!(agent.start(7, "h7").state, JobState::Ready);
    agent.wait_until_idle();
    assert_eq!(agent.read_token(7), "token-4");
    // Also without a further step nothing outlives the job.
    restart_with(&mut agent, 8, |_| String::new());
    assert!(agent.token(8).exists());
    agent.finish(8);
    assert!(!agent.token(8).exists());
    restart_with(&mut agent, 9, |_| String::new());
    agent.advance(OPAQUE_END);
    assert!(!agent.token(9).exists());
    assert_eq!(agent.status(9).state, JobState::Failed);
}

#[test]
fn files_of_a_job_that_cannot_be_read_stay_until_the_job_ends() {
    let mut agent = TestAgent::new();
    agent.start(7, "h7");
    agent.start(8, "h8");
    agent.end();
    let directory = agent.token(8).parent().unwrap().to_owned();
    for (path, mode) in [(agent.token(7), 0o440), (directory, 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for job in [7, 8] {
        fs::remove_file(state_file(&agent, job)).unwrap();
        write_time(&agent, job);
    }
    agent.begin();
    assert!([7, 8].map(|job| agent.token(job)).iter().all(|token| token.exists()));
    for job in [7, 8] {
        agent.finish(job);
        assert!(!agent.token(job).parent().unwrap().exists());
    }
}

#[test]
fn a_step_that_brings_the_credential_again_costs_no_token_in_an_outage() {
    let mut agent = TestAgent::new();
    agent.start(7, "h7");
    restart_with(&mut agent, 7, |_| String::new());
    agent.services.with(|script| script.failure = Some(outage()));
    assert_eq!(agent.start(7, "h7").state, JobState::Ready);
    assert_eq!(agent.read_token(7), "token-1");
    // The outage goes on, and the old token ends at its own time.
    agent.advance(OPAQUE_END);
    assert!(!agent.token(7).exists() && agent.has_event(7, &EventKind::Expired));
}

#[test]
fn after_a_restart_a_further_job_gets_the_current_token_and_not_an_older_one() {
    let mut agent = TestAgent::new();
    agent.start(7, "h7");
    agent.start(9, "h7");
    agent.end();
    // The last write for job 7 failed: its file holds a token that expires earlier.
    let path = state_file(&agent, 7);
    let mut stored: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    stored["jobs"]["7"]["file"] = (NOW + 60).into();
    fs::write(&path, stored.to_string()).unwrap();
    fs::write(agent.token(7), "older").unwrap();
    agent.begin();
    agent.start(10, "h7");
    assert_eq!(agent.read_token(10), "token-1");
}

#[test]
fn a_file_that_could_not_be_removed_is_removed_later() {
    let agent = TestAgent::new();
    agent.start(7, "h7");
    agent.services.with(|script| script.failure = Some(outage()));
    // A directory in the place of the file cannot be removed like one.
    fs::remove_file(agent.token(7)).unwrap();
    fs::create_dir(agent.token(7)).unwrap();
    agent.advance(EXPIRY);
    fs::remove_dir(agent.token(7)).unwrap();
    fs::write(agent.token(7), "expired").unwrap();
    agent.advance(Duration::from_secs(5));
    assert!(!agent.token(7).exists());
}

#[test]
fn a_lease_of_a_later_version_survives_a_downgrade() {
    let mut agent = TestAgent::new();
    agent.start(7, "h7");
    agent.start(8, "h8");
    let dreaming = |text: String| text.replace("\"alive\"", "\"dreaming\"");
    restart_with(&mut agent, 7, dreaming);
    restart_with(&mut agent, 8, dreaming);
    agent.finish(8);
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 0, "without the lease nobody can revoke");
    // The upgrade: in place of another version, the word is one that this version knows.
    agent.end();
    for entry in fs::read_dir(agent.dir.path().join("mytoken/unreadable")).unwrap() {
        let path = entry.unwrap().path();
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"dreaming\"", "\"alive\"")).unwrap();
    }
    agent.squeue_prints(&[(7, "7", "RUNNING", "n1"), (8, "8", "COMPLETED", "n1")]);
    agent.begin();
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 1);
    assert!(agent.has_event(8, &EventKind::Revoked));
    assert_eq!(agent.read_token(7), "token-1");
    agent.advance(RENEWAL);
    assert!(agent.has_event(7, &EventKind::Renewed), "{:?}", agent.status(7));
    assert_eq!(fs::read_dir(agent.dir.path().join("mytoken/unreadable")).unwrap().count(), 0);
}

#[test]
fn of_two_kept_leases_of_a_job_the_newer_one_is_taken_back() {
    let mut agent = TestAgent::new();
    agent.start(7, "h7");
    restart_with(&mut agent, 7, |text| text.replace("\"alive\"", "\"dreaming\""));
    agent.end();
    let kept = agent.dir.path().join("mytoken/unreadable");
    let file = |number: u32| kept.join(format!("{number:06}-submission-{}-h7.json", me().uid));
    let newer = fs::read_to_string(file(1)).unwrap().replace("\"dreaming\"", "\"alive\"");
    fs::write(file(1), newer.replace(":h7\"", ":older\"")).unwrap();
    // The copy has the mode of the file.
    fs::copy(file(1), file(2)).unwrap();
    fs::write(file(2), newer).unwrap();
    agent.begin();
    let stored = fs::read_to_string(state_file(&agent, 7)).unwrap();
    assert!(stored.contains(":h7\"") && !stored.contains(":older\""), "{stored}");
    assert_eq!(fs::read_dir(kept).unwrap().count(), 0);
}

#[test]
fn a_lease_that_cannot_be_kept_aside_is_not_overwritten_at_the_start() {
    let mut agent = TestAgent::new();
    agent.start(7, "h7");
    fs::write(agent.dir.path().join("mytoken/unreadable"), "").unwrap();
    restart_with(&mut agent, 7, |text| text.replace("\"alive\"", "\"dreaming\""));
    assert_eq!(agent.read_token(7), "token-1");
    assert!(fs::read_to_string(state_file(&agent, 7)).unwrap().contains("dreaming"));
}

#[test]
fn nothing_in_the_runtime_directory_stops_the_agent() {
    let mut agent = TestAgent::new();
    agent.start(7, "h7");
    agent.end();
    let runtime = agent.dir.path().join("mytoken");
    fs::create_dir_all(runtime.join("state/job-3.json/below")).unwrap();
    fs::create_dir_all(runtime.join("jobs/4/below")).unwrap();
    fs::write(runtime.join("jobs/5"), "").unwrap();
    fs::create_dir_all(runtime.join("jobs/+6")).unwrap();
    std::os::unix::fs::symlink("/etc", runtime.join("jobs/6")).unwrap();
    fs::write(runtime.join("unreadable"), "").unwrap();
    agent.begin();
    assert_eq!(agent.status(7).state, JobState::Ready);
    agent.start(8, "h8");
    assert_eq!(agent.read_token(8), "token-2");
    assert!(runtime.join("state/job-3.json/below").exists() && PathBuf::from("/etc/passwd").exists());
}

/// An agent whose runtime directory is a small file system of its own.
fn on_a_small_file_system() -> Option<(TestAgent, Mounted)> {
    let mut agent = TestAgent::new();
    agent.end();
    let runtime = agent.dir.path().join("mytoken");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k,mode=0711", "tmpfs"]).arg(&runtime).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return None;
    }
    let mounted = Mounted(runtime);
    agent.begin();
    Some((agent, mounted))
}

/// Fills it. Returns the files that do so.
fn fill(agent: &TestAgent) -> Vec<PathBuf> {
    let path = |number: u32| agent.dir.path().join(format!("mytoken/filler-{number}"));
    (0..).map(path).take_while(|path| fs::write(path, [0; 4096]).is_ok()).collect()
}

#[test]
fn a_job_that_begins_while_the_file_system_is_full_gets_its_token_later() {
    let Some((mut agent, _mounted)) = on_a_small_file_system() else {
        return skip("a small file system cannot be mounted").unwrap();
    };
    let fillers = fill(&agent);
    let started = agent.start(7, "h7");
    assert_eq!(started.state, JobState::Pending);
    assert!(started.reason.unwrap().contains("could not be written"));
    fillers.iter().for_each(|path| fs::remove_file(path).unwrap());
    agent.advance(Duration::from_secs(60));
    assert_eq!(agent.status(7).state, JobState::Ready);
    assert!(agent.token(7).exists());
    assert!(state_file(&agent, 7).exists());
    agent.end();
}

#[test]
fn an_expired_token_is_removed_also_while_the_next_one_cannot_be_written() {
    let Some((mut agent, _mounted)) = on_a_small_file_system() else {
        return skip("a small file system cannot be mounted").unwrap();
    };
    agent.start(7, "h7");
    let fillers = fill(&agent);
    agent.advance(RENEWAL);
    assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-1", 2), "it is still valid");
    agent.advance(EXPIRY - RENEWAL);
    assert!(!agent.token(7).exists(), "it has expired");
    fillers.iter().for_each(|path| fs::remove_file(path).unwrap());
    agent.advance(Duration::from_secs(60));
    assert_eq!(agent.read_token(7), "token-2");
    agent.end();
}

#[test]
fn an_expired_token_is_removed_also_when_no_file_has_the_next_one() {
    let mut agent = TestAgent::new();
    agent.start(7, "h7");
    agent.services.with(|script| script.failure = Some(outage()));
    agent.end();
    // The next token was not written before the agent ended.
    let path = state_file(&agent, 7);
    let mut stored: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    stored["held"]["exp"] = (NOW + 3 * EXPIRY.as_secs()).into();
    fs::write(&path, stored.to_string()).unwrap();
    agent.begin();
    agent.wait_until_idle();
    assert_eq!(agent.read_token(7), "token-1", "it is still valid");
    agent.advance(EXPIRY);
    assert!(!agent.token(7).exists(), "it has expired");
}

#[test]
fn a_token_whose_write_was_not_recorded_stays_until_it_ends() {
    for has_token in [false, true] {
        for is_ended in [false, true] {
            let mut agent = TestAgent::new();
            agent.start(7, "h7");
            agent.services.with(|script| script.failure = Some(outage()));
            agent.end();
            let path = state_file(&agent, 7);
            let mut stored: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            if !has_token {
                stored.as_object_mut().unwrap().remove("held").unwrap();
            }
            stored["jobs"]["7"].as_object_mut().unwrap().remove("file").unwrap();
            fs::write(&path, stored.to_string()).unwrap();
            write_time(&agent, 7);
            if is_ended {
                let token = fs::File::options().read(true).open(agent.token(7)).unwrap();
                token.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
            agent.begin();
            agent.wait_until_idle();
            assert_eq!(agent.token(7).exists(), !is_ended, "{has_token}");
            agent.advance(OPAQUE_END);
            assert!(!agent.token(7).exists(), "{has_token}");
        }
    }
}

#[test]
fn further_files_that_an_earlier_release_did_not_store_keep_their_tokens() {
    let mut agent = agent_with(&["ce"]);
    agent.start(7, "h7");
    agent.services.with(|script| script.failure = Some(outage()));
    agent.end();
    let mut stored: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(state_file(&agent, 7)).unwrap()).unwrap();
    assert!(stored.as_object_mut().unwrap().remove("files").is_some());
    fs::write(state_file(&agent, 7), stored.to_string()).unwrap();
    let path = agent.token(7).with_file_name(format!("bt_u{}-ce", me().uid));
    let token = fs::File::options().read(true).open(&path).unwrap();
    token.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(agent.clock.now())).unwrap();
    agent.begin();
    agent.wait_until_idle();
    assert_eq!(fs::read_to_string(&path).unwrap(), "ce-1", "nothing took its place yet");
    agent.advance(OPAQUE_END);
    assert!(!path.exists(), "it has expired");
}

#[test]
fn a_lease_that_could_not_be_stored_is_stored_with_the_next_one() {
    let agent = TestAgent::new();
    fs::create_dir_all(state_file(&agent, 7).join("below")).unwrap();
    agent.start(7, "h7");
    assert_eq!(agent.status(7).state, JobState::Ready);
    fs::remove_dir_all(state_file(&agent, 7)).unwrap();
    agent.start(8, "h8");
    assert!(state_file(&agent, 7).is_file() && state_file(&agent, 8).is_file());
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A lease in the form of release 0.1.0, with an invented credential.
const OLD_LEASE: &str = r#"{"key":{"job":7},"uid":UID,"gid":GID,"array_job":null,"process":null,"profile":"default",
    "handle":"limited0","required":true,"until":UNTIL,"source":{"sealed":"UID:limited0"},"held":{"exp":EXP,"lifetime":3600},
    "phase":{"alive":{"due":DUE}},"failures":0,"reason":null,"history":[{"time":1800000000,"what":"started","text":"n1"}]}"#;

#[test]
fn a_lease_of_the_first_release_is_renewed_and_ended() {
    let mut agent = TestAgent::new();
    agent.end();
    agent.services.with(|script| script.lane = "main provider".to_owned());
    let now = agent.clock.now();
    let text = OLD_LEASE.replace("UID", &me().uid.to_string()).replace("GID", &me().gid.to_string());
    let text = text.replace("UNTIL", &(now + 86_400).to_string()).replace("EXP", &(now + 1_200).to_string());
    let state = agent.dir.path().join("mytoken/state");
    fs::write(state.join("job-7.json"), text.replace("DUE", &format!("{}000", now + 60))).unwrap();
    fs::set_permissions(state.join("job-7.json"), fs::Permissions::from_mode(0o600)).unwrap();
    agent.begin();
    agent.advance(Duration::from_secs(60));
    assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-1", 1));
    let stored = fs::read_to_string(state.join(format!("submission-{}-limited0.json", me().uid))).unwrap();
    assert!(stored.contains(r#""lane":"main provider""#) && stored.contains(r#""limited_uses":true"#), "{stored}");
    agent.advance(RENEWAL);
    assert_eq!(agent.read_token(7), "token-2");
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.finish(7);
    agent.advance(SETTLE);
    assert_eq!((agent.revoked(), agent.token(7).exists()), (1, false));
}
