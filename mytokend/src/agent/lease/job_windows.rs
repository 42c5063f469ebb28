// SPDX-License-Identifier: MIT OR Apache-2.0
//! The windows of a lease's jobs that count from the start of each job.

use super::{Action, Lease, Phase};
use crate::jobs::{JobWindow, StartWindow, start_windows};

impl Lease {
    /// Begin and window of a job whose first step here starts at `now`, Unix milliseconds. slurmctld is asked, because the first step on a node
    /// may begin long after the job.
    pub(super) fn first_window(&self, now: u64) -> (Option<u64>, JobWindow) {
        if self.start_windows.is_empty() { (None, JobWindow::Always) } else { (Some(now), JobWindow::Asking) }
    }

    /// Takes the windows of a credential for the jobs that run here.
    pub fn set_start_windows(&mut self, windows: Vec<StartWindow>, now: u64) {
        self.start_windows = windows;
        for job in self.jobs.values_mut().filter(|job| job.running) {
            job.window = match (job.window, job.start) {
                _ if self.start_windows.is_empty() => JobWindow::Always,
                // slurmctld has told when it began.
                (JobWindow::Open { .. } | JobWindow::Closed { .. } | JobWindow::Over, Some(begun)) => {
                    start_windows::at(&self.start_windows, begun, now)
                }
                _ => JobWindow::Asking,
            };
            if !self.start_windows.is_empty() {
                job.start.get_or_insert(now);
            }
        }
    }

    /// The jobs that run here of which slurmctld has not told when they began, with the time of their first step here.
    #[must_use]
    pub fn asking_jobs(&self) -> Vec<(u32, Option<u64>)> {
        let asking = self.jobs.iter().filter(|(_, job)| job.running && job.window == JobWindow::Asking);
        asking.map(|(id, job)| (*id, job.start)).collect()
    }

    /// A job whose first step here was at `seen` has begun at `begun`. Nothing is known of another run of it.
    pub fn set_begun(&mut self, job: u32, seen: Option<u64>, begun: Option<u64>, now: u64) {
        let is_same =
            |job: &&mut Box<super::LocalJob>| job.running && job.window == JobWindow::Asking && job.start == seen;
        if let Some(job) = self.jobs.get_mut(&job).filter(is_same) {
            let begun = begun.into_iter().chain(seen).min().unwrap_or(now);
            (job.start, job.window) = (Some(begun), start_windows::at(&self.start_windows, begun, now));
        }
    }

    /// Looks at the windows again whose begin or end has come, and returns the jobs with what has changed, and when.
    pub fn follow_windows(&mut self, now: u64) -> Vec<(u32, JobWindow, u64)> {
        let mut changed = Vec::new();
        for (id, job) in self.jobs.iter_mut().filter(|(_, job)| job.running) {
            let Some(next) = job.window.next().filter(|next| *next <= now) else { continue };
            job.window = start_windows::at(&self.start_windows, *job.start.get_or_insert(now), now);
            changed.push((*id, job.window, next));
        }
        changed
    }

    /// Whether none of the jobs that run here may have an access token now.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let is_open = |id| self.jobs.get(&id).is_some_and(|job| job.window.is_open());
        !self.start_windows.is_empty() && !self.running_jobs().any(is_open)
    }

    /// What its windows mean for `job`.
    #[must_use]
    pub fn window_of(&self, job: u32) -> JobWindow {
        self.jobs.get(&job).map_or(JobWindow::Always, |job| job.window)
    }

    /// What a person is told of them: nothing if the lease gives no access tokens any more.
    #[must_use]
    pub fn told_window_of(&self, job: u32) -> JobWindow {
        if matches!(self.phase, Phase::Active { .. }) { self.window_of(job) } else { JobWindow::Always }
    }

    /// When to look at the windows of the jobs again.
    pub(super) fn next_window(&self) -> Option<(u64, Action)> {
        let running = || self.jobs.values().filter(|job| job.running);
        let asks = running().any(|job| job.window == JobWindow::Asking) && !self.asking;
        let next = running().filter_map(|job| job.window.next()).min().map(|next| (next, Action::FollowWindows));
        if asks { Some((0, Action::AskStart)) } else { next }.filter(|_| self.is_running())
    }
}
