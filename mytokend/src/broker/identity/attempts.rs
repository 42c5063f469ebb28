// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits the attempts to enrol, so that one address cannot keep the others out.
//!
//! Only failures count against an address: ten thousand nodes behind one address translator enrol without a limit other than that for
//! attempts at a time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Failures that an address may have at once.
const BURST: u32 = 10;

/// After this time one more failure is allowed.
const REFILL: Duration = Duration::from_secs(6);

/// Attempts of one address at a time.
const OF_ONE_ADDRESS: usize = 4;

/// Attempts of all addresses at a time. Each runs unmunge.
const AT_A_TIME: usize = 16;

/// Addresses with failures that are remembered.
const ADDRESSES: usize = 4096;

/// How long an address waits when all places are taken: attempts take milliseconds.
const SHORT: Duration = Duration::from_millis(500);

/// The attempts of all addresses.
#[derive(Default, Clone)]
pub struct Attempts(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    running: usize,
    addresses: BTreeMap<IpAddr, Address>,
}

#[derive(Default)]
struct Address {
    running: usize,
    /// Failures that still count, and since when, as elapsed time.
    failures: u32,
    since: Duration,
    /// It was refused for its failures, and this was logged.
    told: bool,
}

/// An attempt that is running. Dropped, it counts as a failure.
pub struct Attempt {
    attempts: Attempts,
    address: IpAddr,
    counts: bool,
}

/// There is no attempt now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts to enrol; the next one is possible in {} s", .after.as_secs() + 1)]
pub struct TooMany {
    /// When to try again.
    pub after: Duration,
    /// Whether it is to be logged: for the first one of a row of refusals of an address that had too many failures.
    pub first: bool,
}

