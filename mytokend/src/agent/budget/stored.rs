// SPDX-License-Identifier: MIT OR Apache-2.0
//! The counts of an earlier run of the agent: without them, a restart would give a host its whole budget again, and the server would
//! refuse what goes beyond. They are written while a request is sent, and once more when the agent ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ledger::{Ledger, Purpose, Sent};
use super::limit::Known;

/// Parts of a period that are told apart. A request of an earlier run counts until the end of its part.
const PARTS: u64 = 64;

/// What is stored.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Stored {
    /// Elapsed time, in milliseconds since the host's start, when it was stored.
    at: u64,
    /// By URL of the server.
    servers: BTreeMap<String, StoredLedger>,
}

/// The requests to one server.
#[derive(Debug, Serialize, Deserialize)]
struct StoredLedger {
    sent: Vec<StoredRequests>,
    known: Known,
}

/// Requests in one part of a period.
#[derive(Debug, Serialize, Deserialize)]
struct StoredRequests {
    at: u64,
    purpose: Purpose,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    count: u32,
}

impl Stored {
    /// The ledgers of servers with a limit. `None`: there is no such server, and nothing has to be stored.
    pub fn of<'a>(ledgers: impl Iterator<Item = (&'a str, &'a Ledger)>, now: u64) -> Option<Self> {
        let limited = ledgers.filter(|(_, ledger)| ledger.limit(now).is_some());
        let servers: BTreeMap<_, _> =
            limited.map(|(url, ledger)| (url.to_owned(), StoredLedger::of(ledger, now))).collect();
        (!servers.is_empty()).then_some(Self { at: now, servers })
    }

    /// Gives each server its earlier requests. `now` is the elapsed time.
    pub fn restore<'a>(self, ledgers: impl Iterator<Item = (&'a str, &'a mut Ledger)>, now: u64) {
        let Self { at, mut servers } = self;
        for (url, ledger) in ledgers {
            // Of another start of the host: all of it counts as if it had been stored just now.
            let present = |time: u64| if at > now { now.saturating_add(time).saturating_sub(at) } else { time };
            if let Some(StoredLedger { sent, known }) = servers.remove(url) {
                let each = |of: StoredRequests| {
                    let one = Sent { at: present(of.at), purpose: of.purpose, uid: of.uid };
                    std::iter::repeat_n(one, usize::try_from(of.count).unwrap_or(usize::MAX))
                };
                ledger.restore(sent.into_iter().flat_map(each), known.moved(present));
            }
        }
    }
}

impl StoredLedger {
    fn of(ledger: &Ledger, now: u64) -> Self {
        let part = (ledger.known().period() / PARTS).max(1);
        let mut counts = BTreeMap::new();
        for Sent { at, purpose, uid } in ledger.sent() {
            *counts.entry((at.div_ceil(part).saturating_mul(part).min(now), *purpose, *uid)).or_insert(0_u32) += 1;
        }
        let one = |((at, purpose, uid), count)| StoredRequests { at, purpose, uid, count };
        Self { sent: counts.into_iter().map(one).collect(), known: *ledger.known() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mytoken::http::RequestLimit;

    use super::*;

    const SECOND: u64 = 1_000;
    const ALICE: u32 = 2001;
    const URL: &str = "https://mt.example";

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        (0..95).for_each(|number| ledger.count(Purpose::Token, Some(ALICE), 1_000 * SECOND + number));
        ledger.learn(RequestLimit { requests: 100, left: 4, reset: Some(Duration::from_secs(200)) }, 1_001 * SECOND);
        ledger
    }

    fn after_a_restart(ledger: &Ledger, stored: u64, now: u64) -> Ledger {
        let text = serde_json::to_vec(&Stored::of([(URL, ledger)].into_iter(), stored).unwrap()).unwrap();
        let mut restored = Ledger::default();
        let stored: Stored = serde_json::from_slice(&text).unwrap();
        stored.restore([(URL, &mut restored)].into_iter(), now);
        restored
    }

    #[test]
    fn a_restart_gives_no_new_budget() {
        let before = ledger();
        let mut after = after_a_restart(&before, 1_001 * SECOND, 1_002 * SECOND);
        assert_eq!((after.left(1_002 * SECOND), after.recent(1_002 * SECOND)), (4, 95));
        assert_eq!(after.uses(None, 1_002 * SECOND), before.uses(None, 1_002 * SECOND));
        assert!(after.ask(Purpose::Token, Some(ALICE), 1_002 * SECOND).is_err());
        // When the server's period is over, the requests have been forgotten.
        assert_eq!(after.left(1_400 * SECOND), 100);
        // A server without a limit needs no file.
        assert!(Stored::of([(URL, &Ledger::default())].into_iter(), 0).is_none());
    }

    #[test]
    fn the_counts_of_another_start_of_the_host_are_counted_from_now_on() {
        let after = after_a_restart(&ledger(), 1_001 * SECOND, 10 * SECOND);
        assert_eq!((after.left(10 * SECOND), after.recent(10 * SECOND)), (4, 95));
        assert_eq!(after.left(400 * SECOND), 100);
    }

    #[test]
    fn a_purpose_of_a_later_release_counts_as_a_submission() {
        let text = serde_json::to_string(&Stored::of([(URL, &ledger())].into_iter(), 1_001 * SECOND).unwrap()).unwrap();
        let later = text.replace("\"token\"", "\"later\"");
        assert_ne!(later, text);
        let mut restored = Ledger::default();
        serde_json::from_str::<Stored>(&later).unwrap().restore([(URL, &mut restored)].into_iter(), 1_002 * SECOND);
        assert_eq!(restored.uses(None, 1_002 * SECOND), [("submission", Some(ALICE), 95)]);
    }

    #[test]
    fn a_host_with_many_requests_stores_few_lines() {
        let mut ledger = Ledger::default();
        ledger.learn(RequestLimit { requests: 10_000, left: 9_999, reset: Some(Duration::from_secs(300)) }, 0);
        (0..9_000_u64).for_each(|number| ledger.count(Purpose::Token, Some(ALICE), number * 30));
        let text = serde_json::to_vec(&Stored::of([(URL, &ledger)].into_iter(), 270 * SECOND).unwrap()).unwrap();
        assert!(text.len() < 8_000, "{}", text.len());
    }
}
