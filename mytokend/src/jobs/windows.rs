// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a credential gives access tokens: not yet, now, or never again. A mytoken may have several clauses with gaps between them.

use mytoken::restrictions::Clause;
use serde::{Deserialize, Serialize};

use super::renewal::{share, unit};

/// A time in which one clause gives access tokens, Unix seconds. An absent end is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// End, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
}

/// Whether a credential is valid at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Now.
    Now,
    /// Not now, but from this time on, Unix seconds.
    From(
        /// Begin of the next window.
        u64,
    ),
    /// Never again.
    Over,
}

/// The windows of the clauses that give access tokens with this scope and audience. None for a mytoken without clauses.
#[must_use]
pub fn of_clauses(clauses: &[Clause], scope: &str, audience: &str) -> Vec<Window> {
    let serves = |clause: &&Clause| {
        let allowed = |scope: &str| clause.scope.split_ascii_whitespace().any(|own| own == scope);
        let scopes = clause.scope.is_empty() || scope.split_ascii_whitespace().all(allowed);
        let audiences =
            clause.audience.is_empty() || audience.is_empty() || clause.audience.iter().any(|own| own == audience);
        scopes && audiences && clause.usages_at != Some(0)
    };
    clauses.iter().filter(serves).map(|clause| Window { nbf: clause.nbf, exp: clause.exp }).collect()
}

/// Whether a clause limits the number of access tokens.
#[must_use]
pub fn uses_are_limited(clauses: &[Clause]) -> bool {
    clauses.iter().any(|clause| clause.usages_at.is_some_and(|uses| uses > 0))
}

/// Whether one of `windows` is open at `now`, Unix seconds. Without windows a credential is always valid.
#[must_use]
pub fn validity(windows: &[Window], now: u64) -> Validity {
    let begun = |window: &&Window| window.nbf.is_none_or(|nbf| nbf <= now);
    let ended = |window: &&Window| window.exp.is_some_and(|exp| exp < now);
    if windows.is_empty() || windows.iter().any(|window| begun(&window) && !ended(&window)) {
        return Validity::Now;
    }
    next_begin(windows, now).map_or(Validity::Over, Validity::From)
}

/// Whether a window is open that began at most `seconds` before `now`, Unix seconds.
#[must_use]
pub fn begun_since(windows: &[Window], now: u64, seconds: u64) -> bool {
    let young = |window: &Window| {
        window.nbf.is_some_and(|nbf| nbf <= now && now - nbf <= seconds) && window.exp.is_none_or(|exp| exp >= now)
    };
    windows.iter().any(young)
}

/// The begin of the next window after `now`, Unix seconds.
#[must_use]
pub fn next_begin(windows: &[Window], now: u64) -> Option<u64> {
    let later = windows.iter().filter(|window| window.exp.is_none_or(|exp| Some(exp) >= window.nbf));
    later.filter_map(|window| window.nbf.filter(|nbf| *nbf > now)).min()
}

/// The time after the begin of a window in which the nodes send their first requests, in milliseconds. A job gets its token within
/// seconds.
pub const SPREAD: u64 = 5_000;

/// When a node sends its first request in the window that begins at `begin` (Unix seconds), Unix milliseconds: at least a second later,
/// because the server compares with whole seconds, and at most [`SPREAD`] after that, or a tenth of a short window. `draw` is a random
/// number of [0, 1): all nodes of a job wait for the same second.
#[must_use]
pub fn first_request(windows: &[Window], begin: u64, draw: f64) -> u64 {
    let ends = windows.iter().filter(|window| window.nbf == Some(begin)).map(|window| window.exp.unwrap_or(u64::MAX));
    let length = ends.max().unwrap_or(u64::MAX).saturating_sub(begin);
    let spread = length.saturating_mul(100).min(SPREAD);
    earliest_request(begin).saturating_add(share(spread, unit(draw)))
}

