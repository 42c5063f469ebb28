// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a broker counts.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{AnswerCounts, ConfigurationState, RequestCounts, UnauthorizedCounts};
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
}

impl Counts {
    /// A request to a mytoken server has this result.
    pub fn answered<T>(&self, result: &Result<T, RequestFailure>) {
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
    fn requests_are_counted_by_their_results_and_connections_while_they_last() {
        let counts = Counts::default();
        counts.answered(&Ok(()));
        counts.answered(&Ok(()));
        counts.answered::<()>(&Err(RequestFailure::permanent("no")));
        counts.answered::<()>(&Err(RequestFailure::temporary("later")));
        counts.answered::<()>(&Err(RequestFailure { unsent: true, ..RequestFailure::temporary("no permit") }));
        assert_eq!(counts.requests(), RequestCounts { granted: 2, failed: 1, refused: 1, unsent: 1 });
        let connected = [counts.connection(), counts.connection()];
        assert_eq!(counts.connected(), 2);
        drop(connected);
        assert_eq!(counts.connected(), 0);
    }
}
