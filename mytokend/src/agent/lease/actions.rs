// SPDX-License-Identifier: MIT OR Apache-2.0
//! The next action of a lease and its time.

use super::{Action, Lease, LeaseKey, NamedFile, OpenRequests, Phase};
use crate::jobs::remove_at;

/// For this time, in milliseconds, the agent tries to revoke what does not say when it ends.
const LONGEST_WITHOUT_END: u64 = 86_400_000;

impl Lease {
    /// Whether the mytoken of a session could not be revoked for so long that the agent gives up, at `now`, Unix milliseconds. Nobody knows
    /// when it expires, so nothing else would end the attempts.
    #[must_use]
    pub fn is_never_revoked(&self, now: u64) -> bool {
        let is_session = matches!(self.key, LeaseKey::Session(_));
        let first = match self.phase {
            Phase::Ended { tries, revoke, .. } if tries > 0 => revoke,
            _ => None,
        };
        is_session && self.until.is_none() && first.is_some_and(|first| now.saturating_sub(first) > LONGEST_WITHOUT_END)
    }

    /// The next action and its time. While a worker thread processes the lease, only an expired token is removed, and a further request
    /// is sent when one has no answer for a long time.
    #[must_use]
    pub fn next_action(&self) -> Option<(u64, Action)> {
        let (due, action) = match self.phase {
            // A job that came back meanwhile needs its token.
            Phase::Ended { .. } | Phase::Finished { .. } if self.in_progress || self.revoking => {
                (u64::MAX, Action::Delete)
            }
            // A token that has arrived is written first.
            Phase::Active { .. } if self.is_closed() || self.arrived.is_some() => (u64::MAX, Action::Renew),
            Phase::Active { due } => (self.requests.next(due).unwrap_or(u64::MAX), Action::Renew),
            Phase::Ended { due, .. } => (due, Action::Settle),
            Phase::Finished { due } => (due, Action::Delete),
            Phase::Refused => (u64::MAX, Action::Delete),
        };
        // A token that expires before the next request is removed first.
        let in_files = self.jobs.values().filter_map(|job| job.file);
        let arrived = self.arrived.as_ref().map(|arrived| arrived.token.exp);
        let own = in_files.chain(self.token.map(|token| token.exp)).chain(arrived).min().map(remove_at);
        let expiry = own.into_iter().chain(self.files.iter().filter_map(NamedFile::next_expiry)).min();
        let write = self.write_due.into_iter().chain(self.files.iter().filter_map(|file| file.write_due)).min();
        [expiry.map(|at| (at, Action::Expire)), write.map(|at| (at, Action::Write)), Some((due, action))]
            .into_iter()
            .flatten()
            .chain(self.next_file_request())
            .chain(self.next_window())
            .min_by_key(|(due, _)| *due)
            .filter(|(due, _)| *due != u64::MAX)
    }

    /// The next request for one of the further files. A main file that was refused does not end them.
    fn next_file_request(&self) -> Option<(u64, Action)> {
        let request = |(index, file): (usize, &NamedFile)| {
            Some((file.next_request()?, Action::RenewFile(u8::try_from(index).ok()?)))
        };
        let runs = self.is_running() && self.credential.is_some() && !self.is_closed();
        self.files.iter().enumerate().filter(|_| runs).filter_map(request).min_by_key(|(due, _)| *due)
    }

    /// The further file of an action.
    pub fn file_mut(&mut self, index: u8) -> Option<&mut NamedFile> {
        self.files.get_mut(usize::from(index))
    }

    /// The requests to which one for `action` belongs. `None`: it is no request for an access token.
    pub fn requests_of(&mut self, action: Action) -> Option<&mut OpenRequests> {
        match action {
            Action::Renew => Some(&mut self.requests),
            Action::RenewFile(index) => self.file_mut(index).map(|file| &mut file.requests),
            _ => None,
        }
    }

    /// A worker thread has done `action`. `round` is that of a request.
    pub fn end_task(&mut self, action: Action, round: u32) {
        match action {
            Action::Renew | Action::RenewFile(_) => {
                if let Some(requests) = self.requests_of(action) {
                    requests.end(round);
                }
            }
            Action::Revoke => self.revoking = false,
            Action::AskStart => self.asking = false,
            _ => self.in_progress = false,
        }
    }
}
