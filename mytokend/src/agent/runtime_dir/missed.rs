// SPDX-License-Identifier: MIT OR Apache-2.0
//! The records of starts and ends of jobs that no agent answered. The plugin writes and removes them at any time. So the agent takes a record,
//! which is one step, before it reads it. What it cannot read it keeps under another name.

use std::collections::BTreeSet;
use std::path::PathBuf;

use mytoken::private_files::FileError;
use mytoken_wire::agent::{MissedEnd, MissedRecord, MissedStart};

use super::RuntimeDir;

/// Most records that are kept although they cannot be read.
const MOST_KEPT: usize = 64;

/// The jobs with records.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MissedJobs {
    /// With the record of a start.
    pub starts: BTreeSet<u32>,
    /// With the record of an end.
    pub ends: BTreeSet<u32>,
    /// With the record of a start that could not be read.
    pub kept_starts: BTreeSet<u32>,
}

/// A record that was taken.
#[derive(Debug)]
pub enum Taken<R> {
    /// It is to be served.
    Record(R),
    /// It cannot be read.
    Unreadable {
        /// Its path from now on.
        kept: PathBuf,
        /// What is wrong with it. Nothing of its content.
        reason: String,
        /// Number of the records of other jobs that were removed to make room.
        removed: usize,
    },
}

impl RuntimeDir {
    /// The jobs with records.
    ///
    /// # Errors
    /// [`FileError::Unusable`] when the directory cannot be listed.
    pub fn missed_jobs(&self) -> Result<MissedJobs, FileError> {
        // Other names are temporary files of a plugin that is writing.
        fn jobs<R: MissedRecord>(names: &[String]) -> BTreeSet<u32> {
            names.iter().filter_map(|name| R::job_of(name).or_else(|| R::job_of_taken(name))).collect()
        }
        let names = self.missed.names()?;
        let kept_starts = names.iter().filter_map(|name| MissedStart::job_of_kept(name)).collect();
        Ok(MissedJobs { starts: jobs::<MissedStart>(&names), ends: jobs::<MissedEnd>(&names), kept_starts })
    }

    /// Takes a job's record. The next call takes the same one again, also in a later run of the agent, until [`Self::missed_is_served`].
    ///
    /// # Errors
    /// [`FileError::Unusable`] when it cannot be renamed.
    pub fn take_missed<R: MissedRecord>(&self, job: u32) -> Result<Option<Taken<R>>, FileError> {
        let (name, taken) = (R::file_name(job), R::taken_name(job));
        if !self.missed.has(&taken)? {
            if !self.missed.has(&name)? {
                return Ok(None);
            }
            if let Err(error) = self.missed.move_to(&name, &self.missed, &taken) {
                // The plugin was faster.
                return if self.missed.has(&name)? { Err(error) } else { Ok(None) };
            }
        }
        match self.read_missed(&taken, job) {
            Ok(record) => Ok(record.map(Taken::Record)),
            Err(reason) => {
                let (kept, removed) = self.keep_missed::<R>(job)?;
                Ok(Some(Taken::Unreadable { kept, reason, removed }))
            }
        }
    }

