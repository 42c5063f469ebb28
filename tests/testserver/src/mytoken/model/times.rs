// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times in requests that the server resolves (MT-25).

/// A string as a Unix time: seconds, `+duration`, or `YYYY-MM-DD HH:MM` in the server's time zone, which is UTC.
/// An empty string counts as absent (0).
///
/// # Errors
/// An error text like the original's.
pub fn resolve(text: &str, now: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        if let Some(relative) = text.strip_prefix('+') {
            return relative
                .parse()
                .map(|seconds: i64| now.saturating_add(seconds))
                .map_err(|_| parse_error(text, text, "2006"));
        }
        if seconds >= 0 {
            return Ok(seconds);
        }
    }
    if let Some(duration) = text.strip_prefix('+') {
        return parse_duration(duration)
            .map(|seconds| now.saturating_add(seconds))
            .ok_or_else(|| format!("time: invalid duration \"{duration}\""));
    }
    parse_date(text)
}

/// Whole seconds of a duration such as `1d12h`.
fn parse_duration(text: &str) -> Option<i64> {
    let mut nanoseconds: i128 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            "y" => 31_536_000_000_000_000,
            _ => return None,
        };
        nanoseconds = nanoseconds.checked_add(number.parse::<i128>().ok()?.checked_mul(unit)?)?;
        rest = tail;
    }
    i64::try_from(nanoseconds / 1_000_000_000).ok()
}

fn parse_error(text: &str, rest: &str, element: &str) -> String {
    format!("parsing time \"{text}\" as \"2006-01-02 15:04\": cannot parse \"{rest}\" as \"{element}\"")
}

/// `YYYY-MM-DD HH:MM` in UTC. The error names the first element that cannot be parsed.
fn parse_date(text: &str) -> Result<i64, String> {
    let mut rest = text;
    let mut fields = [0; 5];
    let elements = [("", "2006", 4), ("-", "01", 2), ("-", "02", 2), (" ", "15", 2), (":", "04", 2)];
    for ((separator, element, width), field) in elements.into_iter().zip(&mut fields) {
        let fail = |rest: &str, element: &str| Err(parse_error(text, rest, element));
        rest = match rest.strip_prefix(separator) {
            Some(after) => after,
            // Go accepts a missing blank at the end.
            None if separator == " " && rest.is_empty() => rest,
            None => return fail(rest, separator),
        };
        let digits =
            rest.split_at_checked(width).filter(|(digits, _)| digits.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.and_then(|(digits, after)| Some((digits.parse().ok()?, after))) {
            Some((number, after)) => (*field, rest) = (number, after),
            None => return fail(rest, element),
        }
    }
    let [year, month, day, hour, minute] = fields;
    if !rest.is_empty() {
        return Err(format!("parsing time \"{text}\": extra text: \"{rest}\""));
    }
    midnight_of(year, month, day)
        .filter(|_| hour < 24 && minute < 60)
        .map(|midnight| midnight + hour * 3_600 + minute * 60)
        .ok_or_else(|| format!("parsing time \"{text}\": out of range"))
}

/// Unix time of midnight of a day.
fn midnight_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // The year begins in March here, so that the leap day is its last day.
    let shifted = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let (era, year_of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(days * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_times_are_resolved() {
        for (text, expected) in [
            ("", 0),
            ("1735689600", 1_735_689_600),
            ("+3600", 1_003_600),
            ("+1h", 1_003_600),
            ("+90m", 1_005_400),
            ("+1h30m", 1_005_400),
            ("+1d12h", 1_129_600),
            ("+1w", 1_604_800),
            ("+1y", 32_536_000),
            ("2099-01-01 00:00", 4_070_908_800),
            ("1970-01-01 00:01", 60),
            ("2024-02-29 12:00", 1_709_208_000),
        ] {
            assert_eq!(resolve(text, 1_000_000), Ok(expected), "{text}");
        }
    }

    #[test]
    fn invalid_times_are_refused() {
        for text in ["tomorrow", "-1h", "1h", "+", "+1x", "2023-02-29 00:00", "2099-13-01 00:00", "2099-01-01 24:00"] {
            assert!(resolve(text, 1_000_000).is_err(), "{text}");
        }
        for (text, end) in [
            ("2099-01-01T00:00:00Z", "cannot parse \"T00:00:00Z\" as \" \""),
            ("2099-01-01", "cannot parse \"\" as \"15\""),
            ("1h", "cannot parse \"1h\" as \"2006\""),
        ] {
            assert!(resolve(text, 0).unwrap_err().ends_with(end), "{text}");
        }
    }
}
