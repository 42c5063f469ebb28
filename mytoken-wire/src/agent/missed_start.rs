// SPDX-License-Identifier: MIT OR Apache-2.0
//! The record of a job's start that the agent did not answer: `missed/<job>.json` below the runtime directory, 0600 in a 0700 directory of
//! root. The Slurm plugin writes it, the agent serves it when it is back.

use serde::{Deserialize, Serialize};

use super::JobStart;
use super::envelope::VERSION;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedStart {
    v: u32,
    /// When the step gave up, in seconds since boot ([`uptime`](crate::clock::uptime)).
    pub uptime: u64,
    /// The request.
    pub start: JobStart,
}

/// For this time after the record was written, the job's further steps do not wait for the agent again.
const RECENT: u64 = 600;

/// The end of the file's name.
const ENDING: &str = ".json";

impl MissedStart {
    /// Longest file in bytes.
    pub const LIMIT: usize = super::LINE_LIMIT;

    /// The record of a request that got no answer until `uptime`.
    #[must_use]
    pub fn new(start: JobStart, uptime: u64) -> Self {
        Self { v: VERSION, uptime, start }
    }

    /// Reads a file; `None` if it has another form or version.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|record: &Self| record.v == VERSION)
    }

    /// The content of the file.
    #[must_use]
    pub fn text(&self) -> String {
        // Serialising strings and numbers cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The name of the file of `job`.
    #[must_use]
    pub fn file_name(job: u32) -> String {
        format!("{job}{ENDING}")
    }

    /// The job of a file.
    #[must_use]
    pub fn job_of(name: &str) -> Option<u32> {
        let job = name.strip_suffix(ENDING)?.parse().ok()?;
        (Self::file_name(job) == name).then_some(job)
    }

    /// Whether a step gave up so recently that the next one need not wait, at `uptime`.
    #[must_use]
    pub fn is_recent(&self, uptime: u64) -> bool {
        (self.uptime..self.uptime.saturating_add(RECENT)).contains(&uptime)
    }

    /// Whether the step brought something for the agent.
    #[must_use]
    pub fn has_credential(&self) -> bool {
        self.start.sealed.is_some() || self.start.handle.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> JobStart {
        JobStart {
            job: 7,
            step: 0,
            uid: 1,
            gid: 1,
            array_job: None,
            name: None,
            sealed: Some("mt1.x".into()),
            handle: None,
        }
    }

    #[test]
    fn a_record_survives_a_round_trip_and_other_versions_are_not_read() {
        let record = MissedStart::new(start(), 100);
        assert_eq!(MissedStart::parse(record.text().as_bytes()), Some(record.clone()));
        let newer = record.text().replace("\"v\":1", "\"v\":2");
        assert_eq!(MissedStart::parse(newer.as_bytes()), None);
    }

    #[test]
    fn a_file_has_one_name() {
        assert_eq!(MissedStart::job_of(&MissedStart::file_name(7)), Some(7));
        for wrong in ["7", ".json", "07.json", "+7.json", "7.json.new", ".7.json", "4294967296.json"] {
            assert_eq!(MissedStart::job_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_record_is_recent_for_ten_minutes_of_the_same_boot() {
        let record = MissedStart::new(start(), 1000);
        assert_eq!([999, 1000, 1599, 1600].map(|uptime| record.is_recent(uptime)), [false, true, true, false]);
    }
}