/// The earliest request in the window that begins at `begin` (Unix seconds), Unix milliseconds.
#[must_use]
pub fn earliest_request(begin: u64) -> u64 {
    begin.saturating_add(1).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(nbf: Option<u64>, exp: Option<u64>) -> Window {
        Window { nbf, exp }
    }

    #[test]
    fn between_two_windows_the_credential_is_not_valid_yet() {
        // Stage-in in the first hour, stage-out from hour 24 to 36.
        let both = [window(None, Some(3_600)), window(Some(86_400), Some(129_600))];
        for (now, expected) in [
            (0, Validity::Now),
            (3_600, Validity::Now),
            (3_601, Validity::From(86_400)),
            (86_399, Validity::From(86_400)),
            (86_400, Validity::Now),
            (129_600, Validity::Now),
            (129_601, Validity::Over),
        ] {
            assert_eq!(validity(&both, now), expected, "{now}");
        }
        for (now, expected) in [(0, false), (86_399, false), (86_400, true), (86_460, true), (86_461, false)] {
            assert_eq!(begun_since(&both, now, 60), expected, "{now}");
        }
        assert_eq!(validity(&[], 5), Validity::Now);
        assert_eq!(validity(&[window(None, None)], 5), Validity::Now);
        assert_eq!(validity(&[window(Some(9), Some(7))], 5), Validity::Over, "never open");
    }

    #[test]
    fn the_first_requests_of_a_window_are_spread_over_some_seconds() {
        let day = [window(None, Some(50)), window(Some(100), Some(86_400)), window(Some(200), None)];
        for (windows, begin, draw, expected) in [
            (&day[..], 100, 0.0, 101_000),
            (&day, 100, 0.5, 103_500),
            (&day, 100, 1.0, 106_000),
            (&day, 200, 1.0, 206_000),
            // A short window: of two clauses that begin together, the longer one counts.
            (&[window(Some(100), Some(110))], 100, 1.0, 102_000),
            (&[window(Some(100), Some(110)), window(Some(100), Some(130))], 100, 1.0, 104_000),
            (&[window(Some(100), Some(100))], 100, 1.0, 101_000),
            (&[], 100, f64::NAN, 103_500),
        ] {
            assert_eq!(first_request(windows, begin, draw), expected, "{windows:?} {draw}");
        }
        assert_eq!(first_request(&[window(Some(u64::MAX), None)], u64::MAX, 1.0), u64::MAX);
    }

    #[test]
    fn only_clauses_that_serve_the_request_count() {
        let clauses: Vec<Clause> = serde_json::from_str(
            r#"[{"exp":10,"scope":"a b"},{"exp":20,"scope":"a"},{"exp":30,"audience":["x"]},{"exp":40,"usages_AT":0},{"nbf":50}]"#,
        )
        .unwrap();
        let ends =
            |scope, audience| -> Vec<_> { of_clauses(&clauses, scope, audience).iter().map(|w| w.exp).collect() };
        assert_eq!(ends("b a", "y"), [Some(10), None]);
        assert_eq!(ends("a", "x"), [Some(10), Some(20), Some(30), None]);
        assert_eq!(ends("c", ""), [Some(30), None]);
    }

    proptest! {
        #[test]
        fn at_the_begin_of_the_next_window_the_credential_is_valid(
            windows in proptest::collection::vec((any::<Option<u8>>(), any::<Option<u8>>()), 1..5), now in 0_u64..256
        ) {
            let windows: Vec<Window> =
                windows.into_iter().map(|(nbf, exp)| window(nbf.map(u64::from), exp.map(u64::from))).collect();
            match validity(&windows, now) {
                Validity::From(later) => {
                    prop_assert!(later > now);
                    prop_assert_eq!(validity(&windows, later), Validity::Now);
                    prop_assert!((now..later).all(|time| validity(&windows, time) == Validity::From(later)));
                }
                Validity::Over => prop_assert!((now..300).all(|time| validity(&windows, time) == Validity::Over)),
                Validity::Now => {}
            }
        }
    }
}
