// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time of one login. There is one end, for everything that the login does: requests, records, and the revocation of a redeemed mytoken.

use std::time::Duration;

use mytoken::Deadline;

/// Time for the revocation of a redeemed mytoken, if the login is refused.
const REVOCATION_TIME: Duration = Duration::from_secs(3);

/// Time to record the outcome.
const RECORD_TIME: Duration = Duration::from_millis(250);

/// The time of a login after the answer at its prompt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoginTime {
    end: Deadline,
    revocation: Duration,
    record: Duration,
}

impl LoginTime {
    /// From now on, `limit` without what was `spent` before the prompt.
    pub(crate) fn after_answer(limit: Duration, spent: Duration) -> Self {
        Self {
            end: Deadline::after(limit.saturating_sub(spent)),
            revocation: REVOCATION_TIME.min(limit / 4),
            record: RECORD_TIME.min(limit / 20),
        }
    }

    /// The end of the login.
    pub(crate) fn end(&self) -> Deadline {
        self.end
    }

    /// For the requests of a login that has nothing to revoke.
    pub(crate) fn for_requests(&self) -> Deadline {
        self.end.earlier(self.record)
    }

    /// For the requests of a login that has to revoke a redeemed mytoken if it is refused.
    pub(crate) fn for_requests_before_revocation(&self) -> Deadline {
        self.for_requests().earlier(self.revocation)
    }

    /// For the revocation.
    pub(crate) fn for_revocation(&self) -> Deadline {
        self.for_requests().at_most(REVOCATION_TIME)
    }
}
