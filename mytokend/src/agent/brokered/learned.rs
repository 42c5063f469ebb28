// SPDX-License-Identifier: MIT OR Apache-2.0
//! What brokers have told of credentials that only they can open, until the lease takes it.

use std::collections::HashMap;

use crate::agent::credential_service::Admitted;

/// Most credentials whose content is kept. A lease takes it right after the answer, so those that stay were told to leases that are gone.
const MOST: usize = 1000;

/// The content of credentials, by the hash of their sealed texts.
#[derive(Debug, Default)]
pub struct Learned {
    contents: HashMap<[u8; 32], (u64, Admitted)>,
    told: u64,
}

impl Learned {
    /// Keeps what was told of a credential. When there is no place, the oldest content goes: nobody has taken it.
    pub fn put(&mut self, hash: [u8; 32], admitted: Admitted) {
        if self.contents.len() >= MOST && !self.contents.contains_key(&hash) {
            let oldest = self.contents.iter().min_by_key(|(_, (at, _))| *at).map(|(hash, _)| *hash);
            oldest.map(|hash| self.contents.remove(&hash));
        }
        self.contents.insert(hash, (self.told, admitted));
        self.told = self.told.saturating_add(1);
    }

    /// Takes what was told of a credential.
    pub fn take(&mut self, hash: [u8; 32]) -> Option<Admitted> {
        self.contents.remove(&hash).map(|(_, admitted)| admitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_taken_keeps_no_place_from_the_next_one() {
        let hash = |number: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            hash
        };
        let mut learned = Learned::default();
        for number in 0..=2 * MOST {
            learned.put(hash(number), super::super::provisional(number.to_string(), ""));
            assert!(learned.contents.len() <= MOST);
        }
        assert!(learned.take(hash(2 * MOST)).is_some());
        assert!(learned.take(hash(2 * MOST)).is_none(), "it was taken");
        assert!(learned.take(hash(MOST + 1)).is_some() && learned.take(hash(0)).is_none(), "the oldest ones are gone");
    }
}
