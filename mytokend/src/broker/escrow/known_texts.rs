// SPDX-License-Identifier: MIT OR Apache-2.0
//! What memory knows of the kept texts, and how many there may be. Each host can seal texts for any user: what it gives leaves places to
//! the others, also those of a user.

use std::collections::{BTreeMap, HashMap};

use super::{EscrowError, TextKey};
use crate::broker::submission_key::TextHash;

/// Most texts of one user. Submissions of a loop share one.
pub(super) const MOST_OF_USER: usize = 4_000;

/// Most of them that one host gives.
pub(super) const MOST_OF_USER_ON_HOST: usize = MOST_OF_USER / 2;

/// Most texts.
pub(in crate::broker) const MOST: usize = 200_000;

/// Most texts that one host gives.
pub(super) const MOST_OF_HOST: usize = MOST / 8;

/// What memory knows of a text.
#[derive(Debug)]
pub(super) struct Known {
    /// `None`: the file could not be read when the broker started.
    pub text: Option<TextHash>,
    pub exp: u64,
    /// Size of the file.
    pub bytes: u64,
    /// The host that gave it.
    pub host: String,
    /// The mytoken server by whose clock it expires.
    pub server: String,
    /// The request that is writing it.
    pub writer: Option<u64>,
    /// It is not needed any more. Nobody gets it, and [`super::Escrow::sweep`] removes its file.
    pub is_over: bool,
}

impl Known {
    pub fn is_kept(&self) -> bool {
        self.writer.is_none() && !self.is_over
    }
}

/// The texts.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub known: BTreeMap<TextKey, Known>,
    /// Number of texts by host.
    hosts: HashMap<String, usize>,
    /// The number of the last request that wrote a text.
    pub last_writer: u64,
}

impl Texts {
    /// Adds a text under a key that is free.
    pub fn insert(&mut self, key: TextKey, known: Known) {
        *self.hosts.entry(known.host.clone()).or_default() += 1;
        self.known.insert(key, known);
    }

    pub fn remove(&mut self, key: &TextKey) {
        let Some(known) = self.known.remove(key) else { return };
        if let Some(count) = self.hosts.get_mut(&known.host) {
            *count = count.saturating_sub(1);
        }
        self.hosts.retain(|_, count| *count > 0);
    }

    /// Whether `host` may give another text of this user.
    ///
    /// # Errors
    /// What there are too many of.
    pub fn check_room(&self, uid: u32, host: &str) -> Result<(), EscrowError> {
        if self.known.len() >= MOST {
            return Err(EscrowError::TooMany);
        }
        if self.hosts.get(host).is_some_and(|count| *count >= MOST_OF_HOST) {
            return Err(EscrowError::TooManyOfHost);
        }
        let first = TextKey { uid, handle: String::new() };
        let (mut of_user, mut on_host) = (0, 0);
        for (_, known) in self.known.range(first..).take_while(|(key, _)| key.uid == uid) {
            of_user += 1;
            on_host += usize::from(known.host == host);
        }
        if of_user >= MOST_OF_USER {
            return Err(EscrowError::TooManyOfUser);
        }
        if on_host >= MOST_OF_USER_ON_HOST { Err(EscrowError::TooManyOfUserOnHost) } else { Ok(()) }
    }
}
