// SPDX-License-Identifier: MIT OR Apache-2.0
//! Durations in configuration files: `"20s"`, `"5m"`, `"12h"`, `"7d"`.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration in a configuration file: a whole number and one of the units `s`, `m`, `h`, `d`.
///
/// A number without unit is refused, because its unit would be a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

impl Duration {
    /// Longest duration in seconds: a hundred years, so that adding it to a time of day cannot overflow.
    const LONGEST: u64 = 100 * 366 * 86_400;

    /// A duration of `seconds`, for defaults.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    /// In whole seconds.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0.as_secs()
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "\"{}\" is not a duration; write a whole number and a unit, e.g. \"20s\", \"5m\", \"12h\", \"7d\"",
                text.escape_debug()
            )
        };
        let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let factor = match text.get(number.len()..) {
            Some("s") => 1,
            Some("m") => 60,
            Some("h") => 3_600,
            Some("d") => 86_400,
            _ => return Err(wrong()),
        };
        // `u64::from_str` would take a leading plus sign.
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let seconds = number.parse::<u64>().ok().and_then(|count| count.checked_mul(factor)).ok_or_else(wrong)?;
        if seconds > Self::LONGEST {
            return Err(format!("\"{text}\" is longer than a hundred years"));
        }
        Ok(Self::seconds(seconds))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.as_secs();
        for (factor, unit) in [(86_400, "d"), (3_600, "h"), (60, "m")] {
            if seconds > 0 && seconds % factor == 0 {
                return write!(f, "{}{unit}", seconds / factor);
            }
        }
        write!(f, "{seconds}s")
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_seconds_minutes_hours_and_days() {
        for (text, seconds) in [("0s", 0), ("20s", 20), ("5m", 300), ("12h", 43_200), ("7d", 604_800), ("90m", 5_400)] {
            assert_eq!(text.parse::<Duration>().unwrap().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn other_forms_of_durations_are_refused() {
        for text in [
            "",
            "s",
            "20",
            "+20s",
            "-1s",
            "1.5h",
            " 20s",
            "20s ",
            "20 s",
            "20ms",
            "1d12h",
            "7D",
            "٣s",
            "99999999999999999999d",
            "40000d",
            "213503982334601d",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_shown_in_its_largest_whole_unit() {
        for text in ["0s", "59s", "5m", "90m", "12h", "7d"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        assert_eq!(Duration::seconds(86_400).to_string(), "1d");
    }
}
