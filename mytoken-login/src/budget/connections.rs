// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections that get no further prompt. The code is pure: times (seconds since boot) are parameters.

use serde::{Deserialize, Serialize};

/// Maximum number of connections that are kept. The oldest is dropped first.
const CONNECTIONS_LIMIT: usize = 256;

/// How long a connection is kept, in seconds; sshd's default `LoginGraceTime` is 120 (SSH-10).
const AGE_LIMIT: u64 = 600;

/// Why a connection gets no further prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// A server did not answer.
    Outage,
    /// There were too many requests.
    TooManyRequests,
}

/// The connections that get no further prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndedConnections(Vec<EndedConnection>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndedConnection {
    at: u64,
    connection: String,
    outage: bool,
}

impl EndedConnection {
    /// Whether the entry is still valid. A time in the future comes from an earlier boot.
    fn is_current(&self, now: u64) -> bool {
        self.at <= now && now - self.at < AGE_LIMIT
    }
}

impl EndedConnections {
    /// Records that `connection` gets no further prompt.
    pub fn add(&mut self, connection: &str, end: ConnectionEnd, now: u64) {
        self.0.retain(|one| one.connection != connection && one.is_current(now));
        if self.0.len() >= CONNECTIONS_LIMIT {
            self.0.remove(0);
        }
        let outage = end == ConnectionEnd::Outage;
        self.0.push(EndedConnection { at: now, connection: connection.to_owned(), outage });
    }

    /// Why `connection` gets no further prompt; `None` if it may get one.
    #[must_use]
    pub fn end_of(&self, connection: &str, now: u64) -> Option<ConnectionEnd> {
        let ended = self.0.iter().find(|one| one.connection == connection && one.is_current(now))?;
        Some(if ended.outage { ConnectionEnd::Outage } else { ConnectionEnd::TooManyRequests })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_connection_is_remembered_for_a_while_and_the_list_is_bounded() {
        use ConnectionEnd::{Outage, TooManyRequests};
        let mut connections = EndedConnections::default();
        connections.add("a 1", Outage, 100);
        connections.add("b 2", TooManyRequests, 100);
        let ends = |now| (connections.end_of("a 1", now), connections.end_of("b 2", now));
        assert_eq!(ends(101), (Some(Outage), Some(TooManyRequests)));
        assert_eq!(ends(700), (None, None), "too old");
        assert_eq!(ends(50), (None, None), "an earlier boot");
        assert_eq!(connections.end_of("c 3", 101), None);
        for number in 0..1_000 {
            connections.add(&format!("d {number}"), Outage, 102);
        }
        assert_eq!((connections.0.len(), connections.end_of("d 999", 102)), (CONNECTIONS_LIMIT, Some(Outage)));
    }
}
