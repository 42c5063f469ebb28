// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections that have shown no node's certificate: those in their handshake, and those of hosts that want to enrol. Their number is limited
//! for each address, for each network, and in all. A node with a certificate counts only until its handshake has ended, and all nodes of a
//! cluster may share an address, or a network.
//!
//! Any user of a node can open connections from its address and say nothing, as fast as he likes. So a new connection is not refused: one of
//! the others makes room. Who is left alone for the milliseconds of a handshake is through, mostly.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::identity::attempts::network;

/// Most of one address.
pub(crate) const MOST: usize = 64;

/// Most of one network of IPv6. A host has at least the 2^64 addresses of one; a cluster may have all its nodes in one.
pub(crate) const MOST_OF_NETWORK: usize = 1_024;

/// All of them. Nodes with a certificate have places of their own.
pub(crate) const MOST_OF_ALL: usize = 2_000;

/// One that is older than this, and not served, makes room before any other. A handshake takes milliseconds, or longer while
/// many wait for theirs.
const IDLE: Duration = Duration::from_secs(2);

/// A younger one makes no room for one of another address. When all nodes of a large cluster connect again at once, each of them gets as much
/// time as the handshakes of [`MOST_OF_ALL`] take, and the kernel holds the others meanwhile.
const YOUNG: Duration = Duration::from_millis(500);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<Vec<Arc<Place>>>);

/// The place of one.
#[derive(Debug)]
struct Place {
    address: IpAddr,
    /// Since when, elapsed time.
    since: Duration,
    /// The broker works on its request.
    is_served: AtomicBool,
    /// Told when another one has got the place.
    is_lost: Notify,
}

/// Of which there are too many at a time, none of them older than [`IDLE`] but those that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// Connections of one address.
    Address,
    /// Connections of one network.
    Network,
    /// Connections of all.
    All,
}

/// All places are taken by connections that have just begun: this one is to be tried again in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rush;

/// One of them. It has its place until the value is dropped.
#[derive(Debug)]
pub(crate) struct Stranger {
    all: Arc<Strangers>,
    place: Arc<Place>,
}

