// SPDX-License-Identifier: MIT OR Apache-2.0
//! Durations as people read them.

use std::time::Duration;

/// Seconds in the largest unit that gives at least 2: `30 days`, `90 minutes`. Rounded, with days rounded up only in
/// their last half hour: a mytoken that was requested for 30 days is a few seconds old when it is shown.
pub fn duration(seconds: u64) -> String {
    let (unit, name) = [(86_400, "day"), (3_600, "hour"), (60, "minute")]
        .into_iter()
        .find(|(unit, _)| seconds.saturating_add(30) / unit >= 2)
        .unwrap_or((1, "second"));
    let count = seconds.saturating_add((unit / 2).min(1_800)) / unit;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// `valid 30 days`, `valid 5 hours`, `expired`, `does not expire`.
pub fn validity(expires_at: Option<u64>, now: u64) -> String {
    match expires_at.map(|exp| exp.checked_sub(now)) {
        None => "does not expire".into(),
        Some(None | Some(0)) => "expired".into(),
        Some(Some(left)) => format!("valid {}", duration(left)),
    }
}

/// Minutes and seconds: `4:52`.
pub fn countdown(left: Duration) -> String {
    format!("{}:{:02}", left.as_secs() / 60, left.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_the_largest_unit_that_gives_at_least_two() {
        let table = [
            (2_592_000, "30 days"),
            (2_591_995, "30 days"),
            (86_400, "24 hours"),
            (86_395, "24 hours"),
            (7_200, "2 hours"),
            (5_400, "90 minutes"),
            (300, "5 minutes"),
            (61, "61 seconds"),
            (1, "1 second"),
            (u64::MAX, "213503982334601 days"),
        ];
        for (seconds, expected) in table {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn validity_is_relative_to_now() {
        assert_eq!(validity(Some(5), 5), "expired");
        assert_eq!(validity(Some(4), 5), "expired");
        assert_eq!(validity(Some(305), 5), "valid 5 minutes");
        assert_eq!(validity(None, 5), "does not expire");
        assert_eq!(validity(Some(u64::MAX), 1_000_000), "valid 213503982334589 days");
    }

    #[test]
    fn a_countdown_is_minutes_and_seconds() {
        assert_eq!(countdown(Duration::from_secs(292)), "4:52");
        assert_eq!(countdown(Duration::from_secs(9)), "0:09");
    }
}
