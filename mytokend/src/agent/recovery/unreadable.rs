// SPDX-License-Identifier: MIT OR Apache-2.0
//! Says which records of an earlier run the agent cannot read.

use crate::agent::runtime_dir::UnreadableRecord;
use crate::log::{Level, Log};

/// Maximum number of unreadable records with a log line of their own.
const MOST_LINES: usize = 8;

pub(super) fn tell_unreadable(unreadable: &[UnreadableRecord], removed: usize, log: &Log) {
    for UnreadableRecord { path, reason, kept, .. } in unreadable.iter().take(MOST_LINES) {
        let text = match kept {
            Ok(kept) => format!(
                "{} is not a lease that this agent can use: {reason}; it is now {}, where a later version of the agent looks for it; remove it \
                 when no job or session needs it",
                path.display(),
                kept.display()
            ),
            Err(error) => format!(
                "{} is not a lease that this agent can use: {reason}; it stays there ({error}); move it away",
                path.display()
            ),
        };
        log.line(Level::Warning, &text);
    }
    if let Some(more) = unreadable.len().checked_sub(MOST_LINES).filter(|more| *more > 0) {
        log.line(Level::Warning, &format!("{more} more stored leases cannot be used and are kept in the same way"));
    }
    if removed > 0 {
        log.line(Level::Warning, &format!("the oldest {removed} of the kept leases were removed to make room"));
    }
}
