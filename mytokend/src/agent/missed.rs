// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs that began or ended while no agent answered, and steps that do not bring their job's credential.

use std::sync::PoisonError;

use mytoken_wire::agent::{JobStart, MissedEnd, MissedRecord, MissedStart};

use super::Agent;
use super::runtime_dir::Taken;
use super::store::RECORD_PATIENCE;
use crate::log::Level;

impl Agent {
    /// Starts the jobs whose steps got no answer from an agent, as if they asked now, and ends those whose epilogs got none. The plugin
    /// records them in the runtime directory. A batch script gets its token in this way without a further step. The schedule thread, which
    /// plans requests, calls this: a job that has ended gets no token.
    pub(super) fn take_missed(&self) {
        let jobs = match self.runtime_dir.missed_jobs() {
            Ok(jobs) => jobs,
            Err(error) => return self.log.line(Level::Error, &error.to_string()),
        };
        jobs.starts.into_iter().for_each(|job| self.take_missed_start(job));
        jobs.kept_starts.into_iter().for_each(|job| self.take_kept_start(job));
        for job in jobs.ends {
            self.take(job, |record: MissedEnd| {
                self.log.line(Level::Info, &format!("job {job}: ended while no agent answered"));
                self.end_of_job(&record.end);
            });
        }
    }

    /// Starts a job whose step got no answer. Its end comes after this, because perhaps no other agent knows its credential.
    pub(super) fn take_missed_start(&self, job: u32) {
        // A job that ends waits until a record that another thread has taken is served.
        let _one_at_a_time = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        self.take(job, |record: MissedStart| self.begin_missed(&record.start));
    }

    /// Starts a job if the record of its start could not be read and can be read now.
    fn take_kept_start(&self, job: u32) {
        let _one_at_a_time = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = self.runtime_dir.kept_start(job) {
            self.log.line(Level::Info, &format!("job {job}: the record of its start can be read again"));
            self.begin_missed(&record.start);
            self.wait_until_stored(RECORD_PATIENCE);
            self.runtime_dir.remove_kept_missed(job);
        }
    }

    fn begin_missed(&self, start: &JobStart) {
        // Without a credential it was only for the job's further steps, and until an agent is back.
        if start.has_credential() && !self.knows(start.job) {
            self.log.line(Level::Info, &format!("job {}: began while no agent answered", start.job));
        }
        if start.has_credential() {
            self.begin_job(start);
        } else {
            self.note_step(&mut self.leases(), start);
        }
    }

    /// Takes the records of one kind of a job: one that an earlier run of the agent had taken, and the last one.
    fn take<R: MissedRecord>(&self, job: u32, serve: impl Fn(R)) {
        for _ in 0..2 {
            match self.runtime_dir.take_missed(job) {
                Ok(None) => return,
                Ok(Some(Taken::Record(record))) => serve(record),
                Ok(Some(Taken::Unreadable { kept, reason, removed })) => {
                    let what = meaning(R::ENDING == MissedEnd::ENDING, self.knows(job));
                    let text = format!("job {job}: the record of {what}; it is kept as {}: {reason}", kept.display());
                    self.log.line(Level::Warning, &text);
                    if removed > 0 {
                        let text = format!("{removed} unreadable records of older jobs were removed to make room");
                        self.log.line(Level::Warning, &text);
                    }
                    continue;
                }
                Err(error) => return self.log.line(Level::Error, &error.to_string()),
            }
            self.wait_until_stored(RECORD_PATIENCE);
            if let Err(error) = self.runtime_dir.missed_is_served::<R>(job) {
                return self.log.line(Level::Error, &error.to_string());
            }
        }
    }

    fn knows(&self, job: u32) -> bool {
        self.leases().of_job(job).is_some_and(|lease| lease.runs(job))
    }
}

/// What a record that cannot be read means for its job.
fn meaning(is_end: bool, is_known: bool) -> &'static str {
    match (is_end, is_known) {
        (true, true) => {
            "its end cannot be used, and its access token stays until slurmctld says that the job has left this node"
        }
        (true, false) => "its end cannot be used, and this agent has no access token of it",
        (false, true) => "a start cannot be used, and its access token stays",
        (false, false) => {
            "its start cannot be used, so it gets no access token before its next step, and this node cannot revoke its sub-token"
        }
    }
}
