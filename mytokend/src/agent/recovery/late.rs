// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks that take longer than an agent that starts can wait. They go on, and what they find is taken over when it comes.

use std::sync::PoisonError;

use super::looks::{Found, Looks, Place};
use super::lost::Lost;
use crate::agent::Agent;
use crate::agent::lease::LeaseKey;
use crate::agent::lease_table::LeaseTable;
use crate::agent::runtime_dir::RuntimeDir;
use crate::agent::token_files::HANGS;
use crate::log::{Level, Log};

/// Most places that a line names.
const MOST_NAMES: usize = 8;

/// Looks without a result.
pub struct Late {
    looks: Looks,
    lost: Lost,
}

impl Late {
    /// Those of these looks. `None`: each has its result. Tells which there are, in one line.
    pub(super) fn new(looks: Looks, lost: Lost, log: &Log) -> Option<Self> {
        let open = looks.open();
        if open.is_empty() {
            return None;
        }
        let names: Vec<String> = open.iter().take(MOST_NAMES).map(ToString::to_string).collect();
        let others = open.len().saturating_sub(MOST_NAMES);
        let others = if others > 0 { format!(" and {others} others") } else { String::new() };
        let (count, names) = (open.len(), names.join(", "));
        let text = format!("{count} directories of the last run could not be looked at yet ({names}{others}): {HANGS}");
        log.line(Level::Warning, &text);
        Some(Self { looks, lost })
    }

    /// The results that have come, without those of jobs whose directories are gone.
    fn arrived(&mut self, runtime_dir: &RuntimeDir) -> Vec<(Place, Found)> {
        let mut found = self.looks.arrived();
        found.retain(|(place, _)| match place {
            Place::Job(job) => runtime_dir.has_job(*job).unwrap_or(true),
            Place::Sessions(_) => true,
        });
        found
    }

    /// Takes over what has come. Returns the keys of the new leases that are to be stored.
    fn take(&self, table: &mut LeaseTable, found: Vec<(Place, Found)>, now: u64, log: &Log) -> Vec<LeaseKey> {
        found.into_iter().flat_map(|found| self.lost.take(table, found, now, log)).collect()
    }
}

