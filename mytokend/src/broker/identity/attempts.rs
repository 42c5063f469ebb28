// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits the attempts to enrol, so that one address cannot keep the others out.
//!
//! A cluster may have all its nodes in one network of IPv6, and each user of a node can send anything from its address. A host may also have
//! all addresses of such a network. So failures count for the exact address first, and for the network with a much larger limit; those that
//! cost the broker nothing count for the address alone.
//!
//! Only failures count against an address: ten thousand nodes behind one address translator enrol without a limit other than that for
//! attempts at a time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is allowed to an address, or to a network.
struct Limits {
    /// Failures at once.
    burst: u32,
    /// After this time one more failure is allowed.
    refill: Duration,
    /// Attempts at a time.
    at_a_time: usize,
}

const OF_ADDRESS: Limits = Limits { burst: 10, refill: Duration::from_secs(6), at_a_time: 4 };

/// As many failures at once as a network may have connections that have shown no certificate.
const OF_NETWORK: Limits = Limits { burst: 1_024, refill: Duration::from_millis(100), at_a_time: 12 };

/// Attempts of all addresses at a time. Each runs unmunge.
const AT_A_TIME: usize = 16;

/// Addresses with failures that are remembered, and as many networks.
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
    /// Those of IPv6.
    networks: BTreeMap<IpAddr, Address>,
}

