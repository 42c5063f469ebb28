// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notes in the lease table what a thread has done with token files. The lease may have changed meanwhile: then the directory is in the
//! queue again, and what counts here is only what the files hold now.

use mytoken::Secret;
use mytoken_wire::FileName;
use mytoken_wire::agent::EventKind;

use super::work::{Content, FileWork, JobFiles, OfLease};
use super::{FileDone, JobDone, WRITE_PAUSE};
use crate::agent::credential_service::RequestFailure;
use crate::agent::file_queue::FilePlace;
use crate::agent::lease::{CurrentToken, Lease, NamedFile, Phase};
use crate::agent::lease_table::LeaseTable;
use crate::agent::runtime_dir::FoundToken;
use crate::agent::{Agent, millis};
use crate::jobs::JobWindow;
use crate::log::Level;

/// The lease, if it is the same one and nothing is to be removed there.
fn same_lease<'a>(table: &'a mut LeaseTable, place: &FilePlace, of: &OfLease) -> Option<&'a mut Lease> {
    // The job or session has ended meanwhile: whatever was written goes with the directory.
    if table.files.is_ended(place) {
        return None;
    }
    table.get_mut(&of.key).filter(|lease| lease.generation == of.generation)
}

/// Expiry under which a file with the access token `text` is known. One with an earlier token of the same end is written again. `exp` is that
/// of the time when the write began: the time of day may have been set since then.
fn held(token: Option<CurrentToken>, current: Option<&Secret>, exp: u64, text: &Secret) -> u64 {
    match (token, current) {
        (Some(token), Some(current)) if current == text => token.exp,
        (Some(token), Some(_)) if token.exp == exp => exp.saturating_sub(1),
        _ => exp,
    }
}

/// Takes an access token that was found in a file. It becomes the current one if that ends earlier. Returns the expiry under which the file is
/// known.
fn adopt(token: &mut Option<CurrentToken>, current: &mut Option<Secret>, found: FoundToken) -> u64 {
    let FoundToken { text, exp, tells_end, lifetime } = found;
    match *token {
        // Perhaps it is the current one, perhaps an older one: the next one is requested, and takes its place.
        Some(CurrentToken { exp: latest, .. }) if !tells_end => exp.min(latest.saturating_sub(1)),
        Some(CurrentToken { exp: latest, .. }) if latest >= exp => exp,
        _ => {
            (*token, *current) = (Some(CurrentToken { exp, lifetime }), text);
            exp
        }
    }
}

/// Whether a file may keep the access token that was just written to it.
fn may_hold(token: Option<CurrentToken>, window: JobWindow) -> bool {
    token.is_some() && (window.is_open() || window == JobWindow::Asking)
}

impl Agent {
    pub(super) fn take_job_results(&self, place: &FilePlace, job: u32, work: JobFiles, done: JobDone) {
        let JobFiles { lease: of, needs_directory, main, further, .. } = work;
        let mut table = self.leases();
        let Some(lease) = same_lease(&mut table, place, &of).filter(|lease| lease.runs(job)) else { return };
        if let Err(error) = done.made {
            let text = format!("{place}: its directory could not be made: {error}");
            self.log.line(Level::Error, &text);
        }
        if let Some(own) = lease.jobs.get_mut(&job).filter(|_| needs_directory) {
            own.needs_directory = false;
        }
        let mut is_changed = self.take_main_result(lease, job, &main, done.main);
        for ((name, work), done) in further.iter().zip(done.further) {
            is_changed |= self.take_further_result(lease, job, name, work, done);
        }
        if is_changed {
            self.lease_changed(&mut table, &of.key);
        }
    }

