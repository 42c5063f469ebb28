// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks what token files hold, for `mytokenctl status` and `mytokenctl renew`. Users can make each look hang (KERN-01), so the threads for
//! files do that, and those who ask do not wait long for them.

use mytoken_wire::{FileName, token_file};

use super::Agent;
use super::file_queue::FilePlace;
use super::lease::Lease;
use super::lease_table::LeaseTable;

/// Files in a directory: the main one (`None`), and further ones by their names.
pub(super) type Files = Vec<Option<FileName>>;

/// The files of a job that the agent has written. Nobody looks for others: of all looks, that for a name which is not there hangs first.
pub(super) fn written(lease: &Lease, job: u32) -> Files {
    let main = lease.jobs.get(&job).and_then(|own| own.file).map(|_| None);
    let has_it = lease.files.iter().filter(|file| file.written.contains_key(&job));
    main.into_iter().chain(has_it.map(|file| Some(file.name.clone()))).collect()
}

/// The files in a directory of the lease in which a thread has seen an access token that can be used. `None`: it has not looked yet, or the
/// job or session has ended meanwhile.
pub(super) fn seen(table: &LeaseTable, lease: &Lease, place: &FilePlace) -> Option<Files> {
    if table.files.has_look(place) || table.files.is_ended(place) {
        return None;
    }
    match place {
        FilePlace::Job(job) => lease.jobs.get(job).filter(|own| own.running).map(|own| own.seen.clone()),
        FilePlace::Session { .. } if lease.is_running() && lease.on_disk => Some(vec![None]),
        FilePlace::Session { .. } => Some(Vec::new()),
    }
}

impl Agent {
    /// Has threads look at the files in these directories of users, and waits for a moment.
    pub(super) fn look_at(&self, places: &[(u32, FilePlace)]) {
        if places.is_empty() {
            return;
        }
        let mut table = self.leases();
        places.iter().for_each(|(uid, place)| table.files.look(*uid, place));
        drop(table);
        self.files_queued.notify_all();
        let patience = self.configured().intervals.look_patience;
        self.wait_while_files(patience, |table| places.iter().any(|(_, place)| table.files.has_look(place)));
    }

    /// Looks at these files of a job. Only the threads for files call it.
    pub(super) fn look_at_job(&self, job: u32, uid: u32, asked: Files) {
        if asked.is_empty() {
            return;
        }
        let now = self.clock.unix_millis() / 1000;
        let is_valid = |name: &Option<FileName>| {
            let path = match name {
                None => self.runtime_dir.job_token_path(job, uid),
                Some(name) => self.runtime_dir.job_file_path(job, uid, name),
            };
            token_file::is_valid(&path, now)
        };
        let valid = asked.into_iter().filter(is_valid).collect();
        let mut table = self.leases();
        let Some(key) = table.of_job(job).map(|lease| lease.key.clone()) else { return };
        if let Some(own) = table.get_mut(&key).and_then(|lease| lease.jobs.get_mut(&job)) {
            own.seen = valid;
        }
    }
}
