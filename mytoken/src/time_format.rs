// SPDX-License-Identifier: MIT OR Apache-2.0
//! Formats times and durations for people.

use std::time::Duration;

use time::{OffsetDateTime, UtcOffset};

/// Formats Unix seconds for a reader who knows the day and the time zone.
#[derive(Debug, Clone, Copy)]
pub struct TimeFormat {
    now: u64,
    /// `None`: unknown. Times are then shown in UTC, with "UTC" after them.
    zone: Option<UtcOffset>,
}

impl TimeFormat {
    /// Uses the local time zone at `now`. The zone can be read only while the process has a single thread.
    #[must_use]
    pub fn local(now: u64) -> Self {
        let zone = date_time(now, UtcOffset::UTC).and_then(|now| UtcOffset::local_offset_at(now).ok());
        Self { now, zone }
    }

    /// Uses UTC.
    #[must_use]
    pub fn utc(now: u64) -> Self {
        Self { now, zone: Some(UtcOffset::UTC) }
    }

    /// A time with seconds: `20:14:02`, with the day as in [`Self::minutes`].
    #[must_use]
    pub fn seconds(&self, at: u64) -> String {
        self.format(at, true)
    }

    /// A time without seconds: `18:00` today, `Sun 18:00` within a week, else `2026-11-29 18:00`.
    #[must_use]
    pub fn minutes(&self, at: u64) -> String {
        self.format(at, false)
    }

    /// The time since `at`: `12 s ago`, `3 min ago`, `5 h ago`, `2 days ago`.
    #[must_use]
    pub fn ago(&self, at: u64) -> String {
        match self.now.saturating_sub(at) {
            0 => "just now".to_owned(),
            seconds if seconds < 7_200 => format!("{} ago", short(seconds)),
            seconds if seconds < 172_800 => format!("{} h ago", seconds / 3_600),
            seconds => format!("{} days ago", seconds / 86_400),
        }
    }

    fn format(&self, at: u64, seconds: bool) -> String {
        let zone = self.zone.unwrap_or(UtcOffset::UTC);
        let (Some(at), Some(now)) = (date_time(at, zone), date_time(self.now, zone)) else { return "?".to_owned() };
        let mut time = format!("{:02}:{:02}", at.hour(), at.minute());
        if seconds {
            time = format!("{time}:{:02}", at.second());
        }
        if self.zone.is_none() {
            time.push_str(" UTC");
        }
        let weekday: String = at.weekday().to_string().chars().take(3).collect();
        match (at.date() - now.date()).whole_days() {
            0 => time,
            -6..=6 => format!("{weekday} {time}"),
            _ => format!("{:04}-{:02}-{:02} {time}", at.year(), u8::from(at.month()), at.day()),
        }
    }
}

/// A time for a reader whose time zone is unknown, without seconds: `2026-11-29 18:00 UTC`.
#[must_use]
pub fn utc_minute(at: u64) -> String {
    let Some(at) = date_time(at, UtcOffset::UTC) else { return "?".to_owned() };
    let (hour, minute) = (at.hour(), at.minute());
    format!("{:04}-{:02}-{:02} {hour:02}:{minute:02} UTC", at.year(), u8::from(at.month()), at.day())
}

fn date_time(at: u64, zone: UtcOffset) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(at).ok()?).ok()?.checked_to_offset(zone)
}

/// Seconds if below two minutes, else whole minutes: `119 s`, `2 min`.
#[must_use]
pub fn short(seconds: u64) -> String {
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

/// A duration in the largest unit that gives at least 2: `30 days`, `90 minutes`. It is rounded; days are rounded up only within the last
/// half hour, because a mytoken that was requested for 30 days is a few seconds old when it is shown.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let (unit, name) = [(86_400, "day"), (3_600, "hour"), (60, "minute")]
        .into_iter()
        .find(|(unit, _)| seconds.saturating_add(30) / unit >= 2)
        .unwrap_or((1, "second"));
    let count = seconds.saturating_add((unit / 2).min(1_800)) / unit;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// `valid 30 days`, `valid 5 hours`, `expired`, `does not expire`.
#[must_use]
pub fn validity(expires_at: Option<u64>, now: u64) -> String {
    match expires_at.map(|exp| exp.checked_sub(now)) {
        None => "does not expire".to_owned(),
        Some(None | Some(0)) => "expired".to_owned(),
        Some(Some(left)) => format!("valid {}", duration(left)),
    }
}

/// Minutes and seconds: `4:52`.
#[must_use]
pub fn countdown(left: Duration) -> String {
    format!("{}:{:02}", left.as_secs() / 60, left.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_shown_if_it_is_not_today() {
        // 2026-11-21 22:40:00 UTC, a Saturday.
        let now = 1_795_300_800;
        let format = TimeFormat::utc(now);
        for (at, text) in [
            (now, "22:40"),
            (now + 3_600, "23:40"),
            (now + 7_200, "Sun 00:40"),
            (now - 86_400, "Fri 22:40"),
            (now + 8 * 86_400, "2026-11-29 22:40"),
        ] {
            assert_eq!(format.minutes(at), text);
        }
        assert_eq!(format.seconds(now + 2), "22:40:02");
        assert_eq!(format.minutes(u64::MAX), "?");
        assert_eq!(TimeFormat { now, zone: None }.minutes(now), "22:40 UTC");
    }

    #[test]
    fn the_time_since_an_event_has_one_unit() {
        let format = TimeFormat::utc(1_000_000);
        for (ago, text) in [
            (0, "just now"),
            (59, "59 s ago"),
            (119, "119 s ago"),
            (180, "3 min ago"),
            (18_000, "5 h ago"),
            (200_000, "2 days ago"),
        ] {
            assert_eq!(format.ago(1_000_000 - ago), text);
        }
    }

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
