// SPDX-License-Identifier: MIT OR Apache-2.0
//! The further token files of jobs: requests, files, answers. The main file has its own code and does not depend on them.

use mytoken::private_files::Owner;
use mytoken::{Deadline, Secret, time_format};
use mytoken_wire::agent::{EventKind, StartedFile};
use mytoken_wire::token_file;
use mytoken_wire::{FileName, paths};

use super::budget::ledger::Purpose;
use super::credential_service::{Charge, IssuedToken, RequestFailure};
use super::job_requests::WRITE_PAUSE;
use super::lease::{Lease, NamedFile};
use super::lease_table::Task;
use super::renew::CLOCK_DIFFERENCE;
use super::{Agent, millis};
use crate::jobs::{Validity, validity, windows};
use crate::log::Level;

/// A job's further files, each with the expiry of its access token in Unix seconds.
pub(super) type FilesOfJob = Vec<(FileName, u64)>;

/// What a step is told of a file that is requested at this moment.
const NO_ANSWER_YET: &str = "the mytoken server has not answered yet; the file appears after its answer";

/// Takes the further files of `job` out of the lease.
pub(super) fn take_files(lease: &mut Lease, job: u32) -> FilesOfJob {
    let files = lease.files.iter_mut();
    files.filter_map(|file| Some((file.name.clone(), file.written.remove(&job)?))).collect()
}

/// The further files of a starting job for the answer to its step.
pub(super) fn started_files(lease: &Lease, job: u32) -> Vec<StartedFile> {
    let window = lease.window_of(job);
    let reason = |file: &NamedFile| {
        let window = window.reason().filter(|_| file.due.is_some());
        let reason = || window.or_else(|| file.reason.clone()).unwrap_or_else(|| NO_ANSWER_YET.to_owned());
        (!file.written.contains_key(&job)).then(reason)
    };
    lease.files.iter().map(|file| StartedFile { name: file.name.clone(), reason: reason(file) }).collect()
}

impl Agent {
    fn record_file(&self, lease: &mut Lease, level: Level, name: &FileName, text: &str) {
        let file = paths::named_token_file(lease.uid, name);
        self.record(lease, level, EventKind::File, format!("{file}: {text}"));
    }

    /// Tells which further files the sub-token does not allow.
    pub(super) fn tell_refused_files(&self, lease: &mut Lease) {
        let refused = lease.files.iter().filter(|file| file.due.is_none());
        let told: Vec<_> = refused.map(|file| (file.name.clone(), file.reason.clone().unwrap_or_default())).collect();
        for (name, reason) in told {
            self.record_file(lease, Level::Warning, &name, &format!("refused: {reason}"));
        }
    }

    /// Requests an access token for a further file, and writes it.
    pub(super) fn renew_file(&self, task: &Task, index: u8) {
        let now = self.now();
        let longest = self.configured().intervals.request_deadline;
        let begun = {
            let mut table = self.leases();
            let begun = table.begin(task, |lease| {
                let credential = lease.credential.clone().filter(|_| lease.is_running() && !lease.is_closed())?;
                let file = lease.files.get(usize::from(index))?;
                let comment = format!("{}, file {}", self.comment(lease), file.name);
                let purpose = match file.asked {
                    Some(_) => Purpose::Asked,
                    None if lease.proven => Purpose::Token,
                    None => Purpose::FirstToken,
                };
                let jobs: Vec<u32> = lease.running_jobs().collect();
                let about = (file.name.clone(), comment, (lease.uid, purpose, jobs), file.token.map(|token| token.exp));
                Some((credential, about, validity(&file.windows, self.server_time(lease)), file.times(now, longest)))
            });
            // While this request has no answer, a second one may become due.
            if let (Some((.., times)), Some(lease)) = (&begun, table.current(task)) {
                let limited = lease.limited_uses;
                if let Some(file) = lease.file_mut(index) {
                    let alone = file.attempts == 1 && !limited;
                    file.second_due = alone.then(|| now.saturating_add(millis(times.second)));
                }
                table.schedule(&task.key);
                self.wake.notify_all();
            }
            begun
        };
        let Some((credential, (name, comment, (uid, purpose, jobs), replaced), validity, times)) = begun else {
            return;
        };
        let begin = self.clock.elapsed();
        let result = match validity {
            Validity::Now | Validity::Over => {
                let (configured, deadline) = (self.configured(), Deadline::after(times.deadline));
                let charge = Charge { uid, purpose, job: configured.service.job_for(&credential, &jobs, deadline) };
                configured.service.access_token(&credential, Some(&name), &comment, charge, deadline)
            }
            Validity::From(_) => Err(RequestFailure::permanent("the credential is not valid yet")),
        };
        drop(credential);
        self.tell_difference(task);
        let took = self.clock.elapsed().saturating_sub(begin).as_millis();
        let mut table = self.leases();
        let Some(lease) = table.finish(task) else { return };
        let asked = lease.file_mut(index).and_then(|file| file.asked.take());
        let state = lease.files.get(usize::from(index)).map(|file| (file.token.map(|token| token.exp), file.attempts));
        match (state, result) {
            // The jobs have ended, or the credential was given back.
            _ if !lease.is_running() => {}
            (Some(_), Ok(issued)) => self.install_file(lease, index, &issued, took),
            // The other request was answered, or may still be.
            (Some((exp, _)), Err(_)) if exp > replaced => {}
            (Some((_, attempts)), Err(failure)) if failure.temporary && attempts > 0 => {}
            // The renewal that was planned stays.
            (Some(_), Err(failure)) if failure.unsent && asked.is_some() => {
                if let Some(file) = lease.file_mut(index) {
                    (file.due, file.second_due) = (asked, None);
                }
                self.record_file(lease, Level::Info, &name, &format!("not renewed on request: {}", failure.reason));
            }
            (Some(_), Err(failure)) => self.file_request_failed(lease, index, &failure),
            (None, _) => {}
        }
        self.lease_changed(&mut table, &task.key);
    }