    /// Returns whether the lease has changed.
    fn take_main_result(&self, lease: &mut Lease, job: u32, work: &FileWork, done: FileDone) -> bool {
        let later = self.now().saturating_add(millis(WRITE_PAUSE));
        let token = lease.token;
        let is_current =
            matches!(work, FileWork::Write(content) if token.is_some_and(|token| token.exp == content.exp));
        let is_forbidden = lease.forbids_token(lease.window_of(job));
        let Some(own) = lease.jobs.get_mut(&job) else { return false };
        match (work, done) {
            (FileWork::Write(Content { exp, .. }), FileDone::Written(text)) => {
                let may_hold = may_hold(token, own.window);
                let held = held(token, lease.token_text.as_ref(), *exp, &text);
                let was_unwritten = std::mem::take(&mut own.is_unwritten);
                (own.file, own.is_stale) = (may_hold.then_some(held), !may_hold);
                lease.files_due |= !may_hold || held != *exp;
                if is_current && lease.token_text.is_none() {
                    lease.token_text = Some(text);
                }
                let is_unwritten = lease.jobs.values().any(|job| job.running && job.is_unwritten);
                if was_unwritten && may_hold && !is_unwritten {
                    if lease.is_as_planned() {
                        lease.reason = None;
                    }
                    self.record(lease, Level::Info, EventKind::Started, "the access token was written");
                }
                true
            }
            // Another one is to be written by now, or none.
            (_, FileDone::NotWritten(_) | FileDone::NoText) if !is_current => false,
            (_, FileDone::NotWritten(error)) => {
                own.is_unwritten = true;
                let text = format!("the access token could not be written ({error}); the agent tries again");
                // Once for all jobs that fail with the same attempt.
                if lease.write_due.replace(later).is_none() {
                    self.record(lease, Level::Warning, EventKind::Retry, text.clone());
                }
                // Why there is no further token stays.
                if lease.is_as_planned() {
                    lease.reason = Some(text);
                }
                true
            }
            // After a restart no file holds it: a new one is requested.
            (_, FileDone::NoText) => {
                let lacks_text = lease.token_text.is_none();
                if let (Phase::Active { due }, true) = (&mut lease.phase, lacks_text) {
                    *due = self.now();
                }
                lacks_text
            }
            (_, FileDone::NotRemoved(error)) => {
                let name = crate::agent::name(lease);
                let text = format!("{name}: an expired access token could not be removed: {error}");
                self.log.line_of(lease.uid, Level::Error, &text);
                lease.write_due = Some(later);
                true
            }
            (_, FileDone::Found(found)) => {
                // Perhaps it was given back meanwhile.
                (own.is_doubtful, own.is_stale) = (false, is_forbidden);
                if !is_forbidden {
                    own.file = Some(adopt(&mut lease.token, &mut lease.token_text, found));
                }
                lease.files_due = true;
                true
            }
            (_, FileDone::Removed) => {
                own.is_stale = false;
                let was_doubtful = std::mem::take(&mut own.is_doubtful);
                lease.files_due |= was_doubtful;
                was_doubtful
            }
            (_, FileDone::Nothing | FileDone::Written(_)) => false,
        }
    }

    /// Returns whether the lease has changed.
    fn take_further_result(
        &self,
        lease: &mut Lease,
        job: u32,
        name: &FileName,
        work: &FileWork,
        done: FileDone,
    ) -> bool {
        let (now, window) = (self.now(), lease.window_of(job));
        let is_forbidden = lease.forbids_token(window);
        let later = now.saturating_add(millis(WRITE_PAUSE));
        let Some(file) = lease.files.iter_mut().find(|file| file.name == *name) else { return false };
        let token = file.token;
        let is_current =
            matches!(work, FileWork::Write(content) if token.is_some_and(|token| token.exp == content.exp));
        let mut told = None;
        match (work, done) {
            (FileWork::Write(Content { exp, .. }), FileDone::Written(text)) => {
                told = further_written(file, job, may_hold(token, window), (*exp, &text));
                lease.files_due |= file.written.get(&job) != Some(exp);
                if is_current && file.token_text.is_none() {
                    file.token_text = Some(text);
                }
            }
            (_, FileDone::NotWritten(_) | FileDone::NoText) if !is_current => return false,
            (_, FileDone::NotWritten(error)) => {
                file.unwritten.insert(job);
                let text = format!("the access token could not be written ({error}); the agent tries again");
                if file.write_due.replace(later).is_none() {
                    told = Some((Level::Warning, text.clone()));
                }
                if file.is_as_planned() {
                    file.reason = Some(text);
                }
            }
            // After a restart no file holds it: a new one is requested.
            (_, FileDone::NoText) => {
                if file.token_text.is_none() {
                    file.due = file.due.map(|due| due.min(now));
                }
            }
            (_, FileDone::NotRemoved(error)) => {
                file.write_due = Some(later);
                let text = format!("job {job}: an expired access token could not be removed: {error}");
                self.log.line_of(lease.uid, Level::Error, &text);
            }
            (_, FileDone::Found(found)) => {
                file.doubted.remove(&job);
                if is_forbidden {
                    file.stale.insert(job);
                } else {
                    file.stale.remove(&job);
                    let held = adopt(&mut file.token, &mut file.token_text, found);
                    file.written.insert(job, held);
                }
                lease.files_due = true;
            }
            (_, FileDone::Removed) => {
                file.stale.remove(&job);
                if !file.doubted.remove(&job) {
                    return false;
                }
                lease.files_due = true;
            }
            (_, FileDone::Nothing | FileDone::Written(_)) => return false,
        }
        if let Some((level, text)) = told {
            self.record_file(lease, level, name, &text);
        }
        true
    }

