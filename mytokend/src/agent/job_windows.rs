// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps the windows of jobs that count from the start of each job: asks slurmctld for that start, removes the files outside the windows, and
//! writes them again.

use mytoken_wire::agent::EventKind;

use super::Agent;
use super::lease::{Lease, LeaseKey, Phase};
use super::lease_table::{LeaseTable, Task};
use super::slurm::SqueueError;
use crate::jobs::{JobWindow, Window, windows};
use crate::log::Level;

/// What slurmctld has told of a job. Times are Unix milliseconds of this agent's plans.
struct ToldStart {
    job: u32,
    /// When its first step here was seen.
    seen: Option<u64>,
    /// When it began. `None`: slurmctld does not know.
    begun: Option<u64>,
}

impl Agent {
    /// Asks slurmctld when the jobs of a lease began. Without an answer, a job has begun with its first step here.
    pub(super) fn ask_starts(&self, task: &Task) {
        let asking = |lease: &Lease| Some(lease.asking_jobs()).filter(|jobs| !jobs.is_empty());
        let Some(jobs) = self.leases().begin(task, asking) else { return };
        let (mut told, mut failure) = (Vec::new(), None);
        for (job, seen) in jobs {
            // One that does not answer is not asked for each job.
            let begun = if failure.is_none() { self.begin_of(job) } else { Ok(None) };
            failure = failure.or(begun.as_ref().err().map(ToString::to_string));
            told.push(ToldStart { job, seen, begun: begun.ok().flatten() });
        }
        let mut table = self.leases();
        let Some(lease) = table.finish(task) else { return };
        if let Some(failure) = failure {
            let text = format!(
                "{}: slurmctld does not tell when it began ({failure}); its start_windows count from its first step here",
                super::name(lease)
            );
            self.log.line_of(lease.uid, Level::Warning, &text);
        }
        self.take_starts(lease, told);
        self.lease_changed(&mut table, &task.key);
    }

    /// Takes when jobs began.
    fn take_starts(&self, lease: &mut Lease, told: Vec<ToldStart>) {
        let now = self.now();
        for ToldStart { job, seen, begun } in told {
            lease.set_begun(job, seen, begun, now);
            self.tell_window(lease, job);
        }
        Self::use_windows(lease);
    }

    /// After a panic nobody knows when the jobs began.
    pub(super) fn take_unknown_starts(&self, lease: &mut Lease) {
        let unknown = |(job, seen)| ToldStart { job, seen, begun: None };
        let told = lease.asking_jobs().into_iter().map(unknown).collect();
        self.take_starts(lease, told);
    }

    /// When a job began, Unix milliseconds of this agent's plans.
    fn begin_of(&self, job: u32) -> Result<Option<u64>, SqueueError> {
        let begun = self.configured().controller.start_of(job)?;
        let age = begun.map(|begun| self.slurmctld_now().saturating_sub(begun));
        Ok(age.map(|age| self.now().saturating_sub(age.saturating_mul(1000))))
    }

    /// Windows of the lease's jobs begin or end.
    pub(super) fn follow_windows_of(&self, table: &mut LeaseTable, key: &LeaseKey) {
        let Some(lease) = table.get_mut(key) else { return };
        let now = self.now();
        for (job, window, at) in lease.follow_windows(now) {
            self.tell_window(lease, job);
            if let JobWindow::Open { until } = window {
                self.spread_requests(lease, at, until);
            }
        }
        Self::use_windows(lease);
        self.lease_changed(table, key);
    }

    /// Says that a job gets no access token now.
    fn tell_window(&self, lease: &mut Lease, job: u32) {
        let window = lease.window_of(job);
        let kind = if window == JobWindow::Over { EventKind::Removed } else { EventKind::Waiting };
        let gives = matches!(lease.phase, Phase::Active { .. }) || lease.files.iter().any(|file| file.due.is_some());
        if let Some(reason) = window.reason().filter(|_| gives) {
            self.record(lease, Level::Info, kind, format!("job {job}: {reason}"));
        }
    }

    /// All nodes of a job wait for the same second, in which a window opens.
    fn spread_requests(&self, lease: &mut Lease, begin: u64, until: u64) {
        let window = Window { nbf: Some(begin / 1000), exp: Some(until / 1000) };
        let first = windows::first_request(&[window], begin / 1000, (self.draw)());
        if let Phase::Active { due } = &mut lease.phase {
            *due = first.max(*due);
        }
        for file in &mut lease.files {
            file.due = file.due.map(|due| due.max(first));
        }
    }

    /// Has the access tokens of jobs outside their windows removed, and those of the others written.
    fn use_windows(lease: &mut Lease) {
        let mut removed = false;
        for (id, job) in lease.jobs.iter_mut().filter(|(_, job)| job.running && job.window.reason().is_some()) {
            removed |= job.window != JobWindow::Asking && job.file.take().is_some();
            for file in lease.files.iter_mut().filter(|_| job.window != JobWindow::Asking) {
                removed |= file.written.remove(id).is_some();
            }
        }
        lease.files_due = true;
        if removed {
            lease.remove_stale();
            lease.remove_stale_further();
        }
    }
}
