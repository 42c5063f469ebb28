// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits the log lines about each user, so that one user cannot fill the log or make the system log drop the lines about others.

use std::collections::HashMap;
use std::time::Duration;

/// Maximum number of lines about one user in one [`WINDOW`], of ordinary events and of problems each: a flood of short tasks must not hide
/// why one of them was refused.
pub(super) const LINES: u32 = 300;

/// Time after which a user's lines are counted anew.
const WINDOW: Duration = Duration::from_secs(60);

/// Maximum number of counts. All further users share two.
const MOST_COUNTS: usize = 2048;

/// The numbers of lines. Times are elapsed time: a clock that is set does not matter.
#[derive(Default)]
pub(super) struct LineLimits {
    windows: HashMap<Count, Window>,
    /// Lines about root are limited, too.
    pub limits_root: bool,
    /// No window ends before this.
    next_end: Duration,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Count {
    /// `None`: the users beyond [`MOST_COUNTS`].
    uid: Option<u32>,
    problems: bool,
}

struct Window {
    end: Duration,
    lines: u32,
    left_out: u64,
}

/// Lines that were left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// The user; `None`: several users.
    pub uid: Option<u32>,
    pub lines: u64,
}

impl LineLimits {
    /// Whether a line about user `uid` may be written at `now`. `problem`: it tells one. Lines about root are not limited,
    /// unless [`Self::limits_root`]. Call [`Self::take_ended`] before.
    pub fn admit(&mut self, uid: u32, problem: bool, now: Duration) -> bool {
        if uid == 0 && !self.limits_root {
            return true;
        }
        let own = Count { uid: Some(uid), problems: problem };
        let room = self.windows.contains_key(&own) || self.windows.len() < MOST_COUNTS;
        let count = if room { own } else { Count { uid: None, ..own } };
        let end = now.saturating_add(WINDOW);
        let window = self.windows.entry(count).or_insert(Window { end, lines: 0, left_out: 0 });
        self.next_end = self.next_end.min(window.end);
        if window.lines < LINES {
            window.lines += 1;
            true
        } else {
            window.left_out += 1;
            false
        }
    }

    /// Ends the windows that are over at `now`. Returns what was left out in them.
    pub fn take_ended(&mut self, now: Duration) -> Vec<LeftOut> {
        if now < self.next_end {
            return Vec::new();
        }
        let mut left_out = Vec::new();
        self.next_end = Duration::MAX;
        self.windows.retain(|count, window| {
            let over = window.end <= now;
            if over && window.left_out > 0 {
                left_out.push(LeftOut { uid: count.uid, lines: window.left_out });
            }
            if !over {
                self.next_end = self.next_end.min(window.end);
            }
            !over
        });
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the line is written, and what was left out before it.
    fn line(limits: &mut LineLimits, uid: u32, seconds: u64) -> (bool, Vec<LeftOut>) {
        let now = Duration::from_secs(seconds);
        let ended = limits.take_ended(now);
        (limits.admit(uid, false, now), ended)
    }

    #[test]
    fn the_flood_of_one_user_hides_no_line_of_another_and_is_counted() {
        let mut limits = LineLimits::default();
        let written = (0..39_000).filter(|_| line(&mut limits, 2001, 5).0).count();
        assert_eq!(written, LINES as usize);
        assert_eq!((line(&mut limits, 2002, 6), line(&mut limits, 0, 6)), ((true, vec![]), (true, vec![])));
        assert!(limits.admit(2001, true, Duration::from_secs(6)), "nor a problem of the same user");
        assert_eq!(line(&mut limits, 2001, 64), (false, vec![]));
        let counted = LeftOut { uid: Some(2001), lines: 39_000 - u64::from(LINES) + 1 };
        assert_eq!(line(&mut limits, 2002, 65), (true, vec![counted]));
        assert_eq!(line(&mut limits, 2001, 66), (true, vec![]));
        assert!((0..1000).all(|_| line(&mut limits, 0, 66).0), "root is not limited");
    }

    #[test]
    fn root_is_limited_where_others_say_whom_lines_are_about() {
        let mut limits = LineLimits { limits_root: true, ..LineLimits::default() };
        assert_eq!((0..1000).filter(|_| line(&mut limits, 0, 5).0).count(), LINES as usize);
        let left_out = LeftOut { uid: Some(0), lines: 1000 - u64::from(LINES) };
        assert_eq!(line(&mut limits, 0, 65), (true, vec![left_out]));
    }

    #[test]
    fn the_number_of_counted_users_is_limited() {
        let mut limits = LineLimits::default();
        for uid in 1..=5_000 {
            line(&mut limits, uid, 1);
        }
        assert_eq!(limits.windows.len(), MOST_COUNTS + 1);
        let shared = 5_000 - MOST_COUNTS as u64 - u64::from(LINES);
        assert_eq!(limits.take_ended(Duration::from_secs(61)), [LeftOut { uid: None, lines: shared }]);
        assert!(limits.windows.is_empty());
        assert!(line(&mut limits, 5_000, 61).0);
    }
}
