// SPDX-License-Identifier: MIT OR Apache-2.0
//! The records of starts and ends of jobs that the agent did not answer, in `missed/` below the runtime directory: 0600 in a 0700 directory
//! of root. The Slurm plugin writes them, the agent serves them when it is back.

use serde::{Deserialize, Serialize};

use super::envelope::{LINE_LIMIT, VERSION};
use super::{JobEnd, JobStart};
use crate::Malformed;
use crate::members::{self, Json as _, number, short_number};

/// The end of the name of a record that an agent serves.
const TAKEN: &str = ".taken";

/// The end of the name of a record that an agent could not read.
const KEPT: &str = ".unreadable";

/// A record in a file of its own.
pub trait MissedRecord: Serialize + Sized {
    /// The end of the file's name.
    const ENDING: &'static str;

    /// Longest file in bytes.
    const LIMIT: usize = LINE_LIMIT;

    /// Version of its form.
    fn version(&self) -> u32;

    /// The job.
    fn job(&self) -> u32;

    /// Reads a file.
    ///
    /// # Errors
    /// When it has another form.
    fn read(bytes: &[u8]) -> Result<Self, Malformed>;

    /// Reads the file of `job`; `None` if it has another form or version, or is that of another job.
    #[must_use]
    fn parse(bytes: &[u8], job: u32) -> Option<Self> {
        let fits = |record: &Self| record.version() == VERSION && record.job() == job;
        Self::read(bytes).ok().filter(fits)
    }

    /// The content of the file.
    #[must_use]
    fn text(&self) -> String {
        // Serialising strings and numbers cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The name of the file of `job`.
    #[must_use]
    fn file_name(job: u32) -> String {
        format!("{job}{}", Self::ENDING)
    }

    /// The name while an agent serves it. The plugin may write the next record meanwhile.
    #[must_use]
    fn taken_name(job: u32) -> String {
        format!("{}{TAKEN}", Self::file_name(job))
    }

    /// The name after an agent could not read it.
    #[must_use]
    fn kept_name(job: u32) -> String {
        format!("{}{KEPT}", Self::file_name(job))
    }

    /// The job of a file with this name.
    #[must_use]
    fn job_of(name: &str) -> Option<u32> {
        let job = name.strip_suffix(Self::ENDING)?.parse().ok()?;
        (Self::file_name(job) == name).then_some(job)
    }

    /// The job of a file that an agent serves.
    #[must_use]
    fn job_of_taken(name: &str) -> Option<u32> {
        Self::job_of(name.strip_suffix(TAKEN)?)
    }

    /// The job of a file that an agent could not read.
    #[must_use]
    fn job_of_kept(name: &str) -> Option<u32> {
        Self::job_of(name.strip_suffix(KEPT)?)
    }
}

/// The start of a job, in `<job>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissedStart {
    v: u32,
    /// When the step gave up, in seconds since boot ([`uptime`](crate::clock::uptime)).
    pub uptime: u64,
    /// The request.
    pub start: JobStart,
}

/// For this time after the record was written, the job's further steps do not wait for the agent again.
const RECENT: u64 = 600;

impl MissedRecord for MissedStart {
    const ENDING: &'static str = ".json";

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let record = members::parse(bytes)?;
        let (v, uptime) = (short_number(&record, "v")?, number(&record, "uptime")?);
        let start = JobStart::read(record.member("start").ok_or(Malformed)?)?;
        Ok(Self { v: v.ok_or(Malformed)?, uptime: uptime.ok_or(Malformed)?, start })
    }

    fn version(&self) -> u32 {
        self.v
    }

    fn job(&self) -> u32 {
        self.start.job
    }
}

impl MissedStart {
    /// The record of a request that got no answer until `uptime`.
    #[must_use]
    pub fn new(start: JobStart, uptime: u64) -> Self {
        Self { v: VERSION, uptime, start }
    }

    /// Whether a step gave up so recently that the next one need not wait, at `uptime`.
    #[must_use]
    pub fn is_recent(&self, uptime: u64) -> bool {
        (self.uptime..self.uptime.saturating_add(RECENT)).contains(&uptime)
    }
}

/// The end of a job, in `<job>.end.json`. The job's next start removes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedEnd {
    v: u32,
    /// The request.
    pub end: JobEnd,
}

impl MissedRecord for MissedEnd {
    const ENDING: &'static str = ".end.json";

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        serde_json::from_slice(bytes).map_err(|_| Malformed)
    }

    fn version(&self) -> u32 {
        self.v
    }

    fn job(&self) -> u32 {
        self.end.job
    }
}

impl MissedEnd {
    /// The record of a request that got no answer.
    #[must_use]
    pub fn new(end: JobEnd) -> Self {
        Self { v: VERSION, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> MissedStart {
        MissedStart::new(JobStart { job: 7, sealed: Some("mt1.x".into()), ..JobStart::default() }, 1000)
    }

    fn survives<R: MissedRecord + PartialEq + std::fmt::Debug>(record: &R) {
        let read = |text: String, job| R::parse(text.as_bytes(), job);
        assert_eq!(read(record.text(), 7).as_ref(), Some(record));
        assert_eq!(read(record.text(), 8), None, "of another job");
        assert_eq!(read(record.text().replace("\"v\":1", "\"v\":2"), 7), None, "of another version");
    }

    #[test]
    fn records_survive_a_round_trip_and_others_are_not_read() {
        survives(&start());
        survives(&MissedEnd::new(JobEnd { job: 7, nodes: Some("n[1-2]".into()), at: Some(5) }));
        // Of the plugins of earlier releases.
        let start = br#"{"v":1,"uptime":5,"start":{"job":7,"step":0,"uid":1,"gid":1}}"#;
        assert_eq!(MissedStart::parse(start, 7).map(|record| record.start.at), Some(None));
        assert_eq!(MissedEnd::parse(br#"{"v":1,"end":{"job":7}}"#, 7).map(|record| record.end.at), Some(None));
    }

    #[test]
    fn a_file_has_one_name_and_no_other_one_is_a_record() {
        assert_eq!(MissedStart::job_of(&MissedStart::file_name(7)), Some(7));
        assert_eq!(MissedEnd::job_of(&MissedEnd::file_name(7)), Some(7));
        assert_eq!(MissedEnd::job_of_taken(&MissedEnd::taken_name(7)), Some(7));
        assert_eq!(MissedStart::job_of_kept(&MissedStart::kept_name(7)), Some(7));
        let others = [MissedStart::taken_name(7), MissedStart::kept_name(7), MissedEnd::taken_name(7)];
        let wrong = ["7", ".json", "07.json", "+7.json", "7.json.new", ".7.json", "4294967296.json", "07.end.json"];
        for wrong in wrong.into_iter().chain([".end.json", "7.end.json.new"]).chain(others.iter().map(String::as_str)) {
            assert_eq!((MissedStart::job_of(wrong), MissedEnd::job_of(wrong)), (None, None), "{wrong}");
        }
        let (start, end) = (MissedStart::file_name(7), MissedEnd::file_name(7));
        assert_eq!((MissedEnd::job_of(&start), MissedStart::job_of(&end)), (None, None));
    }

    #[test]
    fn a_start_is_recent_for_ten_minutes_of_the_same_boot() {
        assert_eq!([999, 1000, 1599, 1600].map(|uptime| start().is_recent(uptime)), [false, true, true, false]);
    }
}
