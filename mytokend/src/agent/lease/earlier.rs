// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leases that earlier releases have stored.

use super::{Lease, LeaseKey, LocalJob};

impl Lease {
    /// The lease in its present form: release 0.1.0 had one lease for each job.
    #[must_use]
    pub fn in_present_form(mut self, now: u64) -> Self {
        if let LeaseKey::Job(job) = self.key {
            if self.jobs.is_empty() {
                let (running, file) = (self.is_running(), self.token.map(|token| token.exp));
                let job_here = LocalJob { running, file, ..LocalJob::new(self.gid, now) };
                self.jobs.insert(job, Box::new(job_here));
                self.leaders.insert(self.array_job.unwrap_or(job));
            }
            if self.credential.is_some() && !self.handle.is_empty() {
                self.key = LeaseKey::Submission { uid: self.uid, handle: self.handle.clone() };
            }
        }
        for job in self.jobs.values_mut() {
            job.last_seen = now;
        }
        self.proven |= self.token.is_some();
        self
    }
}
