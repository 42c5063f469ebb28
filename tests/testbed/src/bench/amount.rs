// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much the bench measures.

/// What the bench measures.
#[derive(Debug, Clone)]
pub struct Amount {
    /// Number of measurements, in percent of a whole run.
    pub percent: u16,
    /// Only parts whose name contains this.
    pub part: String,
}

impl Amount {
    /// This part of `whole`, at least 3.
    pub(super) fn of(&self, whole: usize) -> usize {
        (whole * usize::from(self.percent) / 100).max(3)
    }
}
