// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a node gets no certificate, and when it tries again. All nodes of a cluster may start at once, behind one address: each draws its own
//! pause, and pauses get longer, so that what comes at a time becomes what a broker can serve.

use std::time::Duration;

use crate::broker::identity::enrol_client::EnrolClientError;

/// Why the node gets no certificate.
pub(super) struct NoCertificate {
    /// A sentence.
    pub(super) reason: String,
    /// How long a broker wants it to wait.
    pub(super) wait: Option<Duration>,
}

impl From<String> for NoCertificate {
    fn from(reason: String) -> Self {
        Self { reason, wait: None }
    }
}

impl From<EnrolClientError> for NoCertificate {
    fn from(error: EnrolClientError) -> Self {
        Self { reason: error.to_string(), wait: error.wait() }
    }
}

/// The longest pause after the first failure.
const FIRST: Duration = Duration::from_secs(5);

/// The longest one.
const LONGEST: Duration = Duration::from_secs(300);

/// The longest one after a broker has told how long to wait: it serves this node when it has served others.
const LONGEST_OF_MANY: Duration = Duration::from_secs(60);

/// The pause after a failure that had `failures` others before it in a row. `wait` is how long a broker wants the node to wait, `draw` is
/// random in [0, 1).
pub(super) fn pause(failures: u32, wait: Option<Duration>, draw: f64) -> Duration {
    let most = if wait.is_some() { LONGEST_OF_MANY } else { LONGEST };
    let longest = FIRST.saturating_mul(1 << failures.min(6)).min(most);
    let own = longest.mul_f64(0.5 + draw / 2.0);
    // Those that were told the same time do not come back at once.
    let told = wait.unwrap_or_default().min(LONGEST).saturating_add(longest.mul_f64(draw / 2.0));
    own.max(told)
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::*;
    use crate::broker::identity::attempts::{Attempt, Attempts};
    use crate::broker::strangers::{Served, Stranger, Strangers};

    #[test]
    fn pauses_grow_are_drawn_and_are_never_shorter_than_a_broker_says() {
        let seconds =
            |failures, wait: Option<u64>, draw| pause(failures, wait.map(Duration::from_secs), draw).as_secs_f64();
        for (failures, wait, draw, expected) in [
            (0, None, 0.0, 2.5),
            (0, None, 0.5, 3.75),
            (3, None, 0.0, 20.0),
            (6, None, 0.0, 150.0),
            (60, None, 0.0, 150.0),
            (0, Some(1), 0.0, 2.5),
            (0, Some(6), 0.0, 6.0),
            (0, Some(6), 0.5, 7.25),
            (9, Some(1), 0.0, 30.0),
            (0, Some(100_000), 0.0, 300.0),
        ] {
            let found = seconds(failures, wait, draw);
            assert!((found - expected).abs() < 1e-6, "{failures} {wait:?} {draw}: {found}");
        }
    }

    /// What a node does at a broker.
    enum Doing {
        Handshake(Stranger),
        Enrolment { _place: (Stranger, Served), attempt: Attempt },
    }

    /// When all of so many nodes behind one address are enrolled, if all start within a second, and each handshake and each enrolment takes
    /// 20 ms.
    fn all_enrolled(nodes: usize, pause: impl Fn(u32, Option<Duration>, f64) -> Duration) -> Option<Duration> {
        const STEP: Duration = Duration::from_millis(20);
        let (attempts, strangers) = (Attempts::default(), Arc::new(Strangers::default()));
        let address = IpAddr::from([192, 0, 2, 1]);
        let mut seed = 1_u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(seed >> 40).unwrap()
        };
        let part = |random: u32| f64::from(random) / f64::from(1_u32 << 24);
        let mut doing: Vec<Option<Doing>> = (0..nodes).map(|_| None).collect();
        let mut failures = vec![0; nodes];
        let mut events: BinaryHeap<Reverse<(Duration, usize)>> =
            (0..nodes).map(|node| Reverse((Duration::from_secs(1).mul_f64(part(random())), node))).collect();
        let mut last = Duration::ZERO;
        while let Some(Reverse((now, node))) = events.pop() {
            if now > Duration::from_secs(3600) {
                return None;
            }
            // How long the broker wants it to wait. `None`: it has heard nothing.
            let wait = match doing[node].take() {
                None => match strangers.admit(address, now, random()).unwrap().0 {
                    Some(stranger) => {
                        doing[node] = Some(Doing::Handshake(stranger));
                        events.push(Reverse((now + STEP, node)));
                        continue;
                    }
                    None => None,
                },
                Some(Doing::Handshake(stranger)) if !stranger.has_place() => None,
                Some(Doing::Handshake(stranger)) => match attempts.begin(address, now) {
                    Ok(attempt) => {
                        let served = stranger.serve();
                        doing[node] = Some(Doing::Enrolment { _place: (stranger, served), attempt });
                        events.push(Reverse((now + STEP, node)));
                        continue;
                    }
                    Err(refused) => Some(refused.after),
                },
                Some(Doing::Enrolment { attempt, .. }) => {
                    attempt.succeeded();
                    last = now;
                    continue;
                }
            };
            events.push(Reverse((now + pause(failures[node], wait, part(random())), node)));
            failures[node] += 1;
        }
        Some(last)
    }

    #[test]
    fn all_nodes_of_a_cluster_behind_one_address_enrol_within_minutes() {
        let enrolled = all_enrolled(10_000, pause).unwrap();
        assert!(enrolled < Duration::from_secs(240), "{enrolled:?}");
        // What a broker tells shortens it: without that, the last ones come much later.
        let alone = all_enrolled(10_000, |failures, _, draw| pause(failures, None, draw)).unwrap();
        assert!(alone > enrolled, "{alone:?} {enrolled:?}");
    }
}
