// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps that do not bring their job's credential.

use mytoken_wire::agent::JobStart;

use super::Agent;
use crate::log::Level;

impl Agent {
    /// Makes the directory of a job with a credential. By it the plugin finds out that a step from outside the job (`srun --jobid`) belongs
    /// to such a job.
    pub(super) fn make_job_directory(&self, start: &JobStart) {
        if start.sealed.is_none() && start.handle.is_none() {
            return;
        }
        if let Err(error) = self.runtime_dir.make_job(start.job) {
            self.log.line(Level::Error, &format!("job {}: its directory could not be made: {error}", start.job));
        }
    }
}
