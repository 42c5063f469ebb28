// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides what `mytokenctl status` says about an access token: from what is on disk, and from what the server last said.

use mytoken_wire::agent::{Condition, Event, EventKind};

use super::lease::Phase;
use crate::jobs::JobWindow;

/// What is known of the access token of one job, or of a session.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Whether it is that of a session.
    pub is_session: bool,
    /// Whether the job or session runs here.
    pub running: bool,
    /// The state of its lease.
    pub phase: Phase,
    /// Whether the agent has written a token to the file, and has not removed it.
    pub written: bool,
    /// Whether the file holds a token that has not expired.
    pub on_disk: bool,
    /// Begin of the next window, while the agent waits for it.
    pub waits_until: Option<u64>,
    /// The windows that count from the job's start.
    pub window: JobWindow,
    /// Since when each request for a token fails.
    pub failing_since: Option<u64>,
    /// What happened so far.
    pub events: &'a [Event],
}

/// The condition, and since when, Unix seconds.
#[must_use]
pub fn condition(facts: &Facts<'_>) -> (Condition, Option<u64>) {
    let last = |kind: &EventKind| facts.events.iter().rev().find(|event| event.kind == *kind).map(|event| event.time);
    let revoked = last(&EventKind::Revoked);
    if !facts.running {
        // A requeued job may have had a credential that was revoked.
        let place = |kind: &EventKind| facts.events.iter().rposition(|event| event.kind == *kind);
        let is_revoked =
            place(&EventKind::Revoked).is_some_and(|at| place(&EventKind::Opened).is_none_or(|opened| opened < at));
        return if is_revoked { (Condition::Revoked, revoked) } else { (Condition::Ended, None) };
    }
    let refused = last(&EventKind::Refused);
    match facts.phase {
        // The job runs, and its credential was given back.
        Phase::Ended { .. } => (Condition::Revoking, None),
        Phase::Finished { .. } if revoked.is_some() => (Condition::Revoked, revoked),
        Phase::Finished { .. } => (Condition::Refused, refused),
        // Of a job, the event may be missing: only the last ones are kept.
        Phase::Refused if facts.is_session && refused.is_none() && facts.on_disk => (Condition::NotRenewed, None),
        Phase::Refused => (Condition::Refused, refused),
        Phase::Active { .. } if facts.window == JobWindow::Over => (Condition::Refused, None),
        Phase::Active { .. } if facts.written && !facts.on_disk => (Condition::FileMissing, None),
        Phase::Active { .. } if facts.waits_until.is_some() => (Condition::Waiting, None),
        Phase::Active { .. } if facts.failing_since.is_some() => (Condition::Outage, facts.failing_since),
        Phase::Active { .. } if facts.on_disk => (Condition::Valid, None),
        Phase::Active { .. } => (Condition::Pending, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: u64, kind: EventKind) -> Event {
        Event { time, kind, text: String::new(), times: 1 }
    }

    #[test]
    fn each_state_has_its_condition() {
        let active = Phase::Active { due: 0 };
        let ended = Phase::Ended { due: 0, tries: 0, revoke: None };
        let finished = Phase::Finished { due: 0 };
        let valid = Facts {
            is_session: false,
            running: true,
            phase: active,
            written: true,
            on_disk: true,
            waits_until: None,
            window: JobWindow::Always,
            failing_since: None,
            events: &[],
        };
        let refused = [event(1, EventKind::Refused)];
        let revoked = [event(2, EventKind::Removed), event(3, EventKind::Revoked)];
        let earlier = [event(3, EventKind::Revoked), event(4, EventKind::Removed)];
        let requeued = [event(3, EventKind::Revoked), event(4, EventKind::Opened), event(5, EventKind::Removed)];
        let left = [event(2, EventKind::Removed), event(3, EventKind::Left)];
        let without = Facts { written: false, on_disk: false, ..valid };
        for (facts, expected) in [
            (valid, (Condition::Valid, None)),
            (without, (Condition::Pending, None)),
            (Facts { on_disk: false, ..valid }, (Condition::FileMissing, None)),
            (Facts { on_disk: false, failing_since: Some(7), ..valid }, (Condition::FileMissing, None)),
            (Facts { failing_since: Some(7), ..valid }, (Condition::Outage, Some(7))),
            (Facts { failing_since: Some(7), ..without }, (Condition::Outage, Some(7))),
            (Facts { waits_until: Some(9), ..valid }, (Condition::Waiting, None)),
            (Facts { waits_until: Some(9), ..without }, (Condition::Waiting, None)),
            (Facts { window: JobWindow::Over, waits_until: Some(9), ..without }, (Condition::Refused, None)),
            // The file of the user alone does not make a token.
            (Facts { written: false, phase: Phase::Refused, events: &refused, ..valid }, (Condition::Refused, Some(1))),
            (Facts { phase: Phase::Refused, events: &refused, ..valid }, (Condition::Refused, Some(1))),
            (Facts { is_session: true, phase: Phase::Refused, ..valid }, (Condition::NotRenewed, None)),
            (
                Facts { is_session: true, phase: Phase::Refused, events: &refused, ..valid },
                (Condition::Refused, Some(1)),
            ),
            (Facts { phase: Phase::Refused, ..valid }, (Condition::Refused, None)),
            (Facts { phase: Phase::Refused, ..without }, (Condition::Refused, None)),
            (Facts { phase: ended, ..without }, (Condition::Revoking, None)),
            (Facts { phase: finished, events: &left, ..without }, (Condition::Refused, None)),
            (Facts { phase: finished, events: &revoked, ..without }, (Condition::Revoked, Some(3))),
            (Facts { running: false, phase: ended, ..without }, (Condition::Ended, None)),
            (Facts { running: false, phase: finished, events: &left, ..without }, (Condition::Ended, None)),
            (Facts { running: false, phase: finished, events: &revoked, ..without }, (Condition::Revoked, Some(3))),
            (Facts { running: false, phase: finished, events: &earlier, ..without }, (Condition::Revoked, Some(3))),
            (Facts { running: false, phase: finished, events: &requeued, ..without }, (Condition::Ended, None)),
        ] {
            assert_eq!(condition(&facts), expected, "{facts:?}");
        }
    }
}
