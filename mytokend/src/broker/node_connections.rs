// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connections of nodes that have shown their certificates: how many there may be, and when one is idle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::identity::NodeName;

/// Most of all nodes.
pub(super) const MOST: usize = 20_000;

/// Most of one node. An agent keeps one, and has more while it sends several requests at a time: it has 24 threads for tokens, 6 for
/// revocations, and some for its callers.
pub(super) const MOST_OF_NODE: usize = 128;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// All nodes together have too many.
    All,
    /// The node has too many.
    Node,
}

/// The connections.
#[derive(Debug, Default)]
pub(super) struct NodeConnections(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    of: HashMap<NodeName, usize>,
}

/// The place of one, until it is dropped.
#[derive(Debug)]
pub(super) struct NodePlace {
    connections: Arc<NodeConnections>,
    node: NodeName,
}

impl NodeConnections {
    /// A place for a connection of this node.
    pub(super) fn admit(self: &Arc<Self>, node: &NodeName) -> Result<NodePlace, NoPlace> {
        let mut counts = self.counts();
        if counts.all >= MOST {
            return Err(NoPlace::All);
        }
        let own = counts.of.entry(node.clone()).or_default();
        if *own >= MOST_OF_NODE {
            return Err(NoPlace::Node);
        }
        *own += 1;
        counts.all += 1;
        Ok(NodePlace { connections: Arc::clone(self), node: node.clone() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NodePlace {
    fn drop(&mut self) {
        let mut counts = self.connections.counts();
        counts.all = counts.all.saturating_sub(1);
        if let Some(own) = counts.of.get_mut(&self.node) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                counts.of.remove(&self.node);
            }
        }
    }
}

/// The requests on one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    begun: AtomicU64,
    running: AtomicUsize,
}

/// A request that runs, until it is dropped.
pub(super) struct Running(Arc<Activity>);

impl Activity {
    /// A request begins.
    pub(super) fn begin(self: &Arc<Self>) -> Running {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    /// Returns when there was no request for `limit`, or for up to twice that time.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            tokio::time::sleep(limit).await;
            if self.begun.load(Ordering::Relaxed) == begun && self.running.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_stolen_does_not_take_the_places_of_the_others() {
        let connections = Arc::new(NodeConnections::default());
        let (stolen, other): (NodeName, NodeName) = ("n1".parse().unwrap(), "n2".parse().unwrap());
        let mut held: Vec<NodePlace> = (0..MOST_OF_NODE).map(|_| connections.admit(&stolen).unwrap()).collect();
        assert_eq!(connections.admit(&stolen).err(), Some(NoPlace::Node));
        assert!(connections.admit(&other).is_ok());
        held.pop();
        held.push(connections.admit(&stolen).unwrap());
        let nodes = (0..MOST / MOST_OF_NODE + 1).map(|number| format!("m{number}").parse::<NodeName>().unwrap());
        held.extend(
            nodes.flat_map(|node| (0..MOST_OF_NODE).map_while(|_| connections.admit(&node).ok()).collect::<Vec<_>>()),
        );
        assert_eq!((held.len(), connections.admit(&other).err()), (MOST, Some(NoPlace::All)));
        drop(held);
        assert!(connections.counts().of.is_empty() && connections.counts().all == 0);
    }

    #[test]
    fn a_connection_without_requests_is_idle() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let limit = Duration::from_millis(100);
        let activity = Arc::new(Activity::default());
        let is_idle =
            || runtime.block_on(async { tokio::time::timeout(limit * 5, activity.idle(limit)).await.is_ok() });
        let running = activity.begin();
        assert!(!is_idle(), "it waits for an answer");
        drop(running);
        assert!(is_idle());
    }
}
