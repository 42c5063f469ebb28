// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is to be done in a directory with token files, as a function of the lease table. It is decided when a thread begins, so no thread
//! carries out an older decision after a newer one.

use mytoken::Secret;
use mytoken::private_files::Owner;
use mytoken_wire::FileName;
use mytoken_wire::agent::SessionPlace;

use crate::agent::file_queue::FilePlace;
use crate::agent::lease::{CurrentToken, Lease, LeaseKey};
use crate::agent::lease_table::LeaseTable;
use crate::agent::looks::{Files, written};
use crate::jobs::remove_at;

/// What to do with a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileWork {
    /// It is as it should be.
    Nothing,
    /// Write this to it.
    Write(Content),
    /// Remove it.
    Remove,
    /// Find out what it holds, and remove that if it has expired.
    Look,
}

/// An access token for a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Its expiry, Unix seconds.
    pub exp: u64,
    /// The access token. After a restart only files have it.
    pub text: Option<Secret>,
    /// Without a text: the jobs whose files have it.
    pub copies: Vec<(u32, Owner)>,
    /// The file may hold an access token that it must not hold: it is removed if this one cannot be written.
    pub remove_if_failed: bool,
}

/// The lease whose files these are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OfLease {
    pub key: LeaseKey,
    /// [`Lease::generation`].
    pub generation: u64,
}

/// In the directory of a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JobWork {
    pub job: u32,
    /// An earlier run of the job has ended: first, everything is to be removed.
    pub is_ended: bool,
    /// Further files that are to be removed.
    pub unwanted: Vec<FileName>,
    /// Somebody asks what is in these files.
    pub asked: Files,
    /// `None`: the job runs under no lease.
    pub files: Option<JobFiles>,
}

/// The files of a job that runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JobFiles {
    pub lease: OfLease,
    pub owner: Owner,
    pub needs_directory: bool,
    pub main: FileWork,
    pub further: Vec<(FileName, FileWork)>,
}

/// In the directory of a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SessionWork {
    pub owner: Owner,
    pub session: String,
    pub place: SessionPlace,
    /// The session has ended: everything is to be removed.
    pub is_ended: bool,
    /// Somebody asks what is in the file.
    pub is_asked: bool,
    /// `None`: the session has ended.
    pub file: Option<(OfLease, FileWork)>,
}

/// In a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    Job(JobWork),
    Session(SessionWork),
}

/// What is to be done in this directory at `now`, Unix milliseconds. The caller has to do it: the table does not have it any more.
pub(super) fn take_work(table: &mut LeaseTable, place: &FilePlace, now: u64) -> Work {
    let is_ended = table.files.take_end(place);
    match place {
        FilePlace::Job(job) => {
            let unwanted = table.files.take_further(*job);
            let is_asked = table.files.take_look(place);
            let asked = table.of_job(*job).filter(|_| is_asked).map_or_else(Files::new, |lease| written(lease, *job));
            let files = table.of_job(*job).and_then(|lease| job_files(lease, *job, is_ended, now));
            Work::Job(JobWork { job: *job, is_ended, unwanted, asked, files })
        }
        FilePlace::Session { uid, gid, session, place: at } => {
            let lease = table.get(&LeaseKey::Session(session.clone())).filter(|lease| lease.has_session_file());
            let file = lease.map(|lease| (of_lease(lease), session_file(lease, now)));
            let owner = Owner { uid: *uid, gid: *gid };
            let is_asked = table.files.take_look(place);
            Work::Session(SessionWork { owner, session: session.clone(), place: *at, is_ended, is_asked, file })
        }
    }
}

/// Whether a thread has something to do in this directory of the lease at `now`, Unix milliseconds.
pub(in crate::agent) fn needs_thread(lease: &Lease, place: &FilePlace, now: u64) -> bool {
    match place {
        FilePlace::Job(job) => job_files(lease, *job, false, now).is_some_and(|files| {
            let is_work = |work: &FileWork| *work != FileWork::Nothing;
            files.needs_directory || is_work(&files.main) || files.further.iter().any(|(_, work)| is_work(work))
        }),
        FilePlace::Session { .. } => true,
    }
}

fn of_lease(lease: &Lease) -> OfLease {
    OfLease { key: lease.key.clone(), generation: lease.generation }
}

/// What is known of a file.
#[derive(Clone, Copy)]
struct Known {
    /// Expiry of the access token in it, Unix seconds.
    held: Option<u64>,
    /// It may hold an access token that it must not hold.
    is_stale: bool,
    /// Nobody knows what it holds, and that may be a valid access token.
    is_doubtful: bool,
    /// It may hold one now.
    is_open: bool,
}

