// SPDX-License-Identifier: MIT OR Apache-2.0
//! The disk that stores the leases hangs.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use mytoken::private_files::FileError;
use mytoken_wire::JobName;
use mytoken_wire::agent::{EventKind, StatusQuery};
use mytokend::agent::lease::LeaseKey;
use mytokend::agent::store::LeaseRecords;
use mytokend::agent::{Configured, Intervals};

use crate::clock::eventually;
use crate::harness::{EXPIRY, RENEWAL, SETTLE, TestAgent, outage};

#[derive(Default)]
struct State {
    hangs: bool,
    /// Attempts to write, with those that hang.
    attempts: usize,
    records: HashMap<LeaseKey, String>,
    /// The next attempt is an internal error.
    panics: bool,
}

/// A disk that hangs while it is told to.
#[derive(Clone, Default)]
struct Disk(Arc<(Mutex<State>, Condvar)>);

impl Disk {
    fn set_hanging(&self, hangs: bool) {
        self.0.0.lock().unwrap().hangs = hangs;
        self.0.1.notify_all();
    }

    fn work(&self, work: impl FnOnce(&mut State)) {
        let panics = std::mem::take(&mut self.0.0.lock().unwrap().panics);
        assert!(!panics, "a test wants it");
        let mut state = self.0.0.lock().unwrap();
        state.attempts += 1;
        work(&mut self.0.1.wait_while(state, |state| state.hangs).unwrap());
    }

    fn attempts(&self) -> usize {
        self.0.0.lock().unwrap().attempts
    }

    /// The records, as text.
    fn records(&self) -> Vec<String> {
        self.0.0.lock().unwrap().records.values().cloned().collect()
    }
}

impl LeaseRecords for Disk {
    fn put(&self, key: &LeaseKey, record: &[u8]) -> Result<(), FileError> {
        let text = String::from_utf8(record.to_vec()).unwrap();
        self.work(|state| drop(state.records.insert(key.clone(), text)));
        Ok(())
    }

    fn delete(&self, key: &LeaseKey) -> Result<(), FileError> {
        self.work(|state| drop(state.records.remove(key)));
        Ok(())
    }
}

fn agent_on(disk: &Disk) -> TestAgent {
    let agent = TestAgent::new();
    agent.agent().store_leases_in(Box::new(disk.clone()));
    agent
}

#[test]
fn a_hanging_disk_delays_no_renewal_and_no_expiry() {
    let disk = Disk::default();
    let agent = agent_on(&disk);
    agent.start(7, "h7");
    agent.wait_until_idle();
    let before = disk.attempts();
    disk.set_hanging(true);
    agent.move_clock(RENEWAL);
    eventually("a renewal", || agent.read_token(7) == "token-2");
    eventually("an attempt to store it", || disk.attempts() > before);
    // Another job gets its token, and the status answers.
    agent.start(8, "h8");
    assert_eq!(agent.read_token(8), "token-3");
    agent.services.with(|script| script.failure = Some(outage()));
    agent.move_clock(EXPIRY);
    eventually("the removal of the expired tokens", || !agent.token(7).exists() && !agent.token(8).exists());
    let is_told = |job| agent.status(job).reason.is_some_and(|reason| reason.contains("the provider is down"));
    eventually("the reason", || is_told(7) && is_told(8));
    assert_eq!(disk.records().len(), 1, "the disk hung");
    disk.set_hanging(false);
    agent.wait_until_idle();
    let records = disk.records();
    assert!(records.len() == 2 && records.iter().all(|record| record.contains("the provider is down")), "{records:?}");
}

#[test]
fn an_answer_comes_after_its_lease_is_stored() {
    let disk = Disk::default();
    let agent = agent_on(&disk);
    // A busy machine may hold up this test for longer than an answer usually waits.
    let intervals = Intervals { answer_patience: Duration::from_secs(60), ..Intervals::default() };
    let (service, controller) = (Box::new(agent.services.clone()), Box::new(agent.services.clone()));
    agent.agent().configure(Configured { intervals, service, controller });
    disk.set_hanging(true);
    std::thread::scope(|scope| {
        let started = scope.spawn(|| agent.start(7, "h7"));
        eventually("an attempt to store it", || disk.attempts() == 1);
        assert!(!started.is_finished());
        disk.set_hanging(false);
        started.join().unwrap();
    });
    assert_eq!(disk.records().len(), 1);
}

#[test]
fn an_internal_error_while_a_lease_is_stored_costs_one_attempt() {
    let disk = Disk::default();
    let agent = agent_on(&disk);
    disk.0.0.lock().unwrap().panics = true;
    agent.start(7, "h7");
    agent.wait_until_idle();
    agent.start(8, "h8");
    agent.wait_until_idle();
    assert_eq!(disk.records().len(), 2, "the first one is stored with the next change");
}

#[test]
fn a_lease_that_is_gone_has_no_record() {
    let disk = Disk::default();
    let agent = agent_on(&disk);
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.start(7, "h7");
    agent.wait_until_idle();
    disk.set_hanging(true);
    agent.finish(7);
    agent.move_clock(SETTLE);
    eventually("the revocation", || agent.revoked() == 1);
    let of_job = || agent.ask(&StatusQuery { job: Some(JobName::Job(7)), all: false }).unwrap().jobs.len();
    eventually("the event", || agent.last_event(7) == EventKind::Revoked);
    agent.move_clock(Duration::from_secs(25 * 3600));
    eventually("the end of the lease", || of_job() == 0);
    assert_eq!(disk.records().len(), 1, "the disk hung");
    disk.set_hanging(false);
    agent.wait_until_idle();
    assert_eq!(disk.records(), [""; 0]);
}
