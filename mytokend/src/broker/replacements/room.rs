// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many jobs may have a new credential.

use super::{Leader, MOST, MOST_OF_USER, Memory, ReplacementError, Replacements, range_of};

impl Replacements {
    /// Whether there is room for a new credential of this job.
    ///
    /// # Errors
    /// [`ReplacementError`]: what there are too many of.
    pub fn check_room(&self, leader: Leader) -> Result<(), ReplacementError> {
        self.memory().check_room(leader)
    }
}

impl Memory {
    pub(super) fn check_room(&self, leader: Leader) -> Result<(), ReplacementError> {
        if self.entries.get(&leader).is_some_and(|own| !own.is_over) {
            return Ok(());
        }
        if self.entries.len() >= MOST {
            return Err(ReplacementError::TooMany);
        }
        let of_user = range_of(&self.entries, leader.uid).count();
        if of_user >= MOST_OF_USER { Err(ReplacementError::TooManyOfUser) } else { Ok(()) }
    }
}
