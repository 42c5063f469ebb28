// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers submissions that ask whether they may send a request, and counts logins.

use std::thread::Builder;
use std::time::Duration;

use mytoken::Deadline;
use mytoken_wire::agent::{Answer, BudgetStatus, LoginNote, Permit, Permitted};

use super::budget::ledger::Purpose;
use super::lease::{Lease, server};
use super::{Agent, millis};
use crate::log::Level;

/// Most requests that a submission tells beside the one that has a permit: also after failures and refusals it sends fewer. A login tells no
/// more at a time.
const MOST_TOLD: u32 = 8;

impl Agent {
    /// A permit for a submission of `uid`, or the time to wait. Without a limit of the server, every submission gets one.
    pub(super) fn permit(&self, asked: &Permit, uid: u32) -> Answer {
        let configured = self.configured();
        let Some(budgets) = configured.service.budgets() else { return Answer::Permit(Permitted::default()) };
        if asked.sent > 0 {
            budgets.submission_sent(&asked.server, uid, asked.sent.min(MOST_TOLD));
            return Answer::Permit(Permitted::default());
        }
        let refused = budgets.submission(&asked.server, uid).err();
        if let Some((wait, _)) = refused {
            let text = format!(
                "user {uid} gets no permit for a submission: the share of requests to the server \"{}\" is used up for {} s",
                mytoken_wire::printable(&asked.server, 64),
                wait.as_secs().saturating_add(1)
            );
            self.log.line_of(uid, Level::Info, &text);
        }
        self.ask_for_limit(&asked.server);
        Answer::Permit(
            refused.map_or_else(Permitted::default, |(wait, used_up)| Permitted { wait: Some(millis(wait)), used_up }),
        )
    }

    /// A login tells what it sends, or that it was accepted.
    pub(super) fn count_login_requests(&self, told: &Permit) -> Answer {
        if let Some(budgets) = self.configured().service.budgets() {
            let sent = told.sent.min(MOST_TOLD);
            match told.login {
                Some(LoginNote::Accepted { uid }) => budgets.login_accepted(&told.server, uid, sent),
                Some(LoginNote::Unverified {}) | None => budgets.login_sends(&told.server, sent),
            }
        }
        Answer::Permit(Permitted::default())
    }

    /// A session began with an access token for a mytoken: the login has sent a request for it, and has not told that.
    pub(super) fn count_login(&self, server: &str, uid: u32) {
        if let Some(budgets) = self.configured().service.budgets() {
            budgets.login(server, uid);
        }
    }

    /// For how long the owner of the lease has used up his share of the requests to its server.
    pub(super) fn wait_for_share(&self, lease: &Lease) -> Option<Duration> {
        let server = server(lease.credential.as_ref(), &lease.lane);
        self.configured().service.budgets()?.wait(server, Purpose::Asked, lease.uid)
    }

    /// What is left, for `mytokenctl status`.
    pub(super) fn budgets_for(&self, only: Option<u32>) -> Vec<BudgetStatus> {
        self.configured().service.budgets().map(|budgets| budgets.status(only)).unwrap_or_default()
    }

    /// Asks the server for its limit if that should be known. Nobody waits for the answer.
    fn ask_for_limit(&self, name: &str) {
        let configured = self.configured();
        let Some(url) = configured.service.budgets().and_then(|budgets| budgets.question(name)) else { return };
        let deadline = Deadline::after(configured.intervals.request_deadline);
        let question = move || configured.service.ask_for_limit(&url, deadline);
        // Without a thread the server is asked in the next period.
        let _ = Builder::new().name("limit".to_owned()).stack_size(super::schedule::STACK).spawn(question);
    }
}
