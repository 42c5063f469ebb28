// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs that began or ended while no agent answered, and steps that do not bring their job's credential.

use mytoken::private_files::FileError;
use mytoken_wire::agent::{JobStart, MissedEnd, MissedRecord as _, MissedStart};

use super::Agent;
use crate::log::Level;

impl Agent {
    /// Starts the jobs whose steps got no answer from an agent, as if they asked now, and ends those whose epilogs got none. The plugin
    /// records them in the runtime directory. A batch script gets its token in this way without a further step. The schedule thread, which
    /// plans requests, calls this: a job that has ended gets no token.
    pub(super) fn take_missed(&self) {
        let (directory, _) = self.runtime_dir.missed();
        let names = match directory.names() {
            Ok(names) => names,
            Err(error) => return self.log.line(Level::Error, &error.to_string()),
        };
        // Other names are temporary files of a plugin that is writing.
        for (name, job) in names.iter().filter_map(|name| Some((name, MissedStart::job_of(name)?))) {
            self.take_missed_start(name, job);
        }
        for (name, job) in names.iter().filter_map(|name| Some((name, MissedEnd::job_of(name)?))) {
            let (_, owner) = self.runtime_dir.missed();
            let read = directory.read(name, owner, 0o600, MissedEnd::LIMIT);
            let record = read.map(|bytes| bytes.and_then(|bytes| MissedEnd::parse(&bytes, job)));
            match record {
                Ok(Some(record)) => {
                    self.log.line(Level::Info, &format!("job {job}: ended while no agent answered"));
                    self.job_end(&record.end);
                }
                // It is gone if the job has started again.
                Ok(_) => {}
                Err(error) => self.log.line(Level::Warning, &format!("{error}; it is removed")),
            }
            if let Err(error) = directory.remove(name) {
                self.log.line(Level::Error, &error.to_string());
            }
        }
    }

    /// Makes a lease for a job that ends and whose start got no answer: nobody else may know its credential.
    pub(super) fn take_missed_start_of(&self, job: u32) {
        let name = MissedStart::file_name(job);
        let is_known = self.leases().of_job(job).is_some_and(|lease| lease.runs(job));
        if !is_known && self.runtime_dir.missed().0.has(&name).unwrap_or(false) {
            self.take_missed_start(&name, job);
        }
    }

    fn take_missed_start(&self, name: &str, job: u32) {
        match self.read_missed_start(name, job) {
            Ok(Some(record)) if record.start.has_credential() => {
                self.log.line(Level::Info, &format!("job {job}: began while no agent answered"));
                self.begin_job(&record.start);
            }
            // Only the job's further steps need this record, and only until an agent is back.
            Ok(Some(_)) => {}
            Ok(None) => self.log.line(Level::Warning, &format!("{name} does not record a start; it is removed")),
            Err(error) => self.log.line(Level::Warning, &format!("{error}; it is removed")),
        }
        if let Err(error) = self.runtime_dir.missed().0.remove(name) {
            self.log.line(Level::Error, &error.to_string());
        }
    }

    fn read_missed_start(&self, name: &str, job: u32) -> Result<Option<MissedStart>, FileError> {
        let (directory, owner) = self.runtime_dir.missed();
        let bytes = directory.read(name, owner, 0o600, MissedStart::LIMIT)?;
        Ok(bytes.and_then(|bytes| MissedStart::parse(&bytes, job)))
    }

    /// Makes the directory of a job with a credential. By it the plugin finds out that a step from outside the job (`srun --jobid`) belongs
    /// to such a job.
    pub(super) fn make_job_directory(&self, start: &JobStart) {
        if !start.has_credential() {
            return;
        }
        if let Err(error) = self.runtime_dir.make_job(start.job) {
            self.log.line(Level::Error, &format!("job {}: its directory could not be made: {error}", start.job));
        }
    }
}
