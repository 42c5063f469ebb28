// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections that have shown no node's certificate: those in their handshake, and those of hosts that want to enrol. Their number is limited
//! for each address. A node with a certificate counts only until its handshake has ended, and all nodes of a cluster may share an address.
//!
//! Any user of a node can open connections from its address and say nothing. So those that are idle make room for others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::identity::attempts::network;

/// Most of one address.
pub(super) const MOST: usize = 64;

/// One that has done nothing for this time makes room. A handshake takes milliseconds.
const IDLE: Duration = Duration::from_secs(2);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<HashMap<IpAddr, Vec<Arc<Place>>>>);

/// The place of one.
#[derive(Debug, Default)]
struct Place {
    /// Since when, elapsed time.
    since: Duration,
    /// The broker works on its request.
    is_served: AtomicBool,
    /// Told when another one has got the place.
    is_lost: Notify,
}

/// One of them. It has its place until the value is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    all: Arc<Strangers>,
    address: IpAddr,
    place: Arc<Place>,
}

impl Strangers {
    /// Admits a connection from `address` at `now`, elapsed time. `None`: there are too many.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, now: Duration) -> Option<Stranger> {
        let address = network(address);
        let place = Arc::new(Place { since: now, ..Place::default() });
        let mut places = self.places();
        let own = places.entry(address).or_default();
        if own.len() >= MOST {
            let is_idle =
                |place: &Place| now.saturating_sub(place.since) >= IDLE && !place.is_served.load(Ordering::Relaxed);
            let idle = own.iter().enumerate().filter(|(_, place)| is_idle(place));
            let (oldest, _) = idle.min_by_key(|(_, place)| place.since)?;
            own.swap_remove(oldest).is_lost.notify_one();
        }
        own.push(Arc::clone(&place));
        drop(places);
        Some(Stranger { all: Arc::clone(self), address, place })
    }

    fn places(&self) -> MutexGuard<'_, HashMap<IpAddr, Vec<Arc<Place>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Returns when the connection has lost its place and is to be closed.
    pub(super) async fn lost(&self) {
        self.place.is_lost.notified().await;
    }

    /// The broker works on its request until the value is dropped.
    pub(super) fn serve(&self) -> Served<'_> {
        self.place.is_served.store(true, Ordering::Relaxed);
        Served(self)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut places = self.all.places();
        if let Some(own) = places.get_mut(&self.address) {
            own.retain(|place| !Arc::ptr_eq(place, &self.place));
            if own.is_empty() {
                places.remove(&self.address);
            }
        }
    }
}

/// The broker works on a request.
pub(super) struct Served<'a>(&'a Stranger);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.place.is_served.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_lost(stranger: &Stranger) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(tokio::time::timeout(Duration::from_millis(10), stranger.lost())).is_ok()
    }

    #[test]
    fn one_that_is_idle_makes_room_for_a_node_and_one_that_is_served_does_not() {
        let (all, nat) = (Arc::new(Strangers::default()), address("192.0.2.1"));
        let admit = |now| all.admit(nat, now);
        let many: Vec<Stranger> = (0..MOST).map(|_| admit(SECOND).unwrap()).collect();
        assert!(admit(SECOND * 2).is_none(), "all are in their handshake");
        assert!(all.admit(address("192.0.2.2"), SECOND * 2).is_some(), "another address");
        let served = many[0].serve();
        let node = admit(SECOND * 3).unwrap();
        assert!(!is_lost(&many[0]) && is_lost(&many[1]));
        assert!(!is_lost(&node));
        drop(node);
        let nodes: Vec<Stranger> = (0..MOST - 1).map(|_| admit(SECOND * 4).unwrap()).collect();
        assert!(admit(SECOND * 4).is_none(), "the one that is served keeps its place");
        drop(served);
        assert!(admit(SECOND * 4).is_some());
        drop((many, nodes));
        assert!(all.places().is_empty());
    }

    #[test]
    fn the_addresses_of_a_network_count_as_one() {
        let all = Arc::new(Strangers::default());
        let many: Vec<Option<Stranger>> =
            (0..=MOST).map(|host| all.admit(address(&format!("2001:db8::{host:x}")), SECOND)).collect();
        assert!(many[MOST - 1].is_some() && many[MOST].is_none());
    }
}