impl Strangers {
    /// Admits a connection from `address` at `now`, elapsed time. `draw` is random. `None`: the broker works for all others. The second value
    /// says why one was refused, or lost its place although it was younger than [`IDLE`].
    ///
    /// # Errors
    /// [`Rush`].
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        now: Duration,
        draw: u32,
    ) -> Result<(Option<Stranger>, Option<Crowd>), Rush> {
        let address = address.to_canonical();
        let own = network(address);
        let mut crowd = None;
        let mut places = self.places();
        for (which, most) in [(Crowd::Address, MOST), (Crowd::Network, MOST_OF_NETWORK), (Crowd::All, MOST_OF_ALL)] {
            let counts = |place: &Place| match which {
                Crowd::Address => place.address == address,
                Crowd::Network => network(place.address) == own,
                Crowd::All => true,
            };
            if places.iter().filter(|place| counts(place)).count() < most {
                continue;
            }
            let is_young = |place: &Place| which == Crowd::All && now.saturating_sub(place.since) < YOUNG;
            let mut waiting = places.iter().filter(|place| !place.is_served.load(Ordering::Relaxed)).peekable();
            if waiting.peek().is_some() && waiting.all(|place| is_young(place)) {
                return Err(Rush);
            }
            let counts = |place: &Place| counts(place) && !is_young(place);
            match make_room(&mut places, counts, now, draw) {
                Some(true) => {}
                Some(false) => crowd = Some(which),
                None => return Ok((None, Some(which))),
            }
        }
        let place = Arc::new(Place { address, since: now, is_served: AtomicBool::new(false), is_lost: Notify::new() });
        places.push(Arc::clone(&place));
        drop(places);
        Ok((Some(Stranger { all: Arc::clone(self), place }), crowd))
    }

    fn places(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the place of the oldest one if it is older than [`IDLE`], else of any one: while many are in their handshakes, the oldest is the one
/// which has nearly finished. Returns whether it was older; `None`: the broker works for all of them.
fn make_room(places: &mut Vec<Arc<Place>>, counts: impl Fn(&Place) -> bool, now: Duration, draw: u32) -> Option<bool> {
    let may_go = |place: &Place| counts(place) && !place.is_served.load(Ordering::Relaxed);
    let candidates: Vec<(usize, Duration)> =
        places.iter().enumerate().filter(|(_, place)| may_go(place)).map(|(at, place)| (at, place.since)).collect();
    let (oldest, since) = candidates.iter().copied().min_by_key(|(_, since)| *since)?;
    let is_old = now.saturating_sub(since) >= IDLE;
    let any = candidates.get(draw as usize % candidates.len()).map_or(oldest, |(at, _)| *at);
    places.swap_remove(if is_old { oldest } else { any }).is_lost.notify_one();
    Some(is_old)
}

impl Stranger {
    /// Returns when the connection has lost its place and is to be closed.
    pub(crate) async fn lost(&self) {
        self.place.is_lost.notified().await;
    }

    /// The broker works on its request until the value is dropped.
    pub(crate) fn serve(&self) -> Served {
        self.place.is_served.store(true, Ordering::Relaxed);
        Served(Arc::clone(&self.place))
    }

    /// Whether it still has its place.
    #[cfg(test)]
    pub(crate) fn has_place(&self) -> bool {
        self.all.places().iter().any(|place| Arc::ptr_eq(place, &self.place))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.all.places().retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}

/// The broker works on a request.
pub(crate) struct Served(Arc<Place>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.is_served.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_told(stranger: &Stranger) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_millis(10), stranger.lost()).await.is_ok() })
    }

    /// How many of them have lost their places.
    fn lost(strangers: &[Stranger]) -> usize {
        strangers.iter().filter(|stranger| !stranger.has_place()).count()
    }

    #[test]
    fn one_that_is_idle_makes_room_first_and_one_that_is_served_never_does() {
        let (all, nat) = (Arc::new(Strangers::default()), address("192.0.2.1"));
        let admit = |now| all.admit(nat, now, 7).unwrap();
        let many: Vec<Stranger> = (0..MOST).map(|_| admit(SECOND).0.unwrap()).collect();
        let served = many[0].serve();
        let (node, crowd) = admit(SECOND * 3);
        let node = node.unwrap();
        assert!(many[0].has_place() && !many[1].has_place() && is_told(&many[1]));
        assert!(crowd.is_none() && node.has_place() && !is_told(&node));
        // Nobody is idle.
        let busy: Vec<Stranger> = (2..MOST).map(|_| admit(SECOND * 3).0.unwrap()).collect();
        assert_eq!((lost(&busy), lost(&many)), (0, MOST - 1));
        let (late, crowd) = admit(SECOND * 3);
        assert!(late.unwrap().has_place() && crowd == Some(Crowd::Address));
        assert_eq!(lost(&busy) + usize::from(!node.has_place()), 1, "one of the others has made room");
        assert!(many[0].has_place());
        drop(served);
        let held: Vec<&Stranger> = busy.iter().chain([&node, &many[0]]).filter(|one| one.has_place()).collect();
        // The place of the late one, which is gone.
        let (last, _) = admit(SECOND * 3);
        let last = last.unwrap();
        let served: Vec<Served> = held.iter().map(|one| one.serve()).chain([last.serve()]).collect();
        assert_eq!(served.len(), MOST);
        assert!(matches!(admit(SECOND * 9), (None, Some(Crowd::Address))), "the broker works for all of them");
        assert!(all.admit(address("192.0.2.2"), SECOND * 9, 0).unwrap().0.is_some(), "another address");
        drop((served, many, busy, node, last));
        assert!(all.places().is_empty());
    }

    #[test]
    fn who_opens_connections_as_fast_as_he_can_keeps_no_node_from_its_handshake() {
        let (all, address) = (Arc::new(Strangers::default()), address("192.0.2.1"));
        let mut draw = 1_u32;
        let mut admit = |now: Duration| {
            draw = draw.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            all.admit(address, now, draw >> 8).unwrap().0.unwrap()
        };
        let mut hostile: Vec<Stranger> = (0..MOST).map(|_| admit(SECOND)).collect();
        // Two thousand in a second, and handshakes of five milliseconds.
        let mut through = 0;
        for number in 0..100_u32 {
            let now = SECOND + Duration::from_millis(5) * number;
            let node = admit(now);
            hostile.extend((0..10).map(|_| admit(now)));
            hostile.retain(Stranger::has_place);
            through += usize::from(node.has_place());
        }
        assert!(through > 60, "{through}");
    }

    #[test]
    fn a_cluster_may_be_in_one_network_and_nobody_takes_all_places() {
        let all = Arc::new(Strangers::default());
        let of = |network: usize, host: usize| address(&format!("2001:db8:0:{network:x}::{host:x}"));
        let cluster: Vec<Stranger> =
            (0..MOST_OF_NETWORK).map(|host| all.admit(of(1, host), SECOND, 3).unwrap().0.unwrap()).collect();
        assert_eq!(lost(&cluster), 0, "each has an address of its own");
        let (next, crowd) = all.admit(of(1, MOST_OF_NETWORK), SECOND, 3).unwrap();
        assert!(next.is_some() && crowd == Some(Crowd::Network));
        assert_eq!(lost(&cluster), 1);
        let one: Vec<Stranger> = (0..MOST).map(|_| all.admit(of(2, 1), SECOND, 3).unwrap().0.unwrap()).collect();
        assert_eq!((lost(&one), all.admit(of(2, 1), SECOND, 3).unwrap().1), (0, Some(Crowd::Address)));
        let room = MOST_OF_ALL - all.places().len();
        let others: Vec<Stranger> =
            (0..room).map(|network| all.admit(of(network + 10, 1), SECOND, 3).unwrap().0.unwrap()).collect();
        assert_eq!(all.places().len(), MOST_OF_ALL);
        let (late, crowd) = all.admit(of(9, 9), SECOND + YOUNG, 3).unwrap();
        assert_eq!((all.places().len(), crowd), (MOST_OF_ALL, Some(Crowd::All)));
        drop((cluster, next, one, others, late));
        assert!(all.places().is_empty());
    }

    #[test]
    fn all_nodes_of_a_cluster_may_connect_again_within_a_second() {
        let all = Arc::new(Strangers::default());
        let of = |host: u32| IpAddr::from((0x0a00_0000 + host).to_be_bytes());
        let (mut now, mut hosts, mut through) = (SECOND, 0..10_000_u32, 0);
        let mut held: std::collections::VecDeque<Stranger> = std::collections::VecDeque::new();
        let mut next = hosts.next();
        // Eight handshakes end in a millisecond, in the order in which they began.
        while through < 10_000 {
            while let Some(host) = next {
                let Ok((stranger, crowd)) = all.admit(of(host), now, host) else { break };
                assert_eq!(crowd, None);
                held.extend(stranger);
                next = hosts.next();
            }
            through += held.drain(..held.len().min(8)).filter(Stranger::has_place).count();
            now += Duration::from_millis(1);
            assert!(now < SECOND * 10, "{through}");
        }
    }
}
