// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes of a node that exists in these tests only: what runs on this machine is not in its table.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use mytokend::agent::login_processes::{Login, LoginMark};
use mytokend::agent::process::ProcessTable;

use crate::harness::{MISSING, TestAgent};

#[derive(Default)]
struct Table {
    /// Start times by process id.
    started: HashMap<u32, u64>,
    last: u32,
    /// Processes of logins, by the number of the audit session.
    logins: HashMap<u32, u32>,
    /// Jobs with a slurmstepd.
    steps: HashSet<u32>,
}

/// A process table that only the test changes. It is empty at first.
#[derive(Clone, Default)]
pub struct FakeProcesses(Arc<Mutex<Table>>);

impl FakeProcesses {
    /// Starts a process and returns its id.
    pub fn start(&self) -> u32 {
        let mut table = self.0.lock().unwrap();
        table.last += 1;
        let pid = table.last;
        table.started.insert(pid, 1_000 + u64::from(pid));
        pid
    }

    /// Ends a process.
    pub fn end(&self, pid: u32) {
        let mut table = self.0.lock().unwrap();
        table.started.remove(&pid);
        table.logins.remove(&pid);
    }

    /// The process belongs to this login.
    pub fn join_login(&self, pid: u32, login: u32) {
        self.0.lock().unwrap().logins.insert(pid, login);
    }

    /// A step of the job begins.
    pub fn begin_step(&self, job: u32) {
        self.0.lock().unwrap().steps.insert(job);
    }

    /// The last step of the job ends.
    pub fn end_step(&self, job: u32) {
        self.0.lock().unwrap().steps.remove(&job);
    }
}

impl ProcessTable for FakeProcesses {
    fn start_time(&self, pid: u32) -> Option<u64> {
        self.0.lock().unwrap().started.get(&pid).copied()
    }

    fn jobs_with_steps(&self) -> HashSet<u32> {
        self.0.lock().unwrap().steps.clone()
    }

    fn login_of(&self, pid: u32) -> Option<LoginMark> {
        let audit = self.0.lock().unwrap().logins.get(&pid).copied();
        audit.map(|_| LoginMark { audit, scope: None })
    }

    fn have_processes(&self, logins: &[Login]) -> Vec<bool> {
        let table = self.0.lock().unwrap();
        let runs = |login: &Login| {
            table.logins.iter().any(|(pid, audit)| *pid != login.first && Some(*audit) == login.mark.audit)
        };
        logins.iter().map(runs).collect()
    }
}

#[test]
fn slurmctld_is_asked_about_a_job_when_no_step_of_it_is_here() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.squeue_prints(&[]);
    agent.processes.begin_step(7);
    agent.advance(MISSING);
    assert_eq!((agent.queries(), agent.token(7).exists()), (0, true));
    agent.processes.end_step(7);
    agent.advance(MISSING);
    assert_eq!((agent.queries(), agent.token(7).exists()), (1, false));
}
