// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a mytoken server is asked for its limit. The callers ask it.

use super::Budgets;

/// From so many requests in a period on, the agent wants to know the limit of a server that has told none.
const WORTH_A_QUESTION: u32 = 8;

/// Pause between two such questions to a server that has told no limit. Most of them have none for this host.
const QUESTION_PAUSE: u64 = 3_600_000;

/// Pause between two such questions to a server whose limit is only assumed.
const ASSUMED_PAUSE: u64 = 30_000;

impl Budgets {
    /// Whether a server, by its URL, should be asked for its limit, which is only assumed. The caller asks it; nobody else is told so for a
    /// while.
    #[must_use]
    pub fn must_ask(&self, server: &str) -> bool {
        let now = self.now();
        let mut servers = self.servers();
        let Some(found) = servers.get_mut(server).filter(|found| found.ledger.is_assumed(now)) else { return false };
        let is_asked = found.asked.is_some_and(|asked| now.saturating_sub(asked) < ASSUMED_PAUSE);
        if !is_asked {
            found.asked = Some(now);
        }
        !is_asked
    }

    /// The same after a host has told that the server accepts fewer requests than are counted: only the server's own answer can be believed.
    #[must_use]
    pub fn must_verify(&self, server: &str) -> bool {
        let now = self.now();
        let mut servers = self.servers();
        let Some(found) = servers.get_mut(server).filter(|found| found.ledger.known().told(now).is_none()) else {
            return false;
        };
        let period = found.ledger.known().period();
        let is_asked = found.asked.is_some_and(|asked| now.saturating_sub(asked) < period);
        if !is_asked {
            found.asked = Some(now);
        }
        !is_asked
    }

    /// The URL of a server that should tell what is left, because this host sends it many requests: perhaps it has a limit, perhaps other
    /// hosts at this address have used it up. The caller asks it.
    #[must_use]
    pub fn question(&self, name: &str) -> Option<String> {
        let now = self.now();
        let mut servers = self.servers();
        let (url, found) = servers.iter_mut().find(|(_, server)| server.name == name)?;
        let pause = found.ledger.limit(now).map_or(QUESTION_PAUSE, |limit| limit.period);
        let paused = found.asked.is_some_and(|asked| now.saturating_sub(asked) < pause);
        if paused || found.ledger.is_informed(now) || found.ledger.recent(now) < WORTH_A_QUESTION {
            return None;
        }
        found.asked = Some(now);
        Some(url.clone())
    }
}
