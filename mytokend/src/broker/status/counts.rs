// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a broker counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{AnswerCounts, ConfigurationState, FailingServer, RequestCounts, UnauthorizedCounts};
use crate::agent::credential_service::RequestFailure;
use crate::broker::messages::TokenOutcome;

/// Why somebody has no right to what he asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Reason {
    /// slurmctld does not show the job on the node that asks.
    OtherNode,
    /// The connection has no certificate.
    NoCertificate,
    /// The certificate does not count.
    Certificate,
    /// The node is not enrolled with its key.
    NotEnrolled,
    /// The connection comes from an address that is not one of the node.
    OtherAddress,
}

/// What a broker counts.
#[derive(Debug, Default)]
pub struct Counts {
    connected: AtomicUsize,
    granted: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    unsent: AtomicU64,
    tokens_given: AtomicU64,
    tokens_later: AtomicU64,
    tokens_refused: AtomicU64,
    enrolled: AtomicU64,
    enrolments_refused: AtomicU64,
    other_node: AtomicU64,
    no_certificate: AtomicU64,
    certificate: AtomicU64,
    not_enrolled: AtomicU64,
    other_address: AtomicU64,
    configuration: Mutex<ConfigurationState>,
    /// Servers whose last requests have failed, by URL.
    failing: Mutex<BTreeMap<String, Failing>>,
}

/// A server whose last request is older is not told: what failed is tried again sooner, so nobody needs it any more.
const TOLD: Duration = Duration::from_secs(3600);

/// Requests to a server that have failed, since the last one that was granted.
#[derive(Debug, Default)]
struct Failing {
    count: u64,
    reason: String,
    /// The last one, elapsed time.
    at: Duration,
}

