// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests of logins. They are counted and never wait: the login module has limits of its own, and asks nobody.

use super::Budgets;
use super::ledger::Purpose;
use crate::broker::messages::{NOBODY, PermitRequest};

impl Budgets {
    /// A login sends so many requests to a server, by its name or URL. Nobody is verified yet.
    pub fn login_sends(&self, server: &str, count: u32) {
        let Some(url) = self.url(server) else { return };
        for _ in 0..count {
            self.unverified_login(&url);
            // The brokers count it, too. Their answer does not matter: it is sent.
            if self.site.is_used() && self.ask_site(&url, Purpose::Login, NOBODY).is_none() {
                self.with(&url, |found, now| found.sent_beyond(Purpose::Login, None, now));
            }
        }
    }

    /// Counts a request for somebody who is not verified, to a server by its URL. Returns whether it was counted.
    pub fn unverified_login(&self, server: &str) -> bool {
        self.with(server, |found, now| found.ledger.unverified_login(now)).unwrap_or(false)
    }

    /// So many requests for nobody, to a server by its URL, are of this user. Returns how many of them the brokers have not heard.
    pub fn accept_logins(&self, server: &str, uid: u32, count: u32) -> u32 {
        self.with(server, |found, now| found.accept_logins(uid, count, now)).unwrap_or(0)
    }

    /// The login of this user, which has told so many requests, was accepted.
    pub fn login_accepted(&self, server: &str, uid: u32, count: u32) {
        let Some(url) = self.url(server) else { return };
        // Those that the brokers have not heard are told in a report, for this user.
        let heard = count.saturating_sub(self.accept_logins(&url, uid, count));
        if heard > 0 {
            let accepted = PermitRequest { accepted: heard, ..PermitRequest::new(&url, Purpose::Login, uid) };
            let _ = self.ask_brokers(accepted);
        }
    }

    /// A login of this user has sent a request. Login modules of earlier releases tell it so late.
    pub fn login(&self, server: &str, uid: u32) {
        let Some(url) = self.url(server) else { return };
        self.count(&url, Purpose::Login, Some(uid));
        if self.site.is_used() && self.ask_site(&url, Purpose::Login, uid).is_none() {
            self.with(&url, |found, now| found.sent_beyond(Purpose::Login, Some(uid), now));
        }
    }
}
