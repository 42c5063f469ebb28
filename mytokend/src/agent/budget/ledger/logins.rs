// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests of logins. While nobody is verified, anybody at a prompt has caused them.

use super::{Ledger, Purpose, Sent, number};

impl Sent {
    /// Whether it was sent for somebody at a prompt who was not verified.
    #[must_use]
    pub const fn is_unverified_login(&self) -> bool {
        matches!((self.purpose, self.uid), (Purpose::Login, None))
    }
}

/// Of a limit of `requests`, logins that are not accepted count for at most so many: guesses must not stop jobs and sessions.
const fn share_of_unverified(requests: u32) -> u32 {
    if requests < 4 { 1 } else { requests / 4 }
}

impl Ledger {
    /// A login sends a request for somebody who is not verified. Returns whether it was counted: beyond their share, such requests are not.
    pub fn unverified_login(&mut self, now: u64) -> bool {
        self.forget(now);
        let counted = number(self.sent.iter().filter(|sent| sent.is_unverified_login()).count());
        let has_room = self.known.limit(now).is_none_or(|limit| counted < share_of_unverified(limit.requests));
        if has_room {
            self.count(Purpose::Login, None, now);
        }
        has_room
    }

    /// The login of this user was accepted, so `count` of the requests that were not verified are this user's. Those that had not been
    /// counted are counted now.
    pub fn accept_logins(&mut self, uid: u32, count: u32, now: u64) {
        let most = usize::try_from(count).unwrap_or(usize::MAX);
        let mut found = 0;
        for sent in self.sent.iter_mut().rev().filter(|sent| sent.is_unverified_login()).take(most) {
            sent.uid = Some(uid);
            found += 1;
        }
        (found..count).for_each(|_| self.count(Purpose::Login, Some(uid), now));
    }
}
