// SPDX-License-Identifier: MIT OR Apache-2.0
//! The threads that write and remove token files, and those who wait for them. A thread looks in the lease table what is to be done in a
//! directory, does it without a lock, and notes the result in the table. It may hang for ever (KERN-01): then its user waits, and nobody
//! else.

mod results;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use mytoken::Secret;
use mytoken::private_files::{FileError, Owner};
use mytoken_wire::FileName;
use mytoken_wire::agent::EventKind;

use super::file_queue::{FILES, FilePlace};
use super::lease::LeaseKey;
use super::lease_table::LeaseTable;
use super::runtime_dir::{FoundToken, SessionDir};
use super::{Agent, millis};
use crate::jobs::remove_at;
use crate::log::Level;
pub(super) use work::needs_thread;
use work::{Content, FileWork, JobFiles, JobWork, SessionWork, Work, take_work};

/// Number of the threads.
pub(super) const THREADS: usize = FILES.all;

/// Stack of each in bytes.
const STACK: usize = 256 * 1024;

/// Pause before files that could not be written or removed are tried again.
pub(super) const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// How long an agent that starts waits for files.
const PATIENCE_AT_START: Duration = Duration::from_secs(2);

/// After this time the log tells that a file cannot be changed.
const LONGEST: Duration = Duration::from_secs(30);

/// What a step and the status are told meanwhile.
pub(super) const HANGS: &str =
    "the file system does not answer, or a program of the user holds the file; the agent goes on when it can";

/// What an event says of an access token that has expired. `is_held_up`: its removal waits for a thread that does not end.
pub(super) fn expired(is_held_up: bool, why: &str) -> String {
    if is_held_up {
        format!("the access token expired, and is removed when the file system answers: {why}")
    } else {
        format!("the access token expired and was removed: {why}")
    }
}

/// For tests: called before files are changed. While it waits, the file system hangs.
pub type FileGate = Box<dyn Fn(&FilePlace) + Send + Sync>;

/// What was done with a file.
enum FileDone {
    Nothing,
    /// It holds this access token.
    Written(Secret),
    NotWritten(String),
    /// No file has the text of the access token any more.
    NoText,
    /// It holds this access token, which has not expired.
    Found(FoundToken),
    Removed,
    NotRemoved(String),
}

/// What was done with the files of a job that runs.
struct JobDone {
    made: Result<(), FileError>,
    main: FileDone,
    further: Vec<FileDone>,
}

impl Agent {
    /// From now on `gate` is called before files are changed. For tests.
    pub fn files_pass(&self, gate: FileGate) {
        let _ = self.file_gate.set(gate);
    }

    /// Changes files until there is nothing to do and the queue is told to stop.
    pub(super) fn run_files(&self) {
        loop {
            let mut table = self.leases();
            let (uid, place) = loop {
                if let Some(next) = table.files.take(self.clock.elapsed()) {
                    break next;
                }
                if table.files.stopping {
                    return;
                }
                table = self.files_queued.wait(table).unwrap_or_else(PoisonError::into_inner);
            };
            let removals = table.files.removals(&place);
            // A panic must not end the thread, and the directory must become free.
            let work = catch_unwind(AssertUnwindSafe(|| take_work(&mut table, &place, self.now())));
            drop(table);
            let served = work.and_then(|work| catch_unwind(AssertUnwindSafe(|| self.carry_out(&place, uid, work))));
            let mut table = self.leases();
            if served.is_err() {
                table.files.give_back(uid, &place, removals);
                self.work_panicked(&mut table, &place);
            }
            let was_told = table.files.done(&place);
            if was_told {
                self.tell_end_of_hang(&mut table, &place, uid);
            }
            let has_waiting = table.files.has_waiting();
            let is_over = was_told && table.files.ends_thread();
            drop(table);
            if has_waiting {
                self.files_queued.notify_one();
            }
            self.changed.notify_all();
            if is_over {
                return;
            }
        }
    }

