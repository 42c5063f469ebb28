// SPDX-License-Identifier: MIT OR Apache-2.0
//! The history of a credential. It answers the user's question "why do I have no token?".

use mytoken_wire::agent::{Event, EventKind};
use serde::{Deserialize, Serialize};

/// The last events of one job or session, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventHistory(Vec<Event>);

/// Maximum number of events that are kept. The first one is always kept, because it shows how the credential began.
const MAX_EVENTS: usize = 32;

impl EventHistory {
    /// Adds an event. If it equals the last one (same kind and text), the last one gets its time and a higher count.
    pub fn add(&mut self, time: u64, kind: EventKind, text: impl Into<String>) {
        let text = text.into();
        if let Some(last) = self.0.last_mut() {
            if last.kind == kind && last.text == text {
                last.time = time;
                last.times = last.times.saturating_add(1);
                return;
            }
        }
        if self.0.len() >= MAX_EVENTS {
            self.0.remove(1);
        }
        self.0.push(Event { time, kind, text, times: 1 });
    }

    /// The events, oldest first.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_keeps_the_first_and_the_last_events() {
        let mut history = EventHistory::default();
        for number in 0..100 {
            history.add(number, EventKind::Renewed, number.to_string());
        }
        let times: Vec<u64> = history.events().iter().map(|event| event.time).collect();
        assert_eq!(times.len(), 32);
        assert_eq!((times[0], times[1], times[31]), (0, 69, 99));
    }

    #[test]
    fn a_repeated_event_is_counted() {
        let mut history = EventHistory::default();
        history.add(1, EventKind::Retry, "the provider is down");
        history.add(9, EventKind::Retry, "the provider is down");
        history.add(10, EventKind::Retry, "the server is down");
        let events: Vec<_> =
            history.events().iter().map(|event| (event.time, event.text.as_str(), event.times)).collect();
        assert_eq!(events, [(9, "the provider is down", 2), (10, "the server is down", 1)]);
    }
}
