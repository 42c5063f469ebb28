// SPDX-License-Identifier: MIT OR Apache-2.0
//! The further token files of jobs: requests, files, answers. The main file has its own code and does not depend on them.

use std::time::Duration;

use mytoken::{Deadline, time_format};
use mytoken_wire::agent::{EventKind, StartedFile};
use mytoken_wire::{FileName, paths};

use super::budget::ledger::Purpose;
use super::credential_service::{Charge, IssuedToken, RequestFailure};
use super::lease::{Lease, NamedFile};
use super::lease_table::Task;
use super::renew::{CLOCK_DIFFERENCE, SAME};
use super::{Agent, millis, token_files};
use crate::jobs::{Validity, validity, windows};
use crate::log::Level;

/// A job's further files, each with the expiry of its access token in Unix seconds. Without one the file may be there all the same: a
/// thread writes it at this moment, or is to remove it.
pub(super) type FilesOfJob = Vec<(FileName, Option<u64>)>;

/// What a step is told of a file that is requested at this moment.
const NO_ANSWER_YET: &str = "the mytoken server has not answered yet; the file appears after its answer";

/// Takes the further files of `job` out of the lease.
pub(super) fn take_files(lease: &mut Lease, job: u32) -> FilesOfJob {
    let files = lease.files.iter_mut();
    files.map(|file| (file.name.clone(), file.leave(job))).collect()
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
    pub(super) fn record_file(&self, lease: &mut Lease, level: Level, name: &FileName, text: &str) {
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

    /// Requests an access token for a further file.
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
                let about = (file.name.clone(), comment, (lease.uid, purpose, jobs));
                Some((credential, about, validity(&file.windows, self.server_time(lease)), file.times(now, longest)))
            });
            // While this request has no answer, a second one may become due.
            if let (Some((.., times)), Some(lease)) = (&begun, table.current(task)) {
                let limited = lease.limited_uses;
                if let Some(file) = lease.file_mut(index) {
                    let further = times.further(file.requests.count()).filter(|_| !limited);
                    file.requests.further_due = further.map(|wait| now.saturating_add(millis(wait)));
                }
                table.schedule(&task.key);
                self.wake.notify_all();
            }
            begun
        };
        let Some((credential, (name, comment, (uid, purpose, jobs)), validity, times)) = begun else { return };
        let begin = self.clock.elapsed();
        let result = match validity {
            Validity::Now | Validity::Over => {
                let (configured, deadline) = (self.configured(), Deadline::after(times.deadline));
                let charge = Charge { uid, purpose, job: configured.service.job_for(&credential, &jobs, deadline) };
                configured.service.access_token(&credential, Some(&name), &comment, charge, deadline)
            }
            Validity::From(_) => Err(RequestFailure::permanent("the credential is not valid yet")),
        };
        // A broker tells the content of the credential with each token, whichever file it is for.
        let learned = self.configured().service.learned(&credential);
        drop(credential);
        self.tell_difference(task);
        let took = self.clock.elapsed().saturating_sub(begin);
        let mut table = self.leases();
        let Some(lease) = table.finish(task) else { return };
        if let Some(admitted) = learned {
            self.take_newer_content(lease, admitted, now);
        }
        let is_limited = lease.limited_uses;
        let is_running = lease.is_running();
        let file = lease.file_mut(index).filter(|_| is_running);
        let state = file.map(|file| {
            // Otherwise another request has brought the token for which this one was sent.
            let is_current = file.requests.is_current(task.round);
            (is_current, if is_current { file.asked.take() } else { None }, file)
        });
        match (state, result) {
            // The jobs have ended, or the credential was given back.
            (None, _) => {}
            (Some((is_current, ..)), Ok(issued)) => self.install_file(lease, index, (&issued, is_current), took),
            (Some((false, ..)), Err(_)) => {}
            // The other request may still be answered. If it hangs, the token must not wait for its end.
            (Some((_, _, file)), Err(failure)) if failure.temporary && file.requests.count() > 0 => {
                if !is_limited {
                    file.plan_further(&failure, self.now(), (self.draw)());
                }
            }
            // The renewal that was planned stays.
            (Some((_, Some(asked), file)), Err(failure)) if failure.unsent => {
                (file.due, file.requests.further_due) = (Some(asked), None);
                self.record_file(lease, Level::Info, &name, &format!("not renewed on request: {}", failure.reason));
            }
            (Some(_), Err(failure)) => self.file_request_failed(lease, index, &failure),
        }
        self.lease_changed(&mut table, &task.key);
    }

    /// `is_current`: as with [`Self::install`].
    fn install_file(&self, lease: &mut Lease, index: u8, (issued, is_current): (&IssuedToken, bool), took: Duration) {
        if issued.left.is_zero() && !is_current {
            return;
        }
        if issued.left.is_zero() {
            let reason = "the new access token has expired already; check this node's clock";
            return self.file_request_failed(lease, index, &RequestFailure::temporary(reason));
        }
        let now = self.now();
        let Some(file) = lease.file_mut(index) else { return };
        let times = (issued.left, issued.lifetime);
        let Some(is_other) = file.install(issued.token.clone(), times, (took, is_current), now, (self.draw)()) else {
            return;
        };
        let (name, due) = (file.name.clone(), file.due.unwrap_or(now));
        (lease.proven, lease.files_due) = (true, true);
        let next = time_format::short(due.saturating_sub(now) / 1000);
        let what = if is_other { "access token" } else { SAME };
        self.record_file(lease, Level::Info, &name, &format!("{what} in {} ms, next in {next}", took.as_millis()));
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
                file.try_again(failure, now, (self.draw)());
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

    /// Forgets the expired tokens of the further files, and removes them from the files.
    pub(super) fn expire_named_files(&self, lease: &mut Lease, is_held_up: bool) {
        let now = self.now();
        let expired: Vec<(FileName, Option<String>)> = lease
            .files
            .iter_mut()
            .filter_map(|file| file.expire(now).then(|| (file.name.clone(), file.reason.clone())))
            .collect();
        if expired.is_empty() {
            return;
        }
        lease.remove_stale_further();
        for (name, reason) in expired {
            let why = reason.unwrap_or_else(|| "it was not renewed".to_owned());
            let text = token_files::expired(is_held_up, &why);
            self.record_file(lease, Level::Warning, &name, &text);
        }
    }

    /// Gives the files of `job` that another lease has written to this one. Returns those that it does not have. They are to be removed:
    /// nothing would renew them, or remove them when they expire.
    #[must_use]
    pub(super) fn take_over_files(lease: &mut Lease, job: u32, earlier: FilesOfJob) -> Vec<FileName> {
        let mut unwanted = Vec::new();
        for (name, exp) in earlier {
            match (lease.files.iter_mut().find(|file| file.name == name), exp) {
                (Some(file), Some(exp)) => drop(file.written.insert(job, exp)),
                (Some(file), None) => drop(file.stale.insert(job)),
                (None, _) => unwanted.push(name),
            }
        }
        unwanted
    }

    /// Plans requests for new tokens of further files at once if `may_ask`; after a `recent` one only for those that are `lost` and cannot
    /// be written.
    pub(super) fn renew_files_soon(lease: &mut Lease, lost: &[FileName], recent: bool, may_ask: bool, now: u64) {
        for file in lease.files.iter_mut().filter(|file| may_ask && file.requests.count() == 0) {
            if !recent || lost.contains(&file.name) && file.token_text.is_none() {
                file.asked = file.due;
                file.due = file.due.map(|_| now);
            }
        }
    }
}