    fn install_file(&self, lease: &mut Lease, index: u8, issued: &IssuedToken, took: u128) {
        if issued.left == 0 {
            let reason = "the new access token has expired already; check this node's clock";
            return self.file_request_failed(lease, index, &RequestFailure::temporary(reason));
        }
        let now = self.now();
        let Some(file) = lease.file_mut(index) else { return };
        let times = (issued.left, issued.lifetime);
        if file.install(issued.token.clone(), times, now, (self.draw)()).is_none() {
            return;
        }
        let (name, due) = (file.name.clone(), file.due.unwrap_or(now));
        lease.proven = true;
        self.write_named_file(lease, index);
        let next = time_format::short(due.saturating_sub(now) / 1000);
        self.record_file(lease, Level::Info, &name, &format!("access token in {took} ms, next in {next}"));
    }

    /// Ends the renewal of a further file after a permanent failure, schedules the next attempt after a temporary one.
    pub(super) fn file_request_failed(&self, lease: &mut Lease, index: u8, failure: &RequestFailure) {
        let (now, at_server) = (self.now(), self.server_time(lease));
        let Some(file) = lease.files.get(usize::from(index)) else { return };
        let name = file.name.clone();
        let begun = windows::begun_since(&file.windows, at_server, CLOCK_DIFFERENCE);
        let next = windows::next_begin(&file.windows, at_server).filter(|_| !failure.temporary && !begun);
        let first = next.map(|begin| self.first_request_in(&file.windows, begin, at_server));
        let Some(file) = lease.file_mut(index) else { return };
        let level = match next.zip(first) {
            Some((begin, due)) => {
                let from = time_format::utc_minute(begin);
                file.wait(begin, due, format!("the credential gives access tokens again from {from} on"));
                Level::Info
            }
            None if failure.temporary || begun => {
                file.try_again(&failure.reason, failure.retry_after, now, (self.draw)());
                Level::Warning
            }
            None => {
                file.refuse(failure.reason.clone());
                Level::Warning
            }
        };
        let refused = if file.due.is_none() { "refused: " } else { "" };
        let text = format!("{refused}{}", file.reason.clone().unwrap_or_default());
        self.record_file(lease, level, &name, &text);
    }

    /// Writes the current tokens of the further files for the jobs that run here and lack them.
    pub(super) fn write_named_files(&self, lease: &mut Lease) {
        for index in 0..lease.files.len() {
            self.write_named_file(lease, u8::try_from(index).unwrap_or(u8::MAX));
        }
    }