    /// Removes a record that was taken.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn missed_is_served<R: MissedRecord>(&self, job: u32) -> Result<(), FileError> {
        self.missed.remove(&R::taken_name(job)).map(drop)
    }

    /// The kept record of a job's start, if it can be read now: its owner and mode were corrected, or this version knows its form.
    #[must_use]
    pub fn kept_start(&self, job: u32) -> Option<MissedStart> {
        self.read_missed(&MissedStart::kept_name(job), job).ok().flatten()
    }

    /// Removes the kept records of a job.
    pub fn remove_kept_missed(&self, job: u32) {
        for name in [MissedStart::kept_name(job), MissedEnd::kept_name(job)] {
            // If it stays, it is one of those that make room for others.
            let _ = self.missed.remove(&name);
        }
    }

    fn read_missed<R: MissedRecord>(&self, name: &str, job: u32) -> Result<Option<R>, String> {
        match self.missed.read(name, self.owner, 0o600, R::LIMIT) {
            Ok(Some(bytes)) => match R::parse(&bytes, job) {
                Some(record) => Ok(Some(record)),
                None => Err("it is damaged, or this version does not know its form".to_owned()),
            },
            Ok(None) => Ok(None),
            Err(FileError::Unusable { reason, .. }) => Err(reason),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Gives a record that was taken the name under which it is kept. Those of the oldest jobs make room for it.
    fn keep_missed<R: MissedRecord>(&self, job: u32) -> Result<(PathBuf, usize), FileError> {
        let name = R::kept_name(job);
        self.missed.move_to(&R::taken_name(job), &self.missed, &name)?;
        let job_of = |name: &str| MissedStart::job_of_kept(name).or_else(|| MissedEnd::job_of_kept(name));
        let mut kept: Vec<(u32, String)> =
            self.missed.names()?.into_iter().filter_map(|name| Some((job_of(&name)?, name))).collect();
        kept.sort_unstable();
        let (excess, mut removed) = (kept.len().saturating_sub(MOST_KEPT), 0);
        for (_, oldest) in kept.iter().filter(|(_, other)| *other != name).take(excess) {
            removed += usize::from(self.missed.remove(oldest)?);
        }
        Ok((self.missed.path().join(name), removed))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use mytoken::private_files::Owner;
    use mytoken_wire::agent::{JobEnd, JobStart};

    use super::*;

    fn open(dir: &Path) -> (RuntimeDir, PathBuf) {
        (RuntimeDir::open(&dir.join("mytoken"), Owner::current()).unwrap(), dir.join("mytoken/missed"))
    }

    fn put(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    fn start(job: u32) -> String {
        MissedStart::new(JobStart { job, ..JobStart::default() }, 1).text()
    }

    #[test]
    fn a_record_is_taken_until_it_is_served_and_a_new_one_comes_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let (runtime, missed) = open(dir.path());
        let end = |at| MissedEnd::new(JobEnd { job: 7, nodes: None, at: Some(at) });
        let taken_at = || match runtime.take_missed::<MissedEnd>(7) {
            Ok(Some(Taken::Record(record))) => record.end.at,
            Ok(None) => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(taken_at(), None);
        put(&missed.join("7.end.json"), &end(1).text());
        assert_eq!(taken_at(), Some(1));
        // The plugin writes the next one before this one is served, and the agent ends.
        put(&missed.join("7.end.json"), &end(2).text());
        let runtime = open(dir.path()).0;
        assert_eq!(runtime.missed_jobs().unwrap().ends, BTreeSet::from([7]));
        let taken_at = || match runtime.take_missed::<MissedEnd>(7) {
            Ok(Some(Taken::Record(record))) => record.end.at,
            _ => None,
        };
        for at in [1, 2] {
            assert_eq!((taken_at(), taken_at()), (Some(at), Some(at)));
            runtime.missed_is_served::<MissedEnd>(7).unwrap();
        }
        assert_eq!(taken_at(), None);
        assert_eq!(runtime.missed_jobs().unwrap(), MissedJobs::default());
    }

    #[test]
    fn what_cannot_be_read_is_kept_and_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let (runtime, missed) = open(dir.path());
        put(&missed.join("1.json"), "{\"secret\"");
        put(&missed.join("2.json"), &start(2).replace("\"v\":1", "\"v\":2"));
        put(&missed.join("3.json"), &start(4));
        put(&missed.join("5.json"), &start(5));
        fs::set_permissions(missed.join("5.json"), Permissions::from_mode(0o644)).unwrap();
        put(&missed.join("6.json"), &"x".repeat(MissedStart::LIMIT + 1));
        fs::create_dir(missed.join("8.json")).unwrap();
        let form = "it is damaged, or this version does not know its form";
        let own = Owner::current().uid;
        let mode = format!("it belongs to user {own} with mode 0644, expected user {own} and at most 0600");
        for (job, expected) in [
            (1, form),
            (2, form),
            (3, form),
            (5, &mode),
            (6, "it is longer than 65536 bytes"),
            (8, "it is not a regular file with one name"),
        ] {
            let Some(Taken::Unreadable { kept, reason, removed }) = runtime.take_missed::<MissedStart>(job).unwrap()
            else {
                panic!("{job}")
            };
            assert_eq!((reason.as_str(), removed), (expected, 0));
            assert_eq!(kept, missed.join(format!("{job}.json.unreadable")));
            assert!(kept.exists() && runtime.take_missed::<MissedStart>(job).unwrap().is_none());
        }
        let jobs = runtime.missed_jobs().unwrap();
        assert_eq!((jobs.starts.len(), jobs.kept_starts), (0, BTreeSet::from([1, 2, 3, 5, 6, 8])));
        assert!(runtime.kept_start(5).is_none());
        fs::set_permissions(missed.join("5.json.unreadable"), Permissions::from_mode(0o600)).unwrap();
        assert_eq!(runtime.kept_start(5).map(|record| record.start.job), Some(5));
    }

    #[test]
    fn the_oldest_jobs_make_room_for_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (runtime, missed) = open(dir.path());
        let most = u32::try_from(MOST_KEPT).unwrap();
        for job in (0..=most).rev() {
            put(&missed.join(format!("{job}.end.json")), "");
            let taken = runtime.take_missed::<MissedEnd>(job).unwrap();
            // The newest record stays, also if its job is the oldest.
            let expected = usize::from(job == 0);
            assert!(matches!(taken, Some(Taken::Unreadable { removed, .. }) if removed == expected), "{taken:?}");
        }
        let kept = |job: u32| missed.join(MissedEnd::kept_name(job)).exists();
        assert_eq!([kept(0), kept(1), kept(2), kept(most)], [true, false, true, true]);
        runtime.remove_kept_missed(2);
        assert!(!kept(2));
    }
}