    pub(super) fn take_session_result(&self, place: &FilePlace, of: &OfLease, work: &FileWork, done: FileDone) {
        let mut table = self.leases();
        let Some(lease) = same_lease(&mut table, place, of).filter(|lease| lease.has_session_file()) else { return };
        // Another one may have arrived meanwhile. It is written next.
        let is_active = matches!(lease.phase, Phase::Active { .. });
        let is_same = |text: Option<&Secret>| {
            is_active && lease.arrived.as_ref().is_some_and(|arrived| Some(&arrived.text) == text)
        };
        let (is_written, is_failed) = match (work, &done) {
            (_, FileDone::Written(text)) => (is_same(Some(text)), false),
            (FileWork::Write(content), FileDone::NotWritten(_)) => (false, is_same(content.text.as_ref())),
            _ => (false, false),
        };
        match done {
            FileDone::Written(_) if is_written => {
                if let Some(arrived) = lease.arrived.take() {
                    (lease.is_stale, lease.is_doubtful) = (false, false);
                    self.installed(lease, arrived.token, arrived.renewal, arrived.took);
                }
            }
            FileDone::NotWritten(error) if is_failed => {
                lease.arrived = None;
                // Meanwhile the file must not hold an expired one.
                lease.files_due |= lease.is_stale || lease.is_doubtful;
                let reason = format!("the access token could not be written: {error}");
                self.request_failed(lease, &RequestFailure::temporary(reason));
            }
            FileDone::NotRemoved(error) => {
                let name = crate::agent::name(lease);
                let text = format!("{name}: an expired access token could not be removed: {error}");
                self.log.line_of(lease.uid, Level::Error, &text);
                lease.write_due = Some(self.now().saturating_add(millis(WRITE_PAUSE)));
            }
            FileDone::Removed => (lease.is_stale, lease.is_doubtful) = (false, false),
            // Its text is in the session's file only.
            FileDone::Found(found) => {
                lease.is_doubtful = false;
                adopt(&mut lease.token, &mut None, found);
            }
            // It expired while it was written, or another one has arrived. The file does not hold what the lease says.
            FileDone::Written(_) => {
                lease.token = None;
                lease.arrived = lease.arrived.take().filter(|_| is_active);
                (lease.is_stale, lease.is_doubtful, lease.files_due) = (true, false, true);
            }
            FileDone::Nothing | FileDone::NoText | FileDone::NotWritten(_) => return,
        }
        self.lease_changed(&mut table, &of.key);
    }
}

/// A token with this expiry was written to a further file. Returns what is to be told.
fn further_written(
    file: &mut NamedFile,
    job: u32,
    may_hold: bool,
    (exp, text): (u64, &Secret),
) -> Option<(Level, String)> {
    if !may_hold {
        file.written.remove(&job);
        file.stale.insert(job);
        return None;
    }
    let held = held(file.token, file.token_text.as_ref(), exp, text);
    file.written.insert(job, held);
    file.stale.remove(&job);
    if file.unwritten.remove(&job) && file.unwritten.is_empty() {
        if file.is_as_planned() {
            file.reason = None;
        }
        return Some((Level::Info, "the access token was written".to_owned()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_another_token_of_the_same_end_is_not_the_current_one() {
        let token = Some(CurrentToken { exp: 50, lifetime: 10 });
        let (one, other) = (Secret::new("one"), Secret::new("other"));
        for (token, current, exp, expected) in [
            (token, Some(&one), 50, 50),
            (token, Some(&other), 50, 49),
            (token, Some(&other), 40, 40),
            (token, Some(&one), 90, 50),
            (token, None, 50, 50),
            (None, None, 50, 50),
        ] {
            assert_eq!(held(token, current, exp, &one), expected, "{token:?} {exp}");
        }
    }

    #[test]
    fn a_token_that_was_found_counts_as_the_current_one_unless_that_ends_later() {
        let token = |exp| CurrentToken { exp, lifetime: 10 };
        for (current, tells_end, held, now_current) in [
            (None, true, 50, 50),
            (None, false, 50, 50),
            (Some(token(40)), true, 50, 50),
            (Some(token(60)), true, 50, 60),
            (Some(token(40)), false, 39, 40),
            (Some(token(60)), false, 50, 60),
        ] {
            let (mut own, mut text) = (current, None);
            let found = FoundToken { text: Some(Secret::new("found")), exp: 50, tells_end, lifetime: 10 };
            assert_eq!(adopt(&mut own, &mut text, found), held, "{current:?} {tells_end}");
            assert_eq!(own.map(|token| token.exp), Some(now_current), "{current:?} {tells_end}");
            assert_eq!(text.is_some(), own != current);
        }
    }

    #[test]
    fn what_was_given_back_or_is_outside_its_window_is_not_held() {
        let token = Some(CurrentToken { exp: 50, lifetime: 10 });
        let closed = JobWindow::Closed { from: 9 };
        for (token, window, expected) in [
            (token, JobWindow::Always, true),
            (token, JobWindow::Open { until: 9 }, true),
            (token, JobWindow::Asking, true),
            (token, closed, false),
            (token, JobWindow::Over, false),
            (None, JobWindow::Always, false),
        ] {
            assert_eq!(may_hold(token, window), expected, "{token:?} {window:?}");
        }
    }
}