/// For what an attempt counts as a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Nothing,
    Address,
    /// And for its address.
    Network,
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
    counts: Counts,
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
        let address = address.to_canonical();
        let mut state = self.state();
        let State { running, addresses, networks } = &mut *state;
        let mut of_network = if address.is_ipv6() { Some(entry(networks, network(address))) } else { None };
        if let Some(of_network) = &mut of_network {
            of_network.check(&OF_NETWORK, elapsed)?;
        }
        let own = entry(addresses, address);
        own.check(&OF_ADDRESS, elapsed)?;
        if *running >= AT_A_TIME {
            return Err(TooMany { after: SHORT, first: false });
        }
        *running += 1;
        own.begin();
        if let Some(of_network) = of_network {
            of_network.begin();
        }
        Ok(Attempt { attempts: self.clone(), address, counts: Counts::Network })
    }

    fn end(&self, address: IpAddr, counts: Counts) {
        let mut state = self.state();
        state.running = state.running.saturating_sub(1);
        if let Some(own) = state.addresses.get_mut(&address) {
            own.end(counts != Counts::Nothing);
        }
        if let Some(of_network) = state.networks.get_mut(&network(address)) {
            of_network.end(counts == Counts::Network);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry(addresses: &mut BTreeMap<IpAddr, Address>, address: IpAddr) -> &mut Address {
    if addresses.len() >= ADDRESSES && !addresses.contains_key(&address) {
        // Those with the fewest failures and without an attempt: an address that goes on attacking is the last one to be forgotten.
        let idle = addresses.iter().filter(|(_, entry)| entry.running == 0);
        let least = idle.min_by_key(|(_, entry)| (entry.failures, entry.since)).map(|(address, _)| *address);
        if let Some(least) = least {
            addresses.remove(&least);
        }
    }
    addresses.entry(address).or_default()
}

impl Address {
    /// Refuses an attempt at this elapsed time if there were too many failures, or are too many attempts.
    fn check(&mut self, limits: &Limits, elapsed: Duration) -> Result<(), TooMany> {
        self.forgive(limits.refill, elapsed);
        if self.failures >= limits.burst {
            let first = !std::mem::replace(&mut self.told, true);
            let after = (self.since + limits.refill).saturating_sub(elapsed);
            return Err(TooMany { after, first });
        }
        if self.running >= limits.at_a_time {
            return Err(TooMany { after: SHORT, first: false });
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.told = false;
        self.running += 1;
    }

    fn end(&mut self, has_failed: bool) {
        self.running = self.running.saturating_sub(1);
        self.failures = self.failures.saturating_add(u32::from(has_failed));
    }

    /// Forgets one failure for each time of refill that has passed.
    fn forgive(&mut self, refill: Duration, elapsed: Duration) {
        if self.failures == 0 {
            self.since = elapsed;
            return;
        }
        let steps = elapsed.saturating_sub(self.since).as_millis() / refill.as_millis();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        if steps >= self.failures {
            *self = Self { running: self.running, since: elapsed, ..Self::default() };
        } else {
            self.failures -= steps;
            self.since += refill * steps;
        }
    }
}

impl Attempt {
    /// The same while nothing is done yet: dropped, it does not count.
    #[must_use]
    pub fn waiting(mut self) -> Self {
        self.counts = Counts::Nothing;
        self
    }

    /// The wait is over: dropped, it counts as a failure.
    #[must_use]
    pub fn running(mut self) -> Self {
        self.counts = Counts::Network;
        self
    }

    /// Ends the attempt, which succeeded.
    pub fn succeeded(self) {
        self.not_counted();
    }

    /// Ends the attempt, which failed without a fault of the address.
    pub fn not_counted(mut self) {
        self.counts = Counts::Nothing;
    }

    /// Ends the attempt, which failed before any proof was looked at.
    pub fn without_proof(mut self) {
        self.counts = Counts::Address;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.attempts.end(self.address, self.counts);
    }
}

/// What may be one host: a host with IPv6 has at least the 2^64 addresses of its network.
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

    const BURST: u32 = OF_ADDRESS.burst;
    const REFILL: Duration = OF_ADDRESS.refill;

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
        assert_eq!(running.len(), OF_ADDRESS.at_a_time);
        let others: Vec<_> =
            (0..20).filter_map(|host| attempts.begin(IpAddr::from([10, 0, 1, host]), SECOND).ok()).collect();
        assert_eq!(others.len(), AT_A_TIME - OF_ADDRESS.at_a_time);
        assert_eq!(attempts.begin(address("10.0.2.1"), SECOND).err(), Some(TooMany { after: SHORT, first: false }));
        drop(running);
        assert!(attempts.begin(address("10.0.2.1"), SECOND).is_ok());
    }

    #[test]
    fn a_user_of_a_node_does_not_keep_its_network_out() {
        let attempts = Attempts::default();
        let (bad, node) = (address("2001:db8:0:1::66"), address("2001:db8:0:1::1"));
        // All that are free, and then each as soon as it is possible.
        for number in 0..1_000 {
            let now = SECOND + REFILL * number;
            while let Ok(attempt) = attempts.begin(bad, now) {
                drop(attempt);
            }
            attempts.begin(node, now).unwrap().succeeded();
        }
    }

    #[test]
    fn a_network_waits_after_the_failures_of_many_addresses() {
        let attempts = Attempts::default();
        let host = |number: u32| address(&format!("2001:db8:0:1::{number:x}"));
        for number in 0..OF_NETWORK.burst * 2 {
            attempts.begin(host(number), SECOND).unwrap().without_proof();
        }
        for number in 0..OF_NETWORK.burst {
            drop(attempts.begin(host(number), SECOND).unwrap());
        }
        let fresh = address("2001:db8:0:1:ffff::1");
        assert_eq!(attempts.begin(fresh, SECOND).err(), Some(TooMany { after: OF_NETWORK.refill, first: true }));
        assert!(attempts.begin(address("2001:db8:0:2::1"), SECOND).is_ok());
        assert!(attempts.begin(fresh, SECOND + OF_NETWORK.refill).is_ok());
    }

    #[test]
    fn what_proves_nothing_counts_for_its_address() {
        let attempts = Attempts::default();
        for bad in ["10.0.0.66", "2001:db8:0:1::66"].map(address) {
            for _ in 0..BURST {
                attempts.begin(bad, SECOND).unwrap().without_proof();
            }
            assert!(attempts.begin(bad, SECOND).is_err());
        }
    }

    #[test]
    fn the_addresses_of_a_network_do_not_take_all_places() {
        let attempts = Attempts::default();
        let host = |number: u32| address(&format!("2001:db8:0:1::{number:x}"));
        let running: Vec<_> = (0..20).filter_map(|number| attempts.begin(host(number), SECOND).ok()).collect();
        assert_eq!(running.len(), OF_NETWORK.at_a_time);
        assert!(attempts.begin(address("10.0.0.1"), SECOND).is_ok());
    }

    #[test]
    fn networks_have_names() {
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