/// `is_ended`: all files are removed before.
fn job_files(lease: &Lease, id: u32, is_ended: bool, now: u64) -> Option<JobFiles> {
    let job = lease.jobs.get(&id).filter(|job| job.running)?;
    let is_open = job.window.is_open();
    let is_forbidden = lease.forbids_token(job.window);
    let known = |held: Option<u64>, is_stale: bool, is_doubtful: bool| Known {
        held: held.filter(|_| !is_ended),
        is_stale: is_stale || is_doubtful && is_forbidden,
        is_doubtful: is_doubtful && !is_forbidden && !is_ended,
        is_open,
    };
    let with_owner = |holds: &dyn Fn(u32) -> bool| -> Vec<(u32, Owner)> {
        let others = lease.running_jobs().filter(|other| holds(*other) && !(is_ended && *other == id));
        others.map(|other| (other, lease.owner(Some(other)))).collect()
    };
    // An expired one is about to be forgotten.
    let valid = |token: Option<CurrentToken>| token.filter(|token| remove_at(token.exp) > now);
    let main_known = known(job.file, job.is_stale, job.is_doubtful);
    let main = file_work(valid(lease.token), lease.token_text.as_ref(), main_known, |exp| {
        with_owner(&|other: u32| lease.jobs.get(&other).is_some_and(|own| own.file == Some(exp)))
    });
    let further = lease.files.iter().map(|file| {
        let held = file.written.get(&id).copied();
        let known = known(held, file.stale.contains(&id), file.doubted.contains(&id));
        let work = file_work(valid(file.token), file.token_text.as_ref(), known, |exp| {
            with_owner(&|other: u32| file.written.get(&other) == Some(&exp))
        });
        (file.name.clone(), work)
    });
    let further = further.collect();
    let (owner, needs_directory) = (lease.owner(Some(id)), job.needs_directory);
    Some(JobFiles { lease: of_lease(lease), owner, needs_directory, main, further })
}

fn file_work(
    token: Option<CurrentToken>,
    text: Option<&Secret>,
    known: Known,
    copies: impl Fn(u64) -> Vec<(u32, Owner)>,
) -> FileWork {
    if known.is_doubtful && known.held.is_none() {
        // The result is the next change.
        return FileWork::Look;
    }
    let remove_if_failed = known.is_stale && known.held.is_none();
    match token.filter(|token| known.is_open && known.held != Some(token.exp)) {
        Some(CurrentToken { exp, .. }) => {
            let copies = if text.is_some() { Vec::new() } else { copies(exp) };
            FileWork::Write(Content { exp, text: text.cloned(), copies, remove_if_failed })
        }
        None if remove_if_failed => FileWork::Remove,
        None => FileWork::Nothing,
    }
}

