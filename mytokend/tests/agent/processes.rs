// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes of a node that exists in these tests only: what runs on this machine is not in its table.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use mytokend::agent::process::ProcessTable;

use crate::harness::{MISSING, TestAgent};

#[derive(Default)]
struct Table {
    /// Start times by process id.
    started: HashMap<u32, u64>,
    last: u32,
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
        self.0.lock().unwrap().started.remove(&pid);
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