impl Attempts {
    /// Begins an attempt of a connection from `address`, at this elapsed time.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn begin(&self, address: IpAddr, elapsed: Duration) -> Result<Attempt, TooMany> {
        let address = network(address);
        let mut state = self.state();
        let all = state.running;
        let entry = state.entry(address);
        entry.forgive(elapsed);
        if entry.failures >= BURST {
            let first = !std::mem::replace(&mut entry.told, true);
            let after = (entry.since + REFILL).saturating_sub(elapsed);
            return Err(TooMany { after, first });
        }
        if entry.running >= OF_ONE_ADDRESS || all >= AT_A_TIME {
            return Err(TooMany { after: SHORT, first: false });
        }
        entry.told = false;
        entry.running += 1;
        state.running += 1;
        Ok(Attempt { attempts: self.clone(), address, counts: true })
    }

    fn end(&self, address: IpAddr, counts: bool) {
        let mut state = self.state();
        state.running = state.running.saturating_sub(1);
        if let Some(entry) = state.addresses.get_mut(&address) {
            entry.running = entry.running.saturating_sub(1);
            entry.failures = entry.failures.saturating_add(u32::from(counts));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn entry(&mut self, address: IpAddr) -> &mut Address {
        if self.addresses.len() >= ADDRESSES && !self.addresses.contains_key(&address) {
            // Those with the fewest failures and without an attempt: an address that goes on attacking is the last one to be forgotten.
            let idle = self.addresses.iter().filter(|(_, entry)| entry.running == 0);
            let least = idle.min_by_key(|(_, entry)| (entry.failures, entry.since)).map(|(address, _)| *address);
            if let Some(least) = least {
                self.addresses.remove(&least);
            }
        }
        self.addresses.entry(address).or_default()
    }
}

impl Address {
    /// Forgets one failure for each time of refill that has passed.
    fn forgive(&mut self, elapsed: Duration) {
        if self.failures == 0 {
            self.since = elapsed;
            return;
        }
        let steps = elapsed.saturating_sub(self.since).as_millis() / REFILL.as_millis();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        if steps >= self.failures {
            *self = Self { running: self.running, since: elapsed, ..Self::default() };
        } else {
            self.failures -= steps;
            self.since += REFILL * steps;
        }
    }
}

impl Attempt {
    /// The same while nothing is done yet: dropped, it does not count.
    #[must_use]
    pub fn waiting(mut self) -> Self {
        self.counts = false;
        self
    }

    /// The wait is over: dropped, it counts as a failure.
    #[must_use]
    pub fn running(mut self) -> Self {
        self.counts = true;
        self
    }

    /// Ends the attempt, which succeeded.
    pub fn succeeded(self) {
        self.not_counted();
    }

    /// Ends the attempt, which failed without a fault of the address.
    pub fn not_counted(mut self) {
        self.counts = false;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.attempts.end(self.address, self.counts);
    }
}

/// What counts as one address: a host with IPv6 has at least the 2^64 addresses of its network.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// How the log names it.
#[must_use]
pub fn network_name(address: IpAddr) -> String {
    match network(address) {
        IpAddr::V6(network) => format!("{network}/64"),
        IpAddr::V4(address) => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_address_with_failures_waits_and_others_do_not() {
        let attempts = Attempts::default();
        let bad = address("10.0.0.66");
        for _ in 0..BURST {
            drop(attempts.begin(bad, SECOND).unwrap());
        }
        let refused = attempts.begin(bad, SECOND).err().unwrap();
        assert_eq!(refused, TooMany { after: REFILL, first: true });
        assert!(refused.to_string().contains("in 7 s"), "{refused}");
        assert!(!attempts.begin(bad, SECOND * 2).err().unwrap().first, "it is logged once");
        assert!(attempts.begin(address("10.0.0.1"), SECOND).is_ok());
        assert!(attempts.begin(bad, SECOND + REFILL).is_ok(), "one after each refill");
        assert!(attempts.begin(bad, SECOND + REFILL).is_err());
        for _ in 0..BURST {
            assert!(attempts.begin(bad, SECOND * 1000).is_ok());
        }
    }

    #[test]
    fn any_number_of_successes_is_allowed() {
        let attempts = Attempts::default();
        for _ in 0..10_000 {
            attempts.begin(address("10.0.0.1"), SECOND).unwrap().succeeded();
        }
    }

    #[test]
    fn one_address_does_not_take_all_places() {
        let attempts = Attempts::default();
        let running: Vec<_> = (0..20).filter_map(|_| attempts.begin(address("10.0.0.66"), SECOND).ok()).collect();
        assert_eq!(running.len(), OF_ONE_ADDRESS);
        let others: Vec<_> =
            (0..20).filter_map(|host| attempts.begin(IpAddr::from([10, 0, 1, host]), SECOND).ok()).collect();
        assert_eq!(others.len(), AT_A_TIME - OF_ONE_ADDRESS);
        assert_eq!(attempts.begin(address("10.0.2.1"), SECOND).err(), Some(TooMany { after: SHORT, first: false }));
        drop(running);
        assert!(attempts.begin(address("10.0.2.1"), SECOND).is_ok());
    }

    #[test]
    fn the_addresses_of_a_network_count_as_one() {
        let attempts = Attempts::default();
        for host in 0..BURST {
            drop(attempts.begin(address(&format!("2001:db8:0:1::{host:x}")), SECOND).unwrap());
        }
        assert!(attempts.begin(address("2001:db8:0:1:ffff::1"), SECOND).is_err());
        assert!(attempts.begin(address("2001:db8:0:2::1"), SECOND).is_ok());
        assert_eq!(network(address("::ffff:10.0.0.1")), address("10.0.0.1"));
        assert_eq!(network_name(address("::ffff:10.0.0.1")), "10.0.0.1");
        assert_eq!(network_name(address("2001:db8:0:1:ffff::1")), "2001:db8:0:1::/64");
    }

    #[test]
    fn an_attacker_is_remembered_longer_than_others() {
        let attempts = Attempts::default();
        let bad = address("10.0.0.66");
        for _ in 0..BURST {
            drop(attempts.begin(bad, SECOND).unwrap());
        }
        for host in 0..8000_u32 {
            drop(attempts.begin(IpAddr::from((0x0a01_0000 + host).to_be_bytes()), SECOND));
        }
        assert!(attempts.begin(bad, SECOND).is_err());
        assert!(attempts.state().addresses.len() <= ADDRESSES);
    }
}