impl Agent {
    /// Takes over what late looks have found. The schedule thread calls this.
    pub(in crate::agent) fn take_late(&self) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = late.as_mut() else { return };
        let found = own.arrived(&self.runtime_dir);
        if !found.is_empty() {
            let mut table = self.leases();
            for key in own.take(&mut table, found, self.now(), &self.log) {
                self.lease_changed(&mut table, &key);
            }
            drop(table);
            self.files_queued.notify_all();
        }
        if own.looks.open().is_empty() {
            *late = None;
            self.log.line(Level::Info, "all directories of the last run have been looked at now");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    use mytoken::private_files::Owner;
    use mytoken_wire::agent::SessionPlace;

    use super::*;
    use crate::agent::recovery::looks::Look;
    use crate::agent::recovery::looks::tests::Hold;
    use crate::agent::recovery::{Moment, recover_with};
    use crate::agent::runtime_dir::{Left, LeftInJob, LeftToken};

    const MOMENT: Moment = Moment { now: 1_000_000, offset: 0 };

    /// The session of this user.
    fn session(uid: u32) -> String {
        format!("{uid:032}")
    }

    /// Each user has a session and a job, and those of one user hang.
    struct Slow {
        uid: u32,
        hold: Hold,
    }

    impl Look for Slow {
        fn user_of(&self, place: Place) -> Option<u32> {
            match place {
                Place::Sessions(uid) | Place::Job(uid) => Some(uid),
            }
        }

        fn look(&self, place: Place) -> Found {
            if self.user_of(place) == Some(self.uid) {
                self.hold.wait();
            }
            let owner = |uid| Owner { uid, gid: 7 };
            Ok(vec![match place {
                Place::Sessions(uid) => (
                    LeaseKey::Session(session(uid)),
                    Left::Session(LeftToken { owner: owner(uid), exp: 2_000, place: SessionPlace::Run }),
                ),
                Place::Job(job) => {
                    let left = LeftInJob { owner: owner(job), main: Some(2_000), files: Vec::new() };
                    (LeaseKey::Job(job), Left::Job(left))
                }
            }])
        }
    }

    /// A runtime directory with a session and a job of each of three users, whose leases are lost.
    fn lost_leases(dir: &tempfile::TempDir) -> RuntimeDir {
        let path = dir.path().join("mytoken");
        let runtime_dir = RuntimeDir::open(&path, Owner::current()).unwrap().with_users(&path.join("users"));
        for uid in [1, 2, 3] {
            fs::create_dir_all(path.join(format!("sessions/{uid}"))).unwrap();
            let record = path.join(format!("state/session-{}.json", session(uid)));
            fs::write(&record, "{").unwrap();
            fs::set_permissions(record, fs::Permissions::from_mode(0o600)).unwrap();
            runtime_dir.make_job(uid).unwrap();
        }
        fs::set_permissions(path.join("sessions"), fs::Permissions::from_mode(0o711)).unwrap();
        runtime_dir
    }

    fn keys(uid: u32) -> [LeaseKey; 2] {
        [LeaseKey::Session(session(uid)), LeaseKey::Job(uid)]
    }

    #[test]
    fn the_hang_of_one_user_costs_no_other_one_and_his_own_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let (runtime_dir, log, hold) = (lost_leases(&dir), Log::stderr("test"), Hold::default());
        let look = |sessions: Vec<String>| -> Box<dyn Look> {
            assert_eq!(sessions.len(), 3);
            Box::new(Slow { uid: 2, hold: hold.clone() })
        };
        let (mut table, late) = recover_with(&runtime_dir, MOMENT, Duration::from_millis(500), look, &log).unwrap();
        for (uid, is_there) in [(1, true), (2, false), (3, true)] {
            for key in keys(uid) {
                assert_eq!(table.get(&key).is_some(), is_there, "{key:?}");
            }
        }
        let mut late = late.unwrap();
        assert_eq!(late.looks.open().len(), 2);
        hold.release();
        let (begin, mut stored) = (Instant::now(), Vec::new());
        while !late.looks.open().is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(30));
            let found = late.arrived(&runtime_dir);
            stored.extend(late.take(&mut table, found, MOMENT.now, &log));
            std::thread::yield_now();
        }
        assert_eq!(stored.len(), 2);
        for key in keys(2) {
            assert!(table.get(&key).is_some_and(|lease| lease.uid == 2) && stored.contains(&key), "{key:?}");
        }
    }

    #[test]
    fn what_an_agent_had_no_time_to_look_at_is_looked_at_by_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let (runtime_dir, log, hold) = (lost_leases(&dir), Log::stderr("test"), Hold::default());
        let look = |_: Vec<String>| -> Box<dyn Look> { Box::new(Slow { uid: 2, hold: hold.clone() }) };
        drop(recover_with(&runtime_dir, MOMENT, Duration::from_millis(50), look, &log).unwrap());
        hold.release();
        let look = |sessions: Vec<String>| -> Box<dyn Look> {
            assert!(sessions.contains(&session(2)), "{sessions:?}");
            Box::new(Slow { uid: 0, hold: Hold::default() })
        };
        let (table, late) = recover_with(&runtime_dir, MOMENT, Duration::from_secs(30), look, &log).unwrap();
        assert!(late.is_none());
        for key in [1, 2, 3].into_iter().flat_map(keys) {
            assert!(table.get(&key).is_some_and(|lease| lease.lacks_credential), "{key:?}");
        }
    }

    #[test]
    fn a_late_result_about_a_job_that_has_ended_or_has_a_lease_is_of_no_use() {
        let dir = tempfile::tempdir().unwrap();
        let (runtime_dir, log, hold) = (lost_leases(&dir), Log::stderr("test"), Hold::default());
        let look = |_: Vec<String>| -> Box<dyn Look> { Box::new(Slow { uid: 2, hold: hold.clone() }) };
        let (mut table, late) = recover_with(&runtime_dir, MOMENT, Duration::from_millis(10), look, &log).unwrap();
        let mut late = late.unwrap();
        hold.release();
        let begin = Instant::now();
        while !late.looks.open().is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(30));
            late.looks.arrived();
        }
        let found = || (Place::Job(2), Slow { uid: 0, hold: hold.clone() }.look(Place::Job(2)));
        let nothing = || (Place::Job(2), Ok(Vec::new()));
        table.files.end(0, &crate::agent::file_queue::FilePlace::Job(2));
        assert!(late.take(&mut table, vec![found(), nothing()], MOMENT.now, &log).is_empty());
        assert!(table.get(&LeaseKey::Job(2)).is_none(), "its end is being served");
        let mut other = crate::agent::recovery::lost::tests::of_token(LeaseKey::Job(9));
        other.add_job(2, 7, None, 0);
        let mut table = LeaseTable::default();
        table.insert(other);
        assert!(late.take(&mut table, vec![found(), nothing()], MOMENT.now, &log).is_empty());
        assert!(table.get(&LeaseKey::Job(2)).is_none() && table.files.is_empty());
    }
}
