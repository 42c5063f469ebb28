// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times as people read them.

use time::{OffsetDateTime, UtcOffset};

/// Shows Unix seconds relative to a day and zone.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    now: u64,
    zone: Option<UtcOffset>,
}

impl Moments {
    /// In the local zone at `now`. The zone can be found out only while the process has one thread; without it times are UTC and say so.
    #[must_use]
    pub fn local(now: u64) -> Self {
        let zone = moment(now, UtcOffset::UTC).and_then(|now| UtcOffset::local_offset_at(now).ok());
        Self { now, zone }
    }

    /// In UTC at `now`.
    #[must_use]
    pub fn utc(now: u64) -> Self {
        Self { now, zone: Some(UtcOffset::UTC) }
    }

    /// `20:14:02`, with its day when that is not today.
    #[must_use]
    pub fn clock(&self, at: u64) -> String {
        self.show(at, true)
    }

    /// `18:00`, `Sun 18:00` within a week, `2026-11-29 18:00`.
    #[must_use]
    pub fn until(&self, at: u64) -> String {
        self.show(at, false)
    }

    /// `12 s ago`, `3 min ago`, `5 h ago`, `2 days ago`.
    #[must_use]
    pub fn ago(&self, at: u64) -> String {
        match self.now.saturating_sub(at) {
            0 => "just now".to_owned(),
            seconds if seconds < 120 => format!("{seconds} s ago"),
            seconds if seconds < 7_200 => format!("{} min ago", seconds / 60),
            seconds if seconds < 172_800 => format!("{} h ago", seconds / 3_600),
            seconds => format!("{} days ago", seconds / 86_400),
        }
    }

    fn show(&self, at: u64, seconds: bool) -> String {
        let zone = self.zone.unwrap_or(UtcOffset::UTC);
        let (Some(at), Some(now)) = (moment(at, zone), moment(self.now, zone)) else { return "?".to_owned() };
        let mut clock = format!("{:02}:{:02}", at.hour(), at.minute());
        if seconds {
            clock = format!("{clock}:{:02}", at.second());
        }
        if self.zone.is_none() {
            clock.push_str(" UTC");
        }
        let days = (at.date() - now.date()).whole_days();
        let weekday: String = at.weekday().to_string().chars().take(3).collect();
        match days {
            0 => clock,
            -6..=6 => format!("{weekday} {clock}"),
            _ => format!("{:04}-{:02}-{:02} {clock}", at.year(), u8::from(at.month()), at.day()),
        }
    }
}

fn moment(at: u64, zone: UtcOffset) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(at).ok()?).ok()?.checked_to_offset(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_told_as_far_as_needed() {
        // 2026-11-21 22:40:00 UTC, a Saturday.
        let now = 1_795_300_800;
        let moments = Moments::utc(now);
        for (at, text) in [
            (now, "22:40"),
            (now + 3_600, "23:40"),
            (now + 7_200, "Sun 00:40"),
            (now - 86_400, "Fri 22:40"),
            (now + 8 * 86_400, "2026-11-29 22:40"),
        ] {
            assert_eq!(moments.until(at), text);
        }
        assert_eq!(moments.clock(now + 2), "22:40:02");
        assert_eq!(moments.until(u64::MAX), "?");
    }

    #[test]
    fn the_past_is_told_in_one_unit() {
        let moments = Moments::utc(1_000_000);
        for (ago, text) in
            [(0, "just now"), (59, "59 s ago"), (180, "3 min ago"), (18_000, "5 h ago"), (200_000, "2 days ago")]
        {
            assert_eq!(moments.ago(1_000_000 - ago), text);
        }
    }
}
