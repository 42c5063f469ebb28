// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file system hangs where a job has its token file, as each user can make it (KERN-01).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mytoken_wire::JobName;
use mytoken_wire::agent::{Condition, EventKind, JobEnd, JobState, Renew, Replace, Revoke};
use mytokend::agent::file_queue::FilePlace;

use crate::files::agent_with;
use crate::harness::{EXPIRY, RENEWAL, SETTLE, SWEEP, TestAgent, eventually, me, outage, revocation};
use crate::reload::configured;

#[derive(Default)]
struct State {
    /// Where it hangs.
    held: Option<FilePlace>,
    /// It hangs everywhere.
    all: bool,
    /// Threads that hang.
    waiting: usize,
}

/// A file system that hangs in one directory while it is told to.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

impl Gate {
    /// That of this agent.
    pub fn of(agent: &TestAgent) -> Self {
        let gate = Self::default();
        let own = gate.clone();
        agent.agent().files_pass(Box::new(move |place| own.pass(place)));
        gate
    }

    fn pass(&self, place: &FilePlace) {
        let hangs = |state: &State| state.all || state.held.as_ref() == Some(place);
        let mut state = self.0.0.lock().unwrap();
        if hangs(&state) {
            state.waiting += 1;
            let mut state = self.0.1.wait_while(state, |state| hangs(state)).unwrap();
            state.waiting -= 1;
        }
    }

    pub fn hold(&self, place: FilePlace) {
        self.0.0.lock().unwrap().held = Some(place);
    }

    fn hold_all(&self) {
        self.0.0.lock().unwrap().all = true;
    }

    pub fn release(&self) {
        let mut state = self.0.0.lock().unwrap();
        (state.held, state.all) = (None, false);
        drop(state);
        self.0.1.notify_all();
    }

    pub fn wait_until_it_hangs(&self) {
        eventually("a thread that hangs", || self.0.0.lock().unwrap().waiting > 0);
    }
}

/// Nobody waits long for a look at a file.
fn with_short_looks(agent: &TestAgent) {
    let mut short = configured(&agent.services);
    short.intervals.look_patience = Duration::from_millis(50);
    agent.agent().configure(short);
}

/// Job 7 has `token-1`, and the write of `token-2` hangs.
fn with_a_write_that_hangs() -> (TestAgent, Gate) {
    let agent = TestAgent::new();
    agent.start(7, "h7");
    agent.wait_until_idle();
    let gate = Gate::of(&agent);
    gate.hold(FilePlace::Job(7));
    agent.move_clock(RENEWAL);
    gate.wait_until_it_hangs();
    assert_eq!(agent.read_token(7), "token-1");
    (agent, gate)
}

#[test]
fn a_status_does_not_wait_for_a_job_whose_directory_hangs() {
    let agent = agent_with(&["ce"]);
    agent.start(7, "h7");
    agent.wait_until_idle();
    with_short_looks(&agent);
    let gate = Gate::of(&agent);
    gate.hold(FilePlace::Job(7));
    std::fs::remove_file(agent.token(7)).unwrap();
    std::fs::remove_file(agent.token(7).with_file_name(format!("bt_u{}-ce", me().uid))).unwrap();
    let conditions = || {
        let status = agent.status(7);
        (status.condition, status.files.first().map(|file| file.condition.clone()))
    };
    let both = |condition: Condition| (Some(condition.clone()), Some(condition));
    assert_eq!(conditions(), both(Condition::Valid), "as the lease says");
    gate.wait_until_it_hangs();
    gate.release();
    eventually("a look at the files", || conditions() == both(Condition::FileMissing));
}

#[test]
fn a_renewal_on_request_leaves_the_look_at_files_to_threads() {
    let request = Renew { job: Some(JobName::Job(7)), all: false };
    let agent = TestAgent::new();
    agent.start(7, "h7");
    agent.wait_until_idle();
    with_short_looks(&agent);
    let gate = Gate::of(&agent);
    gate.hold(FilePlace::Job(7));
    std::fs::remove_file(agent.token(7)).unwrap();
    agent.services.with(|script| script.failure = Some(outage()));
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| agent.ask(&request));
        eventually("what it does after the look", || agent.token_requests() >= 2);
        gate.release();
        assert!(answer.join().unwrap().is_ok());
    });
    agent.wait_until_idle();
    assert!(!agent.token(7).exists(), "nobody has seen in time that it is lost");
    agent.agent().configure(configured(&agent.services));
    agent.ask(&request).unwrap();
    assert_eq!(agent.read_token(7), "token-1");
}

