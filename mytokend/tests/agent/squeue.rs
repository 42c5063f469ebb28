// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fake slurmctld, and the output of its squeue.

use mytoken::ScheduleClock;
use mytokend::agent::slurm::{Controller, ControllerFacts, SqueueError};
use mytokend::jobs::host_list;

use crate::clock::FakeClock;
use crate::harness::{FakeServices, NOW, TestAgent};

/// The jobs of these tests run on this node. One that is not here has ended for slurmctld, and loses its token after [`MISSING`].
///
/// [`MISSING`]: crate::harness::MISSING
pub const ALL_RUNNING: [(u32, &str, &str, &str); 4] =
    [(7, "7", "RUNNING", "n1"), (8, "8", "RUNNING", "n1"), (9, "9", "RUNNING", "n1"), (20, "20", "RUNNING", "n1")];

/// Lines of squeue: `job shown state nodes`. The script runs on the first node.
fn squeue(lines: &[(u32, &str, &str, &str)]) -> String {
    let line = |(job, shown, state, nodes): &(u32, &str, &str, &str)| {
        let first = host_list::first(nodes).unwrap_or_else(|| "n/a".to_owned());
        format!("{job}|{shown}|{state}|{NOW}|{NOW}|{nodes}|{first}\n")
    };
    lines.iter().map(line).collect()
}

impl TestAgent {
    pub fn squeue_prints(&self, lines: &[(u32, &str, &str, &str)]) {
        self.services.with(|script| script.squeue = Some(squeue(lines)));
    }
}

impl Controller for FakeServices {
    fn jobs_of(&self, _uid: u32) -> Result<String, SqueueError> {
        self.with(|script| script.queries += 1);
        self.wait_while(|script| script.hold_squeue);
        self.with(|script| Ok(script.squeue.clone().unwrap_or_else(|| squeue(&ALL_RUNNING))))
    }

    fn start_of(&self, job: u32) -> Result<Option<u64>, SqueueError> {
        self.with(|script| script.start_questions += 1);
        self.wait_while(|script| script.hold_squeue);
        self.with(
            |script| if script.no_starts { Err(SqueueError::Missing) } else { Ok(script.starts.get(&job).copied()) },
        )
    }

    fn itself(&self) -> Option<ControllerFacts> {
        let time = |(clock, ahead): &(FakeClock, i64)| (NOW + clock.elapsed().as_secs()).saturating_add_signed(*ahead);
        let (now, timeout) = self.with(|script| (script.slurmctld.as_ref().map(time), script.message_timeout));
        now.map(|now| ControllerFacts { now, message_timeout: timeout.or(Some(10)) })
    }
}
