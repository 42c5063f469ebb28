// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stores changed leases. What could not be stored, because `/run` is full, is stored later.

use std::collections::HashSet;
use std::sync::PoisonError;

use super::lease::{Lease, LeaseKey};
use super::lease_table::LeaseTable;
use super::{Agent, name};
use crate::log::Level;

/// The leases whose last change is not stored.
pub(super) type Unstored = HashSet<LeaseKey>;

impl Agent {
    /// Stores a changed lease, and those that could not be stored before.
    pub(super) fn store(&self, table: &LeaseTable, key: &LeaseKey) {
        let mut unstored = self.unstored.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = table.get(key) {
            self.try_to_store(&mut unstored, lease);
        }
        self.try_all(&mut unstored, table);
    }

    /// Stores the leases that could not be stored before.
    pub fn store_again(&self) {
        let table = self.leases();
        self.try_all(&mut self.unstored.lock().unwrap_or_else(PoisonError::into_inner), &table);
    }

    fn try_all(&self, unstored: &mut Unstored, table: &LeaseTable) {
        if unstored.is_empty() {
            return;
        }
        unstored.retain(|key| table.get(key).is_some());
        let leases: Vec<&Lease> = unstored.iter().filter_map(|key| table.get(key)).collect();
        for lease in leases {
            self.try_to_store(unstored, lease);
        }
    }

    fn try_to_store(&self, unstored: &mut Unstored, lease: &Lease) {
        match self.runtime_dir.store_lease(lease) {
            Ok(()) => {
                if unstored.remove(&lease.key) {
                    self.log.line(Level::Info, &format!("{}: its state is stored now", name(lease)));
                }
            }
            // Told once, not at each attempt.
            Err(error) => {
                if unstored.insert(lease.key.clone()) {
                    let text =
                        format!("{}: its state could not be stored: {error}; the agent tries again", name(lease));
                    self.log.line(Level::Error, &text);
                }
            }
        }
    }
}
