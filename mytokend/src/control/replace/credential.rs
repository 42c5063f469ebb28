// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes the new credential of a job.

use mytoken::time_format::TimeFormat;
use mytoken::{Clock, Deadline, SystemClock};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::{OwnJob, Replacing};
use crate::submit::patience::Patience;
use crate::submit::{Follower, JobTime, SubmitConfig, SubmitRequest, SubmittedCredential, UserEnvironment, submit};

impl Replacing<'_> {
    /// Makes a credential, and asks the agent of this host to follow it: this command may be ended before it knows what became of it. The
    /// last value says whether the agent does it.
    pub(super) fn make(&self, profile: &str, job: &OwnJob) -> Result<(SubmittedCredential, Follower, bool), String> {
        // Of a sub-token whose answer nobody reads, nobody knows.
        let mut ends = SigSet::empty();
        ends.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        let before = ends.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok();
        let made = self.submit(profile).map(|credential| {
            let follower = credential.follower(self.runtime_dir, job.name.leader());
            let followed = follower.tell(false);
            (credential, follower, followed)
        });
        before.map(|before| before.thread_set_mask());
        made
    }

    fn submit(&self, profile: &str) -> Result<SubmittedCredential, String> {
        let config = SubmitConfig::load(self.config).map_err(|error| error.to_string())?;
        let deadline = Deadline::after(config.jobs.submit.deadline.get());
        let request = SubmitRequest {
            profile: profile.to_owned(),
            required: false,
            clusters: None,
            command: "replace".to_owned(),
            job: JobTime::Before,
            export_file: false,
            command_pid: None,
            times: TimeFormat::local(SystemClock.now()),
        };
        let patience = Patience { deadline, waits: &|| true, threads: None };
        submit(&config, &request, &UserEnvironment::current(), &SystemClock, &patience)
            .map_err(|error| error.to_string())
    }
}
