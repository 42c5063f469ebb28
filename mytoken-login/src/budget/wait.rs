// SPDX-License-Identifier: MIT OR Apache-2.0
//! The record of a login that waits long, from its begin to its end, and what a later login learns from a record that was left.

use std::time::Duration;

use mytoken::long_wait::{LONG_WAIT, notice_long_wait};
use mytoken::{Deadline, Process};

use super::allowance::{Allowance, CHANGE_TIME, RequestProvider, SILENCE_BACKOFF};
use super::file::LedgerFile;
use super::settings::BudgetSettings;
use super::waiting::WaitingLogin;

/// How long a login waits for the lock to remove its record. If that fails, the record is removed when its process has ended.
pub(super) const REMOVAL_TIME: Duration = Duration::from_millis(500);

/// The record of a login that has waited long. It is removed when this value is dropped, so not if sshd ends the login before.
pub struct LongWait<'a> {
    ledger: &'a LedgerFile,
    settings: &'a BudgetSettings,
    process: Process,
    deadline: Deadline,
}

impl Drop for LongWait<'_> {
    fn drop(&mut self) {
        let deadline = self.deadline.at_most(REMOVAL_TIME);
        let _ = self.ledger.change(self.settings, deadline, &mut |ledger, _| ledger.waiting.remove(self.process));
    }
}

impl Allowance<'_> {
    /// Sends `request` to `server`, and records a long wait for its answer. The record stays until the second value is dropped, which the
    /// caller does after it has recorded what the answer means.
    pub fn wait_for<T>(
        &self,
        server: &str,
        provider: RequestProvider<'_>,
        deadline: Deadline,
        request: impl FnOnce() -> T,
    ) -> (T, Option<LongWait<'_>>) {
        let Some((file, process)) = self.ledger.zip(Process::own()) else { return (request(), None) };
        let (settings, remote) = (self.settings, &self.remote);
        let mut noticed = false;
        let record = || {
            let login = |at| WaitingLogin {
                at,
                server: server.to_owned(),
                provider: provider.issuer.map(str::to_owned),
                remote: remote.clone(),
                process,
            };
            noticed = true;
            let _ = file.change(settings, deadline.at_most(CHANGE_TIME), &mut |ledger, now| {
                ledger.waiting.add(login(now));
            });
        };
        let answer = notice_long_wait(LONG_WAIT, record, request);
        (answer, noticed.then(|| LongWait { ledger: file, settings, process, deadline }))
    }

    /// Starts the backoffs that follow from logins that were ended while they waited for `server`. Returns whether there were any: then
    /// the caller finds out, with a request that no sender of a token can influence, whether the server is silent for everybody. That
    /// request is counted for the address of the login that was ended; if the budget of this address is spent, it is not sent. The agent hears
    /// of it.
    pub fn settle_ended_logins(&self, server: &str, deadline: Deadline) -> bool {
        let has_ended = |file: &LedgerFile| {
            file.read(self.settings).is_ok_and(|(ledger, _)| ledger.waiting.has_ended(server, &Process::is_running))
        };
        let mut probe = false;
        if self.ledger.is_some_and(has_ended) {
            self.change_ledger(deadline, &mut |ledger, now| {
                for login in ledger.waiting.take_ended(server, &Process::is_running) {
                    ledger.backoffs.add(login.backoff(now.saturating_add(SILENCE_BACKOFF)));
                    probe = probe || ledger.spend(&login.remote, now, self.settings).is_ok();
                }
            });
        }
        if probe {
            self.tell(server, deadline);
        }
        probe
    }
}