    /// Starts one of the threads.
    pub(super) fn start_file_thread(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let own = Arc::clone(self);
        Builder::new().name("files".to_owned()).stack_size(STACK).spawn(move || own.run_files())
    }

    /// The threads end when nothing waits for them.
    pub(super) fn stop_files(&self) {
        self.leases().files.stopping = true;
        self.files_queued.notify_all();
    }

    fn carry_out(&self, place: &FilePlace, uid: u32, work: Work) {
        if let Some(gate) = self.file_gate.get() {
            gate(place);
        }
        match work {
            Work::Job(work) => self.work_at_job(place, uid, work),
            Work::Session(work) => self.work_at_session(place, work),
        }
    }

    fn work_at_job(&self, place: &FilePlace, uid: u32, work: JobWork) {
        let JobWork { job, is_ended, unwanted, asked, files } = work;
        if is_ended {
            let removed = self.runtime_dir.remove_job(job);
            self.take_removal(place, uid, &removed.map(drop));
        }
        for name in unwanted {
            if let Err(error) = self.runtime_dir.remove_job_file(job, uid, &name) {
                self.log.line_of(uid, Level::Error, &format!("{place}: {error}"));
            }
        }
        let Some(files) = files else { return };
        let JobFiles { owner, needs_directory, main, further, .. } = &files;
        let made = if *needs_directory { self.runtime_dir.make_job(job) } else { Ok(()) };
        let main = self.change_file(*owner, job, None, main);
        let further = further.iter().map(|(name, work)| self.change_file(*owner, job, Some(name), work)).collect();
        let uid = owner.uid;
        self.take_job_results(place, job, files, JobDone { made, main, further });
        self.look_at_job(job, uid, asked);
    }

    /// Changes a file of a job. `name`: a further one.
    fn change_file(&self, owner: Owner, job: u32, name: Option<&FileName>, work: &FileWork) -> FileDone {
        match work {
            FileWork::Nothing => FileDone::Nothing,
            FileWork::Write(content) => {
                let done = self.write_file(owner, job, name, content);
                let is_failed = matches!(done, FileDone::NotWritten(_) | FileDone::NoText);
                if is_failed && content.remove_if_failed {
                    // Who reads an expired access token cannot tell it from a good one.
                    return without_expired(done, self.remove_file(owner, job, name));
                }
                done
            }
            FileWork::Remove => removed_or_not(self.remove_file(owner, job, name)),
            FileWork::Look => {
                let found = self.runtime_dir.found_in_job(owner, job, name, self.now() / 1000);
                self.without_ended(found, || self.remove_file(owner, job, name))
            }
        }
    }

    /// Has a file removed unless an access token was found there that has not expired.
    fn without_ended(
        &self,
        found: Result<Option<FoundToken>, FileError>,
        remove: impl FnOnce() -> Result<(), FileError>,
    ) -> FileDone {
        match found {
            Ok(Some(found)) if remove_at(found.exp) > self.now() => FileDone::Found(found),
            Ok(_) => removed_or_not(remove()),
            Err(error) => FileDone::NotRemoved(error.to_string()),
        }
    }

    fn write_file(&self, owner: Owner, job: u32, name: Option<&FileName>, content: &Content) -> FileDone {
        let Some(text) = self.text_of(content, name) else { return FileDone::NoText };
        let written = match name {
            None => self.runtime_dir.write_job_token(owner, job, text.expose()),
            Some(name) => self.runtime_dir.write_job_file(owner, job, name, text.expose()),
        };
        written_or_not(written, text)
    }

    fn remove_file(&self, owner: Owner, job: u32, name: Option<&FileName>) -> Result<(), FileError> {
        match name {
            None => self.runtime_dir.remove_job_token(job, owner.uid),
            Some(name) => self.runtime_dir.remove_job_file(job, owner.uid, name),
        }
    }

