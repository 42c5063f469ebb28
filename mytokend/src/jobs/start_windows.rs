// SPDX-License-Identifier: MIT OR Apache-2.0
//! Windows that count from the start of a job. A sub-token is made at submission, when nobody knows that start, so the mytoken server cannot
//! keep them: the agent of each node does.

use mytoken::time_format::utc_minute;
use serde::{Deserialize, Serialize};

use super::profile::WindowSettings;

/// Most windows of a profile, and of a credential.
pub const MOST: usize = 8;

/// A time in which a job gets access tokens, in seconds after its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartWindow {
    /// Begin.
    #[serde(default)]
    pub from: u64,
    /// End.
    pub until: u64,
}

impl From<&WindowSettings> for StartWindow {
    fn from(window: &WindowSettings) -> Self {
        Self { from: window.from.as_secs(), until: window.until.as_secs() }
    }
}

/// What the windows mean for a job at present. Times are Unix milliseconds of the agent's plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobWindow {
    /// The profile has no such windows.
    #[default]
    Always,
    /// slurmctld is asked when the job began.
    Asking,
    /// The job gets access tokens.
    Open {
        /// Until this time.
        until: u64,
    },
    /// The job gets no access tokens.
    Closed {
        /// Until this time.
        from: u64,
    },
    /// The last window has ended.
    Over,
}

impl JobWindow {
    /// Whether the job gets access tokens.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Always | Self::Open { .. })
    }

    pub(crate) fn is_always(&self) -> bool {
        *self == Self::Always
    }

    /// When it has to be looked at again.
    #[must_use]
    pub const fn next(self) -> Option<u64> {
        match self {
            Self::Open { until: next } | Self::Closed { from: next } => Some(next),
            Self::Always | Self::Asking | Self::Over => None,
        }
    }

    /// Begin of the next window, Unix seconds.
    #[must_use]
    pub const fn from(self) -> Option<u64> {
        if let Self::Closed { from } = self { Some(from / 1000) } else { None }
    }

    /// Why the job gets no access token now: a sentence.
    #[must_use]
    pub fn reason(self) -> Option<String> {
        match self {
            Self::Always | Self::Open { .. } => None,
            Self::Asking => {
                Some("slurmctld has not told yet when the job began; its profile has start_windows".to_owned())
            }
            Self::Closed { from } => Some(format!(
                "the start_windows of its profile give this job access tokens from {} on",
                utc_minute(from / 1000)
            )),
            Self::Over => Some("the last of the start_windows of its profile has ended".to_owned()),
        }
    }

    /// Moved, because the time of day was set.
    #[must_use]
    pub fn moved(self, later: impl Fn(u64) -> u64) -> Self {
        match self {
            Self::Open { until } => Self::Open { until: later(until) },
            Self::Closed { from } => Self::Closed { from: later(from) },
            same => same,
        }
    }
}

/// What `windows` mean at `now` for a job that began at `begun`, both Unix milliseconds.
#[must_use]
pub fn at(windows: &[StartWindow], begun: u64, now: u64) -> JobWindow {
    if windows.is_empty() {
        return JobWindow::Always;
    }
    let time = |seconds: u64| begun.saturating_add(seconds.saturating_mul(1000));
    let now = now.max(begun);
    // One that begins when another one ends continues it.
    let mut end = now;
    while let Some(later) = windows.iter().filter(|window| time(window.from) <= end).map(|w| time(w.until)).max() {
        if later <= end {
            break;
        }
        end = later;
    }
    if end > now {
        return JobWindow::Open { until: end };
    }
    let next = windows.iter().filter(|window| window.from < window.until).map(|window| time(window.from));
    next.filter(|from| *from > now).min().map_or(JobWindow::Over, |from| JobWindow::Closed { from })
}

/// The windows of a profile for a person. `None`: there are none.
#[must_use]
pub fn described(windows: &[WindowSettings]) -> Option<String> {
    let each: Vec<String> = windows.iter().map(|window| format!("from {} to {}", window.from, window.until)).collect();
    (!each.is_empty()).then(|| {
        format!(
            "access tokens only {} after the start of a job; its nodes keep this, not the mytoken server",
            each.join(" and ")
        )
    })
}

