// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which parts the bench measures, and how often.

/// Which parts the bench measures, and how often.
#[derive(Debug, Clone)]
pub struct Amount {
    /// Number of measurements, in percent of a complete run.
    pub percent: u16,
    /// Only parts whose name contains this.
    pub part: String,
}

impl Amount {
    /// This percentage of `whole`, at least 3.
    pub(super) fn scale(&self, whole: usize) -> usize {
        (whole * usize::from(self.percent) / 100).max(3)
    }
}