    /// The access token. After a restart it is in the files of other jobs only.
    fn text_of(&self, content: &Content, name: Option<&FileName>) -> Option<Secret> {
        let read = |(job, owner): &(u32, Owner)| {
            let found = match name {
                None => self.runtime_dir.read_job_token(*owner, *job),
                Some(name) => self.runtime_dir.read_job_file(*owner, *job, name),
            };
            found.ok().flatten()
        };
        content.text.clone().or_else(|| content.copies.iter().find_map(read))
    }

    /// Notes whether the files of a job or session that has ended could be removed. Those that stay are tried again at each sweep, and told
    /// once.
    fn take_removal(&self, place: &FilePlace, uid: u32, removed: &Result<(), FileError>) {
        let is_news = self.leases().files.removed(place, uid, removed.is_ok());
        match removed {
            Err(error) if is_news => {
                let text = format!("{place}: its files could not be removed: {error}; the agent tries again");
                self.log.line_of(uid, Level::Error, &text);
            }
            Ok(()) if is_news => self.log.line_of(uid, Level::Info, &format!("{place}: its files are removed now")),
            _ => {}
        }
    }

    fn work_at_session(&self, place: &FilePlace, work: SessionWork) {
        let SessionWork { owner, session, place: at, is_ended, is_asked, file } = work;
        let directory = SessionDir { owner, session: &session, place: at };
        if is_ended {
            let removed = self.runtime_dir.remove_session(directory);
            if removed.is_ok() {
                let (mut table, key) = (self.leases(), LeaseKey::Session(session.clone()));
                if let Some(lease) = table.get_mut(&key) {
                    lease.removing = false;
                    self.lease_changed(&mut table, &key);
                }
            }
            self.take_removal(place, owner.uid, &removed);
        }
        let Some((lease, work)) = file else { return };
        let done = match &work {
            FileWork::Nothing => FileDone::Nothing,
            FileWork::Write(Content { text: Some(text), .. }) => {
                written_or_not(self.runtime_dir.write_session_token(directory, text.expose()), text.clone())
            }
            FileWork::Write(_) => FileDone::NoText,
            FileWork::Remove => removed_or_not(self.runtime_dir.remove_session_token(directory)),
            FileWork::Look => {
                let found = self.runtime_dir.found_in_session(directory, self.now() / 1000);
                self.without_ended(found, || self.runtime_dir.remove_session_token(directory))
            }
        };
        self.take_session_result(place, &lease, &work, done);
        if is_asked {
            let found = self.runtime_dir.has_session_token(directory, self.clock.unix_millis() / 1000);
            if let Some(lease) = self.leases().get_mut(&LeaseKey::Session(session.clone())) {
                lease.on_disk = found.unwrap_or(false);
            }
        }
    }

    /// Waits for files that are to be removed, before the answer to an end. Returns false if that takes too long.
    pub(super) fn wait_for_removal(&self, place: &FilePlace) -> bool {
        self.wait_for_files(place, self.configured().intervals.file_patience)
    }

    /// Waits until nothing is left to do in a directory. Returns false if that takes longer. Not with the lease table locked.
    pub(super) fn wait_for_files(&self, place: &FilePlace, longest: Duration) -> bool {
        self.wait_while_files(longest, |table| table.files.has_work(place))
    }

    /// The same at the start, for all directories.
    pub(super) fn wait_for_files_at_start(&self) {
        self.wait_while_files(PATIENCE_AT_START, |table| !table.files.is_empty());
    }

    pub(super) fn wait_while_files(&self, longest: Duration, works: impl Fn(&LeaseTable) -> bool) -> bool {
        let begin = Instant::now();
        let mut table = self.leases();
        while works(&table) {
            let Some(left) = longest.checked_sub(begin.elapsed()) else { return false };
            table =
                self.changed.wait_timeout(table, left).map_or_else(|poison| poison.into_inner().0, |(table, _)| table);
        }
        true
    }

