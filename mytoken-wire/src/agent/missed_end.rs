// SPDX-License-Identifier: MIT OR Apache-2.0
//! The record of a job's end that the agent did not answer: `missed/<job>.end.json` below the runtime directory, beside those of starts. The
//! Slurm plugin writes it in the epilog, the agent ends the job when it is back. The job's next start removes it.

use serde::{Deserialize, Serialize};

use super::JobEnd;
use super::envelope::VERSION;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedEnd {
    v: u32,
    /// The request.
    pub end: JobEnd,
}

/// The end of the file's name.
const ENDING: &str = ".end.json";

impl MissedEnd {
    /// Longest file in bytes.
    pub const LIMIT: usize = super::LINE_LIMIT;

    /// The record of a request that got no answer.
    #[must_use]
    pub fn new(end: JobEnd) -> Self {
        Self { v: VERSION, end }
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
}

#[cfg(test)]
mod tests {
    use super::super::MissedStart;
    use super::*;

    #[test]
    fn a_record_survives_a_round_trip_and_has_a_name_of_its_own() {
        let record = MissedEnd::new(JobEnd { job: 7, nodes: Some("n[1-2]".into()) });
        assert_eq!(MissedEnd::parse(record.text().as_bytes()), Some(record.clone()));
        assert_eq!(MissedEnd::parse(record.text().replace("\"v\":1", "\"v\":2").as_bytes()), None);
        let name = MissedEnd::file_name(7);
        assert_eq!((MissedEnd::job_of(&name), MissedStart::job_of(&name)), (Some(7), None));
        for wrong in ["7.json", "07.end.json", ".end.json", "7.end.json.new"] {
            assert_eq!(MissedEnd::job_of(wrong), None, "{wrong}");
        }
    }
}