fn session_file(lease: &Lease, now: u64) -> FileWork {
    match lease.arrived.as_ref().filter(|arrived| remove_at(arrived.token.exp) > now) {
        Some(arrived) => {
            let text = Some(arrived.text.clone());
            // If that fails, the removal is the next change.
            FileWork::Write(Content { exp: arrived.token.exp, text, copies: Vec::new(), remove_if_failed: false })
        }
        None if lease.is_stale && lease.token.is_none() => FileWork::Remove,
        None if lease.is_doubtful && lease.token.is_none() => FileWork::Look,
        None => FileWork::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::JobWindow;

    const OWNER: Owner = Owner { uid: 1, gid: 2 };
    const PLACE: FilePlace = FilePlace::Job(7);
    /// Unix milliseconds.
    const NOW: u64 = 20_000;

    fn token(exp: u64) -> Option<CurrentToken> {
        Some(CurrentToken { exp, lifetime: 10 })
    }

    /// A table with a submission that has jobs 7 and 8, and a token.
    fn table(change: impl FnOnce(&mut Lease)) -> LeaseTable {
        let key = LeaseKey::Submission { uid: 1, handle: "h".into() };
        let mut lease = Lease::new(key, OWNER, "default", 0);
        lease.add_job(7, 2, None, 0);
        lease.add_job(8, 2, None, 0);
        (lease.token, lease.token_text) = (token(50), Some(Secret::new("new")));
        change(&mut lease);
        let mut table = LeaseTable::default();
        table.insert(lease);
        table
    }

    fn main_of(table: &mut LeaseTable) -> FileWork {
        match take_work(table, &PLACE, NOW) {
            Work::Job(JobWork { files: Some(files), .. }) => files.main,
            other => panic!("{other:?}"),
        }
    }

    fn write(text: Option<&str>, copies: &[u32]) -> FileWork {
        let copies = copies.iter().map(|job| (*job, OWNER)).collect();
        FileWork::Write(Content { exp: 50, text: text.map(Secret::new), copies, remove_if_failed: false })
    }

    #[test]
    fn a_file_gets_the_current_token_and_loses_the_one_that_it_must_not_hold() {
        let with = |file, is_stale, change: fn(&mut Lease)| {
            main_of(&mut table(|lease| {
                let job = lease.jobs.get_mut(&7).unwrap();
                (job.file, job.is_stale) = (file, is_stale);
                change(lease);
            }))
        };
        assert_eq!(with(None, false, |_| ()), write(Some("new"), &[]));
        assert_eq!(with(Some(40), true, |_| ()), write(Some("new"), &[]), "an older one that is valid stays");
        let after_the_end = with(None, true, |_| ());
        assert!(matches!(after_the_end, FileWork::Write(Content { remove_if_failed: true, .. })), "{after_the_end:?}");
        assert_eq!(with(Some(50), false, |_| ()), FileWork::Nothing);
        let ended = |lease: &mut Lease| lease.token = token(20);
        assert_eq!(with(None, true, ended), FileWork::Remove, "a token that has just ended");
        let doubted = |lease: &mut Lease| lease.jobs.get_mut(&7).unwrap().is_doubtful = true;
        assert_eq!(with(None, true, doubted), FileWork::Look, "it may be a valid one that could not be recorded");
        let given_back = |lease: &mut Lease| {
            lease.jobs.get_mut(&7).unwrap().is_doubtful = true;
            (lease.token, lease.ends) = (None, crate::agent::lease::Ends::OnRequest);
        };
        assert_eq!(with(None, false, given_back), FileWork::Remove);
        let expired = |lease: &mut Lease| (lease.token, lease.token_text) = (None, None);
        assert_eq!(with(None, true, expired), FileWork::Remove);
        assert_eq!(with(None, false, expired), FileWork::Nothing, "it never held one");
        assert_eq!(with(Some(40), true, expired), FileWork::Nothing, "an older one that is valid");
        let closed = |lease: &mut Lease| lease.jobs.get_mut(&7).unwrap().window = JobWindow::Over;
        assert_eq!(with(None, true, closed), FileWork::Remove);
        assert_eq!(with(None, false, closed), FileWork::Nothing);
        let restarted = |lease: &mut Lease| {
            lease.token_text = None;
            lease.jobs.get_mut(&8).unwrap().file = Some(50);
        };
        assert_eq!(with(Some(40), false, restarted), write(None, &[8]));
    }

    #[test]
    fn a_further_run_of_a_job_begins_with_an_empty_directory() {
        let mut table = table(|lease| lease.jobs.get_mut(&7).unwrap().file = Some(50));
        table.files.end(1, &PLACE);
        let work = take_work(&mut table, &PLACE, NOW);
        let Work::Job(JobWork { is_ended: true, files: Some(files), .. }) = work else { panic!("{work:?}") };
        assert_eq!(files.main, write(Some("new"), &[]), "what the file held is gone");
        assert!(!table.files.is_ended(&PLACE));
        table.get_mut(&files.lease.key).unwrap().jobs.get_mut(&7).unwrap().running = false;
        table.files.end(1, &PLACE);
        let work = take_work(&mut table, &PLACE, NOW);
        assert!(matches!(work, Work::Job(JobWork { is_ended: true, files: None, .. })), "{work:?}");
    }

    #[test]
    fn the_file_of_a_session_that_has_ended_is_not_written() {
        let key = LeaseKey::Session("s".into());
        let place = FilePlace::Session { uid: 1, gid: 2, session: "s".into(), place: SessionPlace::Run };
        let file_at = |lease: Lease, now| {
            let mut table = LeaseTable::default();
            table.insert(lease);
            match take_work(&mut table, &place, now) {
                Work::Session(work) => work.file.map(|(_, file)| file),
                other => panic!("{other:?}"),
            }
        };
        let file = |lease| file_at(lease, NOW);
        let mut lease = Lease::new(key, OWNER, "session", 0);
        lease.is_stale = true;
        assert_eq!(file(lease.clone()), Some(FileWork::Remove));
        let arrived = crate::agent::lease::Arrived {
            text: Secret::new("new"),
            token: CurrentToken { exp: 50, lifetime: 10 },
            renewal: 0,
            took: std::time::Duration::ZERO,
        };
        lease.arrived = Some(Box::new(arrived));
        assert_eq!(file(lease.clone()), Some(write(Some("new"), &[])));
        assert_eq!(file_at(lease.clone(), 50_000), Some(FileWork::Remove), "it has expired");
        lease.phase = crate::agent::lease::Phase::Finished { due: 1 };
        assert_eq!(file(lease.clone()), None);
        lease.arrived = None;
        lease.lacks_credential = true;
        assert_eq!(file(lease), Some(FileWork::Remove), "its record could not be read, and it may run");
    }
}