    /// Tries again to remove what could not be removed, and tells where a thread hangs.
    pub(super) fn look_after_files(self: &Arc<Self>) {
        let mut table = self.leases();
        table.remove_left();
        let now = self.clock.elapsed();
        if let Some(waiting) = table.files.newly_full(now, LONGEST) {
            let text = format!("no thread for token files was free for half a minute; {waiting} directories wait");
            self.log.line(Level::Error, &text);
        }
        let overdue = table.files.overdue(now, LONGEST);
        for (place, uid) in overdue {
            let text = format!("the token files cannot be changed: {HANGS}");
            let key = key_of(&table, &place);
            let Some(lease) = key.as_ref().and_then(|key| table.get_mut(key)) else {
                self.log.line_of(uid, Level::Error, &format!("{place} uid {uid}: {text}"));
                continue;
            };
            // Not its reason: the queue knows how long this lasts.
            self.record(lease, Level::Error, EventKind::Retry, text);
            if let Some(key) = key {
                self.lease_changed(&mut table, &key);
            }
        }
        let missing = table.files.missing_threads();
        drop(table);
        for _ in 0..missing {
            // Not joined: it ends when the one that hangs goes on, or with the agent.
            if let Err(error) = self.start_file_thread() {
                self.leases().files.thread_failed();
                self.log.line(Level::Error, &format!("a thread for token files cannot be started: {error}"));
            }
        }
        self.files_queued.notify_all();
    }

    /// A directory where a thread hung can be worked in again.
    fn tell_end_of_hang(&self, table: &mut LeaseTable, place: &FilePlace, uid: u32) {
        let text = "the token files can be changed again";
        let key = key_of(table, place);
        let Some(lease) = key.as_ref().and_then(|key| table.get_mut(key)) else {
            return self.log.line_of(uid, Level::Info, &format!("{place} uid {uid}: {text}"));
        };
        self.record(lease, Level::Info, EventKind::Retry, text);
        if let Some(key) = key {
            self.lease_changed(table, &key);
        }
    }

    /// Files there may be in any state: it is tried again.
    fn work_panicked(&self, table: &mut LeaseTable, place: &FilePlace) {
        let later = self.now().saturating_add(millis(WRITE_PAUSE));
        let Some(key) = key_of(table, place) else { return };
        if let Some(lease) = table.get_mut(&key) {
            lease.write_due = Some(later);
        }
        self.lease_changed(table, &key);
    }
}

/// The lease whose job or session runs there.
fn key_of(table: &LeaseTable, place: &FilePlace) -> Option<LeaseKey> {
    match place {
        FilePlace::Job(job) => table.of_job(*job).filter(|lease| lease.runs(*job)).map(|lease| lease.key.clone()),
        FilePlace::Session { session, .. } => {
            let key = LeaseKey::Session(session.clone());
            table.get(&key).is_some_and(super::lease::Lease::is_running).then_some(key)
        }
    }
}

fn written_or_not(written: Result<(), FileError>, text: Secret) -> FileDone {
    written.map_or_else(|error| FileDone::NotWritten(error.to_string()), |()| FileDone::Written(text))
}

/// What was done with a file whose next access token could not be written, after the removal of the expired one.
fn without_expired(done: FileDone, removed: Result<(), FileError>) -> FileDone {
    match (done, removed) {
        (done, Ok(())) => done,
        (FileDone::NotWritten(error), Err(other)) => {
            FileDone::NotWritten(format!("{error}; the expired one could not be removed: {other}"))
        }
        // Both are tried again, the removal first.
        (_, Err(error)) => FileDone::NotRemoved(error.to_string()),
    }
}

fn removed_or_not(removed: Result<(), FileError>) -> FileDone {
    removed.map_or_else(|error| FileDone::NotRemoved(error.to_string()), |()| FileDone::Removed)
}