impl Counts {
    /// A request to this mytoken server, a configured one, has this result at `now`, elapsed time.
    pub fn answered<T>(&self, server: &str, result: &Result<T, RequestFailure>, now: Duration) {
        let mut servers = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => drop(servers.remove(server)),
            Err(failure) if failure.temporary && !failure.unsent => {
                let failing = servers.entry(server.to_owned()).or_default();
                (failing.count, failing.at) = (failing.count.saturating_add(1), now);
                failing.reason.clone_from(&failure.reason);
            }
            Err(_) => {}
        }
        drop(servers);
        let count = match result {
            Ok(_) => &self.granted,
            Err(failure) if failure.unsent => &self.unsent,
            Err(failure) if failure.temporary => &self.failed,
            Err(_) => &self.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// A node gets this answer for a job.
    pub(in crate::broker) fn told(&self, outcome: &TokenOutcome) {
        let count = match outcome {
            TokenOutcome::Token { .. } => &self.tokens_given,
            TokenOutcome::Later { .. } => &self.tokens_later,
            TokenOutcome::Refused { .. } => &self.tokens_refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// A node got a certificate, or none.
    pub(in crate::broker) fn enrolment(&self, signed: bool) {
        let count = if signed { &self.enrolled } else { &self.enrolments_refused };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody has no right to what he asks for.
    pub(in crate::broker) fn unauthorized(&self, reason: Reason) {
        let count = match reason {
            Reason::OtherNode => &self.other_node,
            Reason::NoCertificate => &self.no_certificate,
            Reason::Certificate => &self.certificate,
            Reason::NotEnrolled => &self.not_enrolled,
            Reason::OtherAddress => &self.other_address,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// The configuration was read at this time, Unix seconds, or cannot be used for this reason.
    pub(super) fn configured(&self, now: u64, read: Result<(), String>) {
        let mut state = self.configuration.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(()) => *state = ConfigurationState { read: now, trouble: None, refused: None },
            Err(trouble) => (state.trouble, state.refused) = (Some(trouble), Some(now)),
        }
    }

    pub(in crate::broker) fn unauthorized_counts(&self) -> UnauthorizedCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        UnauthorizedCounts {
            other_node: of(&self.other_node),
            no_certificate: of(&self.no_certificate),
            certificate: of(&self.certificate),
            not_enrolled: of(&self.not_enrolled),
            other_address: of(&self.other_address),
        }
    }

    /// The servers whose last requests have failed, at `now`, elapsed time.
    pub(super) fn failing(&self, now: Duration) -> Vec<FailingServer> {
        let mut servers = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|_, failing| now.saturating_sub(failing.at) <= TOLD);
        let told = |(server, failing): (&String, &Failing)| FailingServer {
            server: server.clone(),
            failed: failing.count,
            ago: now.saturating_sub(failing.at).as_secs(),
            reason: failing.reason.clone(),
        };
        servers.iter().map(told).collect()
    }

    pub(super) fn configuration(&self) -> ConfigurationState {
        self.configuration.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn answers(&self) -> AnswerCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        AnswerCounts {
            tokens: of(&self.tokens_given),
            later: of(&self.tokens_later),
            refused: of(&self.tokens_refused),
            enrolled: of(&self.enrolled),
            enrolments_refused: of(&self.enrolments_refused),
        }
    }

    /// Counts a connection until the value is dropped.
    pub fn connection(&self) -> Connected<'_> {
        self.connected.fetch_add(1, Ordering::Relaxed);
        Connected(&self.connected)
    }

    pub(super) fn requests(&self) -> RequestCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RequestCounts {
            granted: of(&self.granted),
            failed: of(&self.failed),
            refused: of(&self.refused),
            unsent: of(&self.unsent),
        }
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub struct Connected<'a>(&'a AtomicUsize);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_that_is_refused_is_told_until_one_is_accepted() {
        let counts = Counts::default();
        let state = || counts.configuration();
        counts.configured(100, Ok(()));
        counts.configured(200, Err("the key is gone".to_owned()));
        let refused = ConfigurationState { read: 100, trouble: Some("the key is gone".to_owned()), refused: Some(200) };
        assert_eq!(state(), refused);
        counts.configured(300, Ok(()));
        assert_eq!(state(), ConfigurationState { read: 300, trouble: None, refused: None });
    }

    #[test]
    fn a_server_is_told_with_its_last_failure_until_it_grants_a_request() {
        let counts = Counts::default();
        let at = Duration::from_secs;
        let fail = |server: &str, reason: &str, second| {
            counts.answered::<()>(server, &Err(RequestFailure::temporary(reason)), at(second));
        };
        fail("m", "away", 100);
        fail("m", "late", 130);
        fail("other", "busy", 140);
        counts.answered("other", &Ok(()), at(141));
        // It has answered, or was not asked: neither says that it is well again.
        counts.answered::<()>("m", &Err(RequestFailure::permanent("no")), at(142));
        let unsent = RequestFailure { unsent: true, ..RequestFailure::temporary("no permit") };
        counts.answered::<()>("m", &Err(unsent), at(143));
        let told = FailingServer { server: "m".to_owned(), failed: 2, ago: 20, reason: "late".to_owned() };
        assert_eq!(counts.failing(at(150)), [told]);
        counts.answered("m", &Ok(()), at(151));
        assert_eq!(counts.failing(at(152)), []);
        fail("gone", "away", 200);
        assert_eq!((counts.failing(at(3_800)).len(), counts.failing(at(3_801)).len()), (1, 0));
    }

    #[test]
    fn requests_are_counted_by_their_results_and_connections_while_they_last() {
        let (counts, at) = (Counts::default(), Duration::ZERO);
        counts.answered("m", &Ok(()), at);
        counts.answered("m", &Ok(()), at);
        counts.answered::<()>("m", &Err(RequestFailure::permanent("no")), at);
        counts.answered::<()>("m", &Err(RequestFailure::temporary("later")), at);
        let no_permit = RequestFailure { unsent: true, ..RequestFailure::temporary("no permit") };
        counts.answered::<()>("m", &Err(no_permit), at);
        assert_eq!(counts.requests(), RequestCounts { granted: 2, failed: 1, refused: 1, unsent: 1 });
        let connected = [counts.connection(), counts.connection()];
        assert_eq!(counts.connected(), 2);
        drop(connected);
        assert_eq!(counts.connected(), 0);
    }
}