/// Checks the windows of a credential.
///
/// # Errors
/// The predicate of a sentence.
pub fn check(windows: &[StartWindow]) -> Result<(), &'static str> {
    if windows.len() > MOST {
        return Err("are too many");
    }
    if windows.iter().any(|window| window.from >= window.until) { Err("end before they begin") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;

    fn window(from: u64, until: u64) -> StartWindow {
        StartWindow { from: from * 3_600, until: until * 3_600 }
    }

    #[test]
    fn windows_count_from_the_start_of_the_job() {
        use JobWindow::{Always, Closed, Open, Over};
        let begun = 100 * HOUR;
        let hour = |hour: u64| begun + hour * HOUR;
        let both = [window(0, 1), window(23, 24)];
        for (windows, now, expected) in [
            (&both[..], begun, Open { until: hour(1) }),
            (&both, hour(1) - 1, Open { until: hour(1) }),
            (&both, hour(1), Closed { from: hour(23) }),
            (&both, hour(23) - 1, Closed { from: hour(23) }),
            (&both, hour(23), Open { until: hour(24) }),
            (&both, hour(24), Over),
            // A clock that was measured a second too late.
            (&both, begun - 1_000, Open { until: hour(1) }),
            (&[window(2, 3)], begun, Closed { from: hour(2) }),
            // Windows that touch or overlap are one.
            (&[window(1, 2), window(0, 1), window(2, 4), window(3, 5), window(7, 8)], begun, Open { until: hour(5) }),
            (&[window(0, 9), window(1, 2)], hour(3), Open { until: hour(9) }),
            (&[], begun, Always),
            (&[StartWindow { from: 0, until: u64::MAX }], begun, Open { until: u64::MAX }),
        ] {
            assert_eq!(at(windows, begun, now), expected, "{windows:?} {now}");
        }
    }

    #[test]
    fn a_person_is_told_why_and_until_when() {
        for (state, part) in [
            (JobWindow::Closed { from: 1_795_734_560_000 }, "from 2026-11-26 23:09 UTC on"),
            (JobWindow::Over, "has ended"),
            (JobWindow::Asking, "when the job began"),
        ] {
            let reason = state.reason().unwrap();
            assert!(reason.contains(part) && reason.contains("start_windows") && !state.is_open(), "{reason}");
        }
        assert_eq!((JobWindow::Always.reason(), JobWindow::Open { until: 1 }.reason()), (None, None));
    }

    #[test]
    fn windows_that_cannot_be_are_refused() {
        assert_eq!(check(&[window(0, 1); MOST]), Ok(()));
        assert!(check(&[window(0, 1); MOST + 1]).is_err() && check(&[window(1, 1)]).is_err());
        assert_eq!(serde_json::from_str::<StartWindow>("{\"until\":5}").unwrap(), StartWindow { from: 0, until: 5 });
    }

    proptest! {
        #[test]
        fn the_state_is_that_of_the_windows_until_it_says_so(
            windows in proptest::collection::vec((0_u64..40, 0_u64..40), 1..6), begun in 0_u64..100_000, now in 0_u64..150_000
        ) {
            let windows: Vec<StartWindow> = windows.into_iter().map(|(from, until)| StartWindow { from, until }).collect();
            let open = |time: u64| {
                let age = time.saturating_sub(begun);
                windows.iter().any(|window| window.from * 1000 <= age && age < window.until * 1000)
            };
            let state = at(&windows, begun, now);
            prop_assert_eq!(state.is_open(), open(now));
            let last = begun.max(now) + 50_000;
            let next = state.next().unwrap_or(last);
            prop_assert!(next > now);
            for time in (now..next).step_by(500).chain([next - 1]) {
                prop_assert_eq!(open(time), state.is_open());
                prop_assert_eq!(at(&windows, begun, time), state);
            }
            prop_assert!(state.next().is_none() || open(next) != state.is_open());
        }
    }
}