    /// What could not be written is tried again.
    fn write_named_file(&self, lease: &mut Lease, index: u8) {
        let open = lease.running_jobs().filter(|job| lease.window_of(*job).is_open());
        let running: Vec<(u32, Owner)> = open.map(|job| (job, lease.owner(Some(job)))).collect();
        let now = self.now();
        let Some(file) = lease.file_mut(index) else { return };
        let tried_again = file.write_due.take().is_some();
        let Some(exp) = file.token.map(|token| token.exp) else { return };
        let (current, lacking): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|(job, _)| file.written.get(job) == Some(&exp));
        if lacking.is_empty() {
            return;
        }
        let name = file.name.clone();
        let read = |(job, owner): &(u32, Owner)| self.runtime_dir.read_job_file(*owner, *job, &name).ok().flatten();
        let Some(text) = file.token_text.clone().or_else(|| current.iter().find_map(read)) else {
            // After a restart no file holds it: a new one is requested.
            file.due = file.due.map(|due| due.min(now));
            return;
        };
        let failed = self.write_to_jobs(file, &lacking, &text, exp);
        file.token_text = Some(text);
        let told = match failed {
            Some(error) => {
                let text = format!("the access token could not be written ({error}); the agent tries again");
                file.write_due = Some(now.saturating_add(millis(WRITE_PAUSE)));
                file.reason = Some(text.clone());
                Some((Level::Warning, text))
            }
            None if tried_again => {
                file.reason = None;
                Some((Level::Info, "the access token was written".to_owned()))
            }
            None => None,
        };
        if let Some((level, text)) = told {
            self.record_file(lease, level, &name, &text);
        }
    }

    /// The last error, if there was one.
    fn write_to_jobs(&self, file: &mut NamedFile, jobs: &[(u32, Owner)], text: &Secret, exp: u64) -> Option<String> {
        let mut failed = None;
        for (job, owner) in jobs {
            match self.runtime_dir.write_job_file(*owner, *job, &file.name, text.expose()) {
                Ok(()) => drop(file.written.insert(*job, exp)),
                Err(error) => failed = Some(error.to_string()),
            }
        }
        failed
    }

    /// Forgets the expired tokens of the further files, and removes them from the files.
    pub(super) fn expire_named_files(&self, lease: &mut Lease) {
        let now = self.now();
        let expired: Vec<(FileName, Option<String>)> = lease
            .files
            .iter_mut()
            .filter_map(|file| file.expire(now).then(|| (file.name.clone(), file.reason.clone())))
            .collect();
        if expired.is_empty() {
            return;
        }
        self.remove_expired_files(lease);
        for (name, reason) in expired {
            let why = reason.unwrap_or_else(|| "it was not renewed".to_owned());
            let text = format!("the access token expired and was removed: {why}");
            self.record_file(lease, Level::Warning, &name, &text);
        }
    }

    /// Removes the further files of running jobs that hold no token of the lease. What could not be removed is tried again.
    pub(super) fn remove_expired_files(&self, lease: &mut Lease) {
        let (uid, running): (u32, Vec<u32>) = (lease.uid, lease.running_jobs().collect());
        let later = self.now().saturating_add(millis(WRITE_PAUSE));
        for file in &mut lease.files {
            for job in running.iter().filter(|job| !file.written.contains_key(job)) {
                if let Err(error) = self.runtime_dir.remove_job_file(*job, uid, &file.name) {
                    let text = format!("job {job}: an expired access token could not be removed: {error}");
                    self.log.line_of(uid, Level::Error, &text);
                    file.write_due = Some(later);
                }
            }
        }
    }

    /// Gives the files of `job` that another lease has written to this one. Those that it does not have are removed: nothing would renew
    /// them, or remove them when they expire.
    pub(super) fn take_over_files(&self, lease: &mut Lease, job: u32, earlier: FilesOfJob) {
        for (name, exp) in earlier {
            match lease.files.iter_mut().find(|file| file.name == name) {
                Some(file) => drop(file.written.insert(job, exp)),
                None => {
                    if let Err(error) = self.runtime_dir.remove_job_file(job, lease.uid, &name) {
                        self.log.line_of(lease.uid, Level::Error, &format!("job {job}: {error}"));
                    }
                }
            }
        }
    }

    /// Writes further files that are missing, and if `may_ask`, plans requests for new tokens at once; after a `recent` one only for those
    /// that cannot be written.
    pub(super) fn renew_files_soon(&self, lease: &mut Lease, recent: bool, may_ask: bool, now: u64) {
        let (uid, running): (u32, Vec<u32>) = (lease.uid, lease.running_jobs().collect());
        let seconds = self.clock.unix_millis() / 1000;
        for file in &mut lease.files {
            let path = |job: u32| self.runtime_dir.job_file_path(job, uid, &file.name);
            let lost: Vec<u32> = running
                .iter()
                .copied()
                .filter(|job| file.written.contains_key(job) && !token_file::is_valid(&path(*job), seconds))
                .collect();
            for job in &lost {
                file.written.remove(job);
            }
            if may_ask && file.attempts == 0 && (!recent || !lost.is_empty() && file.token_text.is_none()) {
                file.asked = file.due;
                file.due = file.due.map(|_| now);
            }
        }
        self.write_named_files(lease);
    }
}
