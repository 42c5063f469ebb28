// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is to be done with the token files of a lease. It is only noted here: nobody who holds the lease table waits for a file system.

use mytoken::private_files::Owner;

use super::{CurrentToken, Ends, Lease, LeaseKey, NamedFile};
use crate::agent::file_queue::FilePlace;
use crate::jobs::JobWindow;

impl Lease {
    /// Owner of the file of `job`; of a session's file when there is no such job.
    #[must_use]
    pub fn owner(&self, job: Option<u32>) -> Owner {
        let gid = job.and_then(|job| self.jobs.get(&job)).map_or(self.gid, |job| job.gid);
        Owner { uid: self.uid, gid }
    }

    /// Whether no access token may be in the file of a job with this window, or of the session.
    #[must_use]
    pub fn forbids_token(&self, window: JobWindow) -> bool {
        let is_outside = matches!(window, JobWindow::Closed { .. } | JobWindow::Over);
        self.ends == Ends::OnRequest || !self.is_running() || is_outside
    }

    /// Whether the session's file is to be as this lease says. A session whose record could not be read may run, also if its lease waits for
    /// nothing but the end of the token.
    #[must_use]
    pub fn has_session_file(&self) -> bool {
        self.is_running() || self.lacks_credential
    }

    /// Where its files are: in the directories of the jobs that run here, or in that of the session.
    #[must_use]
    pub fn file_places(&self) -> Vec<FilePlace> {
        match &self.key {
            LeaseKey::Session(session) => {
                let (uid, gid, session, place) = (self.uid, self.gid, session.clone(), self.place);
                vec![FilePlace::Session { uid, gid, session, place }]
            }
            LeaseKey::Submission { .. } | LeaseKey::Job(_) => self.running_jobs().map(FilePlace::Job).collect(),
        }
    }

    /// Has the files removed that hold no access token of the lease. Their directories stay: the jobs or the session still run.
    pub fn remove_stale(&mut self) {
        self.is_stale = self.token.is_none();
        for job in self.jobs.values_mut().filter(|job| job.running && job.file.is_none()) {
            job.is_stale = true;
        }
        self.files_due = true;
    }

    /// The same for the further files.
    pub fn remove_stale_further(&mut self) {
        let running: Vec<u32> = self.running_jobs().collect();
        for file in &mut self.files {
            let without: Vec<u32> = running.iter().copied().filter(|job| !file.written.contains_key(job)).collect();
            file.stale.extend(without);
        }
        self.files_due = true;
    }

    /// After a restart: has a thread look at the files of which nothing is known. An earlier run of the agent may have ended before it could
    /// remove an access token there, or before it could store that it had written one. Returns whether there are such files.
    pub fn doubt_files(&mut self) -> bool {
        let is_session = matches!(self.key, LeaseKey::Session(_)) && self.has_session_file();
        self.is_doubtful = is_session && self.token.is_none();
        for job in self.jobs.values_mut() {
            job.is_doubtful = job.running && job.file.is_none();
        }
        let running: Vec<u32> = self.running_jobs().collect();
        for file in &mut self.files {
            file.doubted = running.iter().copied().filter(|job| !file.written.contains_key(job)).collect();
        }
        self.files_due = self.is_doubtful
            || self.jobs.values().any(|job| job.is_doubtful)
            || self.files.iter().any(|file| !file.doubted.is_empty());
        self.files_due
    }

    /// Whether files of running jobs have older access tokens than the lease, or none, and no file has a newer one.
    #[must_use]
    pub fn has_older_files(&self) -> bool {
        let open: Vec<u32> = self.running_jobs().filter(|job| self.window_of(*job).is_open()).collect();
        let held: Vec<Option<u64>> = open.iter().map(|job| self.jobs.get(job).and_then(|own| own.file)).collect();
        let is_older = |file: &NamedFile| {
            let held: Vec<Option<u64>> = open.iter().map(|job| file.written.get(job).copied()).collect();
            are_older(&held, file.token)
        };
        self.is_running() && (are_older(&held, self.token) || self.files.iter().any(is_older))
    }
}

/// Whether one of these expiries of files is earlier than that of the token, and none is later.
fn are_older(held: &[Option<u64>], token: Option<CurrentToken>) -> bool {
    let Some(CurrentToken { exp, .. }) = token else { return false };
    held.iter().all(|held| held.is_none_or(|held| held <= exp)) && held.iter().any(|held| *held != Some(exp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_restart_older_files_are_found_and_a_newer_one_is_left() {
        let key = LeaseKey::Submission { uid: 1, handle: "h".into() };
        let mut lease = Lease::new(key, Owner { uid: 1, gid: 1 }, "default", 0);
        lease.token = Some(CurrentToken { exp: 50, lifetime: 10 });
        assert!(!lease.has_older_files(), "no job runs here");
        lease.add_job(7, 1, None, 0);
        lease.add_job(8, 1, None, 0);
        for (files, expected) in [
            ([None, Some(50)], true),
            ([Some(40), Some(50)], true),
            ([Some(50), Some(50)], false),
            ([Some(40), Some(60)], false),
        ] {
            for (job, file) in [7, 8].into_iter().zip(files) {
                lease.jobs.get_mut(&job).unwrap().file = file;
            }
            assert_eq!(lease.has_older_files(), expected, "{files:?}");
        }
        lease.token = None;
        assert!(!lease.has_older_files());
    }

    #[test]
    fn only_the_files_of_running_jobs_without_a_token_are_removed() {
        let mut lease = Lease::new(LeaseKey::Job(1), Owner { uid: 1, gid: 1 }, "default", 0);
        for (job, file) in [(1, None), (2, Some(50)), (3, None)] {
            lease.add_job(job, 1, None, 0);
            lease.jobs.get_mut(&job).unwrap().file = file;
        }
        lease.jobs.get_mut(&3).unwrap().running = false;
        lease.remove_stale();
        let stale: Vec<u32> = lease.jobs.iter().filter(|(_, job)| job.is_stale).map(|(id, _)| *id).collect();
        assert_eq!((stale, lease.files_due), (vec![1], true));
        assert_eq!(lease.file_places(), [FilePlace::Job(1), FilePlace::Job(2)]);
    }

    #[test]
    fn after_a_restart_only_files_of_which_nothing_is_known_are_in_doubt() {
        let owner = Owner { uid: 1, gid: 1 };
        let mut lease = Lease::new(LeaseKey::Job(1), owner, "default", 0);
        lease.add_job(1, 1, None, 0);
        lease.jobs.get_mut(&1).unwrap().file = Some(50);
        assert!(!lease.doubt_files() && !lease.files_due);
        lease.jobs.get_mut(&1).unwrap().file = None;
        assert!(lease.doubt_files() && lease.files_due);
        let mut session = Lease::new(LeaseKey::Session("s".into()), owner, "session", 0);
        assert!(session.doubt_files());
        session.token = Some(CurrentToken { exp: 50, lifetime: 10 });
        assert!(!session.doubt_files());
        (session.token, session.phase) = (None, crate::agent::lease::Phase::Finished { due: 1 });
        assert!(!session.doubt_files());
        session.lacks_credential = true;
        assert!(session.doubt_files(), "its record could not be read, and it may run");
    }
}