#[test]
fn a_file_that_hangs_delays_no_other_job() {
    let (agent, gate) = with_a_write_that_hangs();
    // Another job of the same user begins, its token is renewed, and it ends.
    assert_eq!(agent.start(8, "h8").state, JobState::Ready);
    assert_eq!(agent.read_token(8), "token-3");
    agent.move_clock(RENEWAL);
    eventually("the renewal", || agent.read_token(8) != "token-3");
    agent.squeue_prints(&[(7, "7", "RUNNING", "n1"), (8, "8", "COMPLETED", "n1")]);
    agent.finish(8);
    assert!(!agent.token(8).parent().unwrap().exists());
    agent.move_clock(SETTLE);
    eventually("the revocation", || agent.revoked() == 1);
    assert!(agent.status(7).running);
    gate.release();
    agent.wait_until_idle();
    assert_eq!(agent.status(7).state, JobState::Ready);
    assert!(["token-4", "token-5"].contains(&agent.read_token(7).as_str()), "the last one");
}

#[test]
fn a_job_that_ends_while_its_file_is_written_leaves_none() {
    let (agent, gate) = with_a_write_that_hangs();
    std::thread::scope(|scope| {
        let end = scope.spawn(|| agent.finish(7));
        eventually("the end", || !agent.status(7).running);
        assert!(!end.is_finished(), "the answer says that the files are gone");
        gate.release();
    });
    assert!(!agent.token(7).parent().unwrap().exists());
    agent.wait_until_idle();
    assert!(!agent.token(7).parent().unwrap().exists());
}

#[test]
fn a_further_run_that_begins_while_the_removal_hangs_has_its_token() {
    let agent = TestAgent::new();
    agent.start(7, "h7");
    agent.wait_until_idle();
    let gate = Gate::of(&agent);
    gate.hold(FilePlace::Job(7));
    std::thread::scope(|scope| {
        scope.spawn(|| agent.finish(7));
        gate.wait_until_it_hangs();
        let started = scope.spawn(|| agent.start(7, "h7"));
        eventually("the next run", || agent.status(7).running);
        gate.release();
        assert_eq!(started.join().unwrap().state, JobState::Ready);
    });
    agent.wait_until_idle();
    assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-1", 1));
}

#[test]
fn a_token_that_is_given_back_while_it_is_written_stays_in_no_file() {
    let (agent, gate) = with_a_write_that_hangs();
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| agent.ask(&Revoke { job: JobName::Job(7) }).unwrap());
        eventually("the revocation", || agent.revoked() == 1);
        gate.release();
        assert_eq!(answer.join().unwrap().jobs[0].condition, Some(Condition::Revoked));
    });
    assert!(!agent.token(7).exists() && agent.token(7).parent().unwrap().exists());
}

#[test]
fn the_removal_of_a_token_that_was_given_back_is_done_after_a_restart() {
    let mut agent = TestAgent::new();
    agent.start(7, "h7");
    agent.wait_until_idle();
    let gate = Gate::of(&agent);
    gate.hold(FilePlace::Job(7));
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| agent.ask(&Revoke { job: JobName::Job(7) }));
        eventually("the revocation", || agent.revoked() == 1);
        gate.wait_until_it_hangs();
        // The caller waits no longer.
        agent.move_clock(Duration::from_secs(11));
        let refused = answer.join().unwrap().unwrap_err().to_string();
        assert!(refused.contains("still in the file"), "{refused}");
    });
    agent.end();
    assert_eq!(agent.read_token(7), "token-1");
    agent.begin();
    agent.wait_until_idle();
    assert!(!agent.token(7).exists() && agent.token(7).parent().unwrap().exists());
}

#[test]
fn a_first_token_that_is_written_while_the_job_gets_another_credential_stays_in_no_file() {
    let agent = agent_with(&["ce"]);
    let gate = Gate::of(&agent);
    agent.services.with(|script| (script.hold_tokens, script.files.held) = (true, true));
    let request = Replace { job: JobName::Job(7), sealed: format!("{}:h8", me().uid) };
    std::thread::scope(|scope| {
        let started = scope.spawn(|| agent.start(7, "h7"));
        eventually("the directory", || agent.token(7).parent().unwrap().exists());
        gate.hold(FilePlace::Job(7));
        agent.services.with(|script| script.files.held = false);
        gate.wait_until_it_hangs();
        // The new credential has no further files.
        agent.services.with(|script| {
            script.hold_tokens = false;
            script.files.name(&[]);
        });
        let replaced = scope.spawn(|| agent.ask(&request));
        eventually("the new credential", || agent.has_event(7, &EventKind::Replaced));
        gate.release();
        replaced.join().unwrap().unwrap();
        started.join().unwrap();
    });
    agent.wait_until_idle();
    assert_eq!(agent.read_token(7), "token-2");
    assert!(!agent.token(7).with_file_name(format!("bt_u{}-ce", me().uid)).exists());
}

#[test]
fn an_internal_error_during_the_removal_leaves_no_file() {
    let agent = TestAgent::new();
    agent.start(7, "h7");
    agent.wait_until_idle();
    let is_first = AtomicBool::new(true);
    agent.agent().files_pass(Box::new(move |_| assert!(!is_first.swap(false, Ordering::Relaxed), "on purpose")));
    // The answer is an error: the files are still there.
    assert!(agent.ask(&JobEnd { job: 7, ..JobEnd::default() }).is_err());
    assert!(agent.token(7).exists());
    agent.advance(SWEEP);
    assert!(!agent.token(7).parent().unwrap().exists());
}

