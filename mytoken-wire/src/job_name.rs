// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ids of jobs as Slurm prints them: `8`, `8_3` (a task of an array), `8+1` (a component of a heterogeneous job), and with a step
//! behind (`8_3.batch`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::members::Json;

/// The id of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobName {
    /// A job, or all tasks of an array, or all components of a heterogeneous job.
    Job(u32),
    /// A task of an array.
    Task {
        /// The array.
        array: u32,
        /// Index of the task.
        task: u32,
    },
    /// A component of a heterogeneous job.
    Component {
        /// The first component.
        leader: u32,
        /// Number of the component, from 0.
        offset: u32,
    },
}

/// The text is not the id of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAJob;

impl JobName {
    /// The array, the first component, or the job itself.
    #[must_use]
    pub const fn leader(self) -> u32 {
        match self {
            Self::Job(id) | Self::Task { array: id, .. } | Self::Component { leader: id, .. } => id,
        }
    }

    /// Whether the job with this number, which Slurm prints as `name`, is meant.
    #[must_use]
    pub fn means(self, job: u32, name: Option<Self>) -> bool {
        match self {
            Self::Job(id) => id == job || name.is_some_and(|name| name.leader() == id),
            // The first component has the number of the whole.
            Self::Component { leader, offset: 0 } if name.is_none() => leader == job,
            _ => name == Some(self),
        }
    }
}

impl JobName {
    /// The id in a message: a number, or a text.
    pub(crate) fn of_value<J: Json>(value: &J) -> Result<Self, NotAJob> {
        match value.as_text() {
            Some(text) => text.parse(),
            None => value.as_whole().and_then(|id| u32::try_from(id).ok()).map(Self::Job).ok_or(NotAJob),
        }
    }
}

impl FromStr for JobName {
    type Err = NotAJob;

    fn from_str(text: &str) -> Result<Self, NotAJob> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|_| digits).ok_or(NotAJob)
        };
        let (job, step) = text.split_once('.').map_or((text, None), |(job, step)| (job, Some(step)));
        let is_step = |step: &str| matches!(step, "batch" | "extern" | "interactive") || number(step).is_ok();
        if step.is_some_and(|step| !is_step(step)) {
            return Err(NotAJob);
        }
        if let Some((array, task)) = job.split_once('_') {
            return Ok(Self::Task { array: number(array)?, task: number(task)? });
        }
        if let Some((leader, offset)) = job.split_once('+') {
            return Ok(Self::Component { leader: number(leader)?, offset: number(offset)? });
        }
        number(job).map(Self::Job)
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => write!(f, "{id}"),
            Self::Task { array, task } => write!(f, "{array}_{task}"),
            Self::Component { leader, offset } => write!(f, "{leader}+{offset}"),
        }
    }
}

impl fmt::Display for NotAJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("name one job as squeue does: 8, 8_3 or 8+1")
    }
}

impl std::error::Error for NotAJob {}

/// A plain number is one, as programs of release 0.1.0 write and read it.
impl Serialize for JobName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Job(id) => serializer.serialize_u32(*id),
            Self::Task { .. } | Self::Component { .. } => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for JobName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of_value(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: JobName = JobName::Task { array: 8, task: 3 };
    const COMPONENT: JobName = JobName::Component { leader: 8, offset: 1 };

    #[test]
    fn ids_are_read_as_slurm_prints_them() {
        for (text, name) in [
            ("8", JobName::Job(8)),
            ("8.0", JobName::Job(8)),
            ("8.batch", JobName::Job(8)),
            ("8_3", TASK),
            ("8_3.extern", TASK),
            ("8+1", COMPONENT),
            ("8+1.interactive", COMPONENT),
        ] {
            assert_eq!(text.parse(), Ok(name), "{text}");
            let shown = text.split('.').next().unwrap_or_default();
            assert_eq!(name.to_string(), shown);
            assert_eq!(serde_json::from_str::<JobName>(&format!("\"{shown}\"")).unwrap(), name);
            let written = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<JobName>(&written).unwrap(), name);
            // Release 0.1.0 knows numbers only.
            let number = matches!(name, JobName::Job(_));
            assert_eq!(written, if number { shown.to_owned() } else { format!("\"{shown}\"") });
        }
        for text in
            ["", "x", "8_", "_3", "8_[1-5%2]", "8+", "8_3+1", "8.", "8.x", "-8", "+8", "8 ", "4294967296", "8_3_1"]
        {
            assert_eq!(text.parse::<JobName>(), Err(NotAJob), "{text:?}");
        }
    }

    #[test]
    fn an_id_means_a_job_or_all_that_it_leads() {
        for (asked, job, name, means) in [
            (JobName::Job(8), 8, None, true),
            (JobName::Job(8), 9, Some(TASK), true),
            (JobName::Job(9), 9, Some(TASK), true),
            (JobName::Job(8), 9, None, false),
            (TASK, 9, Some(TASK), true),
            (TASK, 9, Some(JobName::Task { array: 8, task: 1 }), false),
            (TASK, 8, None, false),
            (COMPONENT, 9, Some(COMPONENT), true),
            (JobName::Component { leader: 8, offset: 0 }, 8, None, true),
            (JobName::Component { leader: 8, offset: 0 }, 9, Some(COMPONENT), false),
            (COMPONENT, 8, None, false),
        ] {
            assert_eq!(asked.means(job, name), means, "{asked} {job} {name:?}");
        }
    }
}
