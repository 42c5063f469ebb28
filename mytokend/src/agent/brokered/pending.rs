// SPDX-License-Identifier: MIT OR Apache-2.0
//! New credentials for jobs that wait (`mytokenctl replace`): the host of the submission gives them to the brokers, and a node asks for one
//! if its job has brought only a handle under which no broker keeps anything any more.

use std::cell::Cell;
use std::ops::ControlFlow;

use mytoken::Deadline;
use mytoken_wire::agent::{HandOver, HandedOver, ReplacePending};
use mytoken_wire::printable;

use super::{BrokerMode, failure};
use crate::agent::credential_service::RequestFailure;
use crate::broker::client::ClientError;
use crate::broker::messages::{
    REPLACE_PATH, REPLACED_PATH, ReplaceAnswer, ReplaceRequest, ReplacedAnswer, ReplacedRequest,
};

/// HTTP status: the broker does not know the request.
const NOT_FOUND: u16 = 404;

/// From this HTTP status on, a broker may have done what it was asked for.
const SERVER_ERROR: u16 = 500;

/// Longest reason in characters: one for each broker.
const REASON: usize = 600;

impl BrokerMode {
    /// Gives each broker a new credential for a job that waits.
    pub(super) fn hand_over(&self, uid: u32, pending: &ReplacePending, deadline: Deadline) -> HandedOver {
        let (is_held, mut is_unknown, mut problems) = (Cell::new(false), false, Vec::new());
        let mut take = |answer: Result<ReplaceAnswer, ClientError>| {
            match answer {
                Ok(ReplaceAnswer::Replaced {}) => is_held.set(true),
                Ok(ReplaceAnswer::Refused { reason }) => problems.push(reason),
                Err(ClientError::Refused { broker, status: NOT_FOUND, .. }) => problems.push(format!(
                    "the broker {broker} is of an older release, which cannot replace the credential of a job that waits"
                )),
                Err(error) => {
                    is_unknown |= may_be_done(&error);
                    problems.push(error.to_string());
                }
            }
            ControlFlow::Continue(())
        };
        let ReplacePending { job, sealed, .. } = pending;
        // The first that takes it is asked to revoke it if the job never starts.
        let mut body = || ReplaceRequest { uid, job: *job, sealed: sealed.clone(), follows: !is_held.get() };
        let asked = self.connection.post_each(REPLACE_PATH, deadline, &mut body, &mut take);
        problems.extend(asked.err().map(|error| error.to_string()));
        let outcome = match (is_held.get(), is_unknown) {
            (true, _) => HandOver::Held,
            (false, true) => HandOver::Unknown,
            (false, false) => HandOver::Refused,
        };
        problems.dedup();
        let reason = (!problems.is_empty()).then(|| printable(&problems.join("; "), REASON));
        HandedOver { outcome, reason }
    }

    /// The sealed text that a broker has in place of the one that `job` had when it was submitted. `None`: each of them has none.
    pub(super) fn replaced(&self, uid: u32, job: u32, deadline: Deadline) -> Result<Option<String>, RequestFailure> {
        let (mut found, mut failed) = (None, None);
        let mut take = |answer: Result<ReplacedAnswer, ClientError>| match answer {
            Ok(ReplacedAnswer::Sealed(text)) => {
                found = Some(text);
                ControlFlow::Break(())
            }
            // One of an older release replaces nothing.
            Ok(ReplacedAnswer::Unknown {}) | Err(ClientError::Refused { status: NOT_FOUND, .. }) => {
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Continue(())
            }
        };
        let asked = self.connection.post_each(REPLACED_PATH, deadline, &mut || ReplacedRequest { uid, job }, &mut take);
        asked.map_err(|error| failure(&error))?;
        match (found, failed) {
            (None, Some(error)) => Err(failure(&error)),
            (found, _) => Ok(found),
        }
    }
}

/// Whether a broker may have done what it was asked for, although it has not said so.
fn may_be_done(error: &ClientError) -> bool {
    match error {
        // Behind a proxy that tells an error, the broker may have done it.
        ClientError::Unreachable { .. }
        | ClientError::Answer(_)
        | ClientError::TooLong(_)
        | ClientError::Foreign { .. } => true,
        ClientError::Refused { status, .. } => *status >= SERVER_ERROR,
        ClientError::All(failures) => failures.iter().any(may_be_done),
        ClientError::Settings(_) | ClientError::NotEnrolled(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_has_refused_holds_nothing() {
        let refused = |status| ClientError::Refused {
            broker: "b1".to_owned(),
            status,
            reason: "the request".to_owned(),
            wait: None,
        };
        for (error, expected) in [
            (ClientError::Unreachable { broker: "b1".to_owned(), reason: "timed out".to_owned() }, true),
            (ClientError::Answer("b1".to_owned()), true),
            (ClientError::Foreign { broker: "b1".to_owned(), status: 504 }, true),
            (ClientError::All(vec![refused(403), refused(500)]), true),
            (ClientError::All(vec![refused(403), refused(404)]), false),
            (refused(500), true),
            (refused(403), false),
            (ClientError::NotEnrolled("no certificate".to_owned()), false),
            (ClientError::Settings("no broker is named".to_owned()), false),
        ] {
            assert_eq!(may_be_done(&error), expected, "{error}");
        }
    }
}
