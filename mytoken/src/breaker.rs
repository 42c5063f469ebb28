// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that did not answer is left alone for a moment: every login that waits for it holds one of sshd's `MaxStartups` slots.

use crate::Clock;
use crate::cache::{DiskCache, file_name};

/// How long a server is left alone, in seconds.
pub const PAUSE: u64 = 15;

/// Remembers on disk which servers did not answer; without a cache it remembers nothing.
#[derive(Clone, Copy)]
pub struct Breaker<'a> {
    cache: Option<&'a DiskCache>,
    clock: &'a dyn Clock,
}

impl<'a> Breaker<'a> {
    /// A breaker that keeps its notes in `cache`.
    #[must_use]
    pub fn new(cache: Option<&'a DiskCache>, clock: &'a dyn Clock) -> Self {
        Self { cache, clock }
    }

    /// Whether the server at `url` failed to answer less than [`PAUSE`] seconds ago.
    #[must_use]
    pub fn is_open(&self, url: &str) -> bool {
        let now = self.clock.now();
        self.noted(url).is_some_and(|since| since <= now && now - since < PAUSE)
    }

    /// The server did not answer. Only for connections that failed, never for what it answered: a person who can provoke an
    /// error must not lock out the others.
    pub fn open(&self, url: &str) {
        if let Some(cache) = self.cache {
            let _ = cache.write(&file_name("down", url), self.clock.now().to_string().as_bytes());
        }
    }

    /// The server answered.
    pub fn close(&self, url: &str) {
        if let (Some(cache), Some(_)) = (self.cache, self.noted(url)) {
            cache.remove(&file_name("down", url));
        }
    }

    fn noted(&self, url: &str) -> Option<u64> {
        String::from_utf8(self.cache?.read(&file_name("down", url))?).ok()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FixedClock;
    use crate::credential::files::Owner;

    #[test]
    fn a_server_is_left_alone_for_fifteen_seconds() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(&dir.path().join("cache"), Owner::current());
        let open_at = |now: u64, url: &str| Breaker::new(Some(&cache), &FixedClock(now)).is_open(url);
        Breaker::new(Some(&cache), &FixedClock(1_000)).open("https://a");
        assert!(open_at(1_000, "https://a") && open_at(1_014, "https://a"));
        assert!(!open_at(1_015, "https://a") && !open_at(1_001, "https://b"));
        assert!(!open_at(900, "https://a"), "a clock that was set back does not lock the server out");
        Breaker::new(Some(&cache), &FixedClock(1_001)).close("https://a");
        assert!(!open_at(1_002, "https://a"));
    }
}