#[test]
fn a_token_that_is_written_while_the_clock_is_set_ends_by_the_new_time() {
    let (agent, gate) = with_a_write_that_hangs();
    let until = || agent.status(7).token_until.unwrap();
    let before = until();
    agent.set_clock_unseen(-600);
    agent.agent().clock_was_set();
    eventually("the new time", || until() == before - 600);
    gate.release();
    agent.wait_until_idle();
    assert_eq!(until(), before - 600 + RENEWAL.as_secs());
}

#[test]
fn an_end_is_answered_while_a_file_hangs_and_the_files_are_removed_later() {
    let (agent, gate) = with_a_write_that_hangs();
    let mut short = configured(&agent.services);
    short.intervals.file_patience = Duration::from_millis(50);
    agent.agent().configure(short);
    // The answer is no error: Slurm would drain the node, and could not mend it.
    agent.finish(7);
    assert!(agent.token(7).exists() && !agent.status(7).running);
    gate.release();
    agent.wait_until_idle();
    assert!(!agent.token(7).parent().unwrap().exists());
}

#[test]
fn a_step_does_not_wait_for_the_next_token() {
    let (agent, gate) = with_a_write_that_hangs();
    assert_eq!(agent.start(7, "h7").state, JobState::Ready);
    assert_eq!(agent.read_token(7), "token-1");
    gate.release();
}

#[test]
fn an_older_token_whose_write_hung_does_not_replace_a_newer_one() {
    let (agent, gate) = with_a_write_that_hangs();
    agent.move_clock(RENEWAL);
    eventually("the next request", || agent.token_requests() == 3);
    gate.release();
    agent.wait_until_idle();
    assert_eq!(agent.read_token(7), "token-3");
}

#[test]
fn a_token_that_expires_while_it_is_written_is_removed() {
    let (agent, gate) = with_a_write_that_hangs();
    agent.services.with(|script| script.failure = Some(outage()));
    agent.move_clock(EXPIRY * 2);
    eventually("the end of the token", || agent.has_event(7, &EventKind::Expired));
    let told = agent.status(7).events.into_iter().find(|event| event.kind == EventKind::Expired).unwrap();
    assert!(told.text.contains("is removed when the file system answers"), "{told:?}");
    gate.release();
    agent.wait_until_idle();
    assert!(!agent.token(7).exists());
    assert_eq!(agent.status(7).condition, Some(Condition::Outage));
}

#[test]
fn a_file_that_hangs_is_told_until_it_is_written() {
    let (agent, gate) = with_a_write_that_hangs();
    let reason = || agent.status(7).reason;
    agent.move_clock(SWEEP * 2);
    let is_told = || reason().is_some_and(|reason| reason.contains("a program of the user holds the file"));
    eventually("the reason", is_told);
    gate.release();
    agent.wait_until_idle();
    assert_eq!((reason(), agent.read_token(7).as_str()), (None, "token-2"));
}

#[test]
fn jobs_that_wait_for_the_threads_of_their_user_are_told_too() {
    const JOBS: [u32; 3] = [7, 8, 9];
    let agent = TestAgent::new();
    for job in JOBS {
        agent.start(job, &format!("h{job}"));
    }
    agent.wait_until_idle();
    with_short_looks(&agent);
    let gate = Gate::of(&agent);
    gate.hold_all();
    agent.move_clock(RENEWAL);
    gate.wait_until_it_hangs();
    let is_told = |job| agent.status(job).reason.is_some_and(|reason| reason.contains("holds the file"));
    eventually("the reasons", || {
        agent.move_clock(SWEEP);
        JOBS.into_iter().all(is_told)
    });
    gate.release();
    agent.wait_until_idle();
    assert!(!JOBS.into_iter().any(is_told));
}

#[test]
fn a_file_that_hangs_does_not_hide_why_there_is_no_further_token() {
    let (agent, gate) = with_a_write_that_hangs();
    agent.services.with(|script| script.failure = Some(revocation()));
    agent.move_clock(RENEWAL);
    let reason = || agent.status(7).reason.unwrap_or_default();
    eventually("the refusal", || reason().contains("the token was revoked"));
    agent.move_clock(SWEEP * 2);
    eventually("the reason", || reason().contains("a program of the user holds the file"));
    assert!(reason().contains("the token was revoked"));
    gate.release();
    agent.wait_until_idle();
    assert_eq!(reason(), "the token was revoked");
}

#[test]
fn an_agent_ends_while_a_file_hangs_and_the_next_one_writes_it() {
    let (mut agent, gate) = with_a_write_that_hangs();
    let begin = Instant::now();
    agent.end();
    assert!(begin.elapsed() < Duration::from_secs(20));
    gate.release();
    eventually("the late write", || agent.read_token(7) == "token-2");
    // The text of the token was in the memory of the agent that has ended.
    agent.begin();
    agent.wait_until_idle();
    assert_eq!((agent.read_token(7).as_str(), agent.status(7).state), ("token-3", JobState::Ready));
}
