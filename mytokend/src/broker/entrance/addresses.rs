// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the certificates of nodes are used. Whoever has a copy of a certificate with its key is that node, as far as TLS goes. So the
//! address of the connection is compared with that of the enrolment, and with those of the node's name: a node may have several.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Entrance;
use crate::broker::disk_work::DiskWork;
use crate::broker::identity::enrolment::EnrolmentRefusal;
use crate::broker::identity::munge::{ConnectionAddress, MungeRefusal};
use crate::broker::identity::register::Origin;
use crate::broker::identity::{NodeName, Peer, Proof};

/// For how long the addresses of a name count.
const USABLE: Duration = Duration::from_secs(3600);

/// Shortest time between two questions about one name: somebody may go on connecting from an address that it does not have.
const PAUSE: Duration = Duration::from_secs(60);

/// The addresses of the names of nodes that have connected from another address than at their enrolment.
#[derive(Debug, Default)]
pub(super) struct KnownAddresses {
    known: Mutex<HashMap<NodeName, LookedUp>>,
    running: Mutex<HashMap<NodeName, RunningLookUp>>,
}

/// A look-up that runs in a thread, which holds the other end.
#[derive(Debug, Clone)]
pub(super) struct RunningLookUp(watch::Receiver<()>);

impl RunningLookUp {
    /// Waits for its end.
    pub(super) async fn end(mut self) {
        while self.0.changed().await.is_ok() {}
    }

    fn has_ended(&self) -> bool {
        self.0.has_changed().is_err()
    }
}

/// The answer about a name, or why there is none, and when that was, elapsed time.
#[derive(Debug)]
struct LookedUp {
    found: Result<Vec<IpAddr>, String>,
    at: Duration,
}

/// What an address is to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Relation {
    /// Its name has it.
    Own,
    /// Its name has others.
    Other,
    /// The name cannot be looked up.
    Unknown(String),
}

impl KnownAddresses {
    /// What this address is to the node at `now`, elapsed time. `None`: its name is to be looked up.
    fn relation(&self, node: &NodeName, address: IpAddr, now: Duration) -> Option<Relation> {
        let known = self.known();
        let known = known.get(node)?;
        let relation = known.relation(address);
        let usable = if relation == Relation::Own { USABLE } else { PAUSE };
        (now.saturating_sub(known.at) < usable).then_some(relation)
    }

    /// What this address was to the node, when its name was looked up last.
    fn last_relation(&self, node: &NodeName, address: IpAddr) -> Option<Relation> {
        self.known().get(node).map(|known| known.relation(address))
    }

    fn keep(&self, node: &NodeName, found: io::Result<Vec<IpAddr>>, at: Duration) {
        let found = found.map_err(|error| error.to_string());
        self.known().insert(node.clone(), LookedUp { found, at });
    }

    /// The resolver has not answered yet. That does not replace addresses: who waits until they are old must not be served for that.
    fn keep_late(&self, node: &NodeName, at: Duration) {
        let mut known = self.known();
        if known.get(node).is_none_or(|known| known.found.is_err()) {
            known.insert(node.clone(), LookedUp { found: Err("the name servers do not answer".to_owned()), at });
        }
    }

    /// The look-up of this name that runs. If there is none, `begin` begins one, which ends when it drops the sender. `None`: it cannot.
    fn running(&self, node: &NodeName, begin: impl FnOnce(watch::Sender<()>) -> bool) -> Option<RunningLookUp> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, look_up| !look_up.has_ended());
        if let Some(look_up) = running.get(node) {
            return Some(look_up.clone());
        }
        let (sender, receiver) = watch::channel(());
        let look_up = RunningLookUp(receiver);
        begin(sender).then(|| running.entry(node.clone()).or_insert(look_up).clone())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<NodeName, LookedUp>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LookedUp {
    fn relation(&self, address: IpAddr) -> Relation {
        let is_own = |own: &IpAddr| own.to_canonical() == address.to_canonical();
        match &self.found {
            Ok(addresses) if addresses.iter().any(is_own) => Relation::Own,
            Ok(_) => Relation::Other,
            Err(reason) => Relation::Unknown(reason.clone()),
        }
    }
}

impl Entrance {
    /// How a node has enrolled, if it connects from another address now. `None`: it is the same one, or says nothing. A site's certificate
    /// may be used wherever the site gives it to the host.
    pub(super) fn other_origin(&self, peer: &Peer, address: IpAddr) -> Option<Origin> {
        let origin = self.enrolments.register.origin(&peer.node)?;
        match (&origin.proof, origin.address) {
            (Proof::Site, _) | (Proof::Code, None) => None,
            (_, Some(enrolled)) if enrolled.to_canonical() == address.to_canonical() => None,
            _ => Some(origin),
        }
    }

    /// Whether the name of a node is to be looked up before [`Self::judge_address`].
    pub(super) fn is_to_look_up(&self, peer: &Peer, address: IpAddr) -> bool {
        self.memory.addresses.relation(&peer.node, address, self.clock.elapsed()).is_none()
    }

    /// Asks the resolver for the addresses of a node, in one of these threads, unless it is being asked. `None`: there is no free thread.
    pub(super) fn look_up_once(self: &Arc<Self>, node: &NodeName, threads: &DiskWork) -> Option<RunningLookUp> {
        self.memory.addresses.running(node, |running| {
            let (own, node) = (Arc::clone(self), node.clone());
            threads.begin(move || {
                let found = own.enrolments.resolver.addresses(&node);
                own.memory.addresses.keep(&node, found, own.clock.elapsed());
                drop(running);
            })
        })
    }

    /// A request has waited long enough for the addresses of its node. The next ones do not wait.
    pub(super) fn resolver_is_late(&self, node: &NodeName) {
        self.memory.addresses.keep_late(node, self.clock.elapsed());
    }

    /// Whether a node that has enrolled elsewhere may make requests from this address. Name servers that do not answer keep no node out.
    ///
    /// # Errors
    /// [`MungeRefusal::OtherConnection`], which is logged.
    pub(super) fn judge_address(&self, peer: &Peer, address: IpAddr, origin: &Origin) -> Result<(), EnrolmentRefusal> {
        let (node, address) = (&peer.node, address.to_canonical());
        let enrolled = origin.address.map(|enrolled| enrolled.to_canonical().to_string());
        let enrolled = enrolled.unwrap_or_else(|| "an address that is not known".to_owned());
        let tell = |what: &str| self.tell(node, &format!("node {node} at {address}, enrolled at {enrolled}: {what}"));
        let is_checked =
            self.enrolments.check == ConnectionAddress::Checked && matches!(origin.proof, Proof::Munge { .. });
        let relation = self.memory.addresses.relation(node, address, self.clock.elapsed());
        // While the name is looked up, its last addresses count.
        match relation.or_else(|| self.memory.addresses.last_relation(node, address)) {
            Some(Relation::Own) => {}
            Some(Relation::Other) if is_checked => {
                tell("its requests are refused, because its name does not have this address");
                return Err(MungeRefusal::OtherConnection { address, node: node.clone() }.into());
            }
            Some(Relation::Other) => tell("its requests are served, but its name does not have this address"),
            Some(Relation::Unknown(reason)) => {
                tell(&format!("its requests are served, but its name cannot be looked up: {reason}"));
            }
            None => tell("its requests are served, but its name is not looked up yet"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_a_name_are_those_of_the_node_and_others_are_asked_for_seldom() {
        let (known, node) = (KnownAddresses::default(), "n1".parse().unwrap());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let relation = |text: &str, now| known.relation(&node, address(text), now);
        assert_eq!(relation("10.0.0.1", second), None);
        known.keep(&node, Ok(vec![address("10.0.0.1"), address("2001:db8::1")]), second);
        for own in ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"] {
            assert_eq!(relation(own, second * 2), Some(Relation::Own), "{own}");
            assert_eq!((relation(own, hour), relation(own, hour + second)), (Some(Relation::Own), None));
        }
        // The same network, too.
        for other in ["10.0.0.2", "2001:db8::2"] {
            assert_eq!(relation(other, second * 60), Some(Relation::Other), "{other}");
            assert_eq!(relation(other, second * 61), None, "it may have got this address");
        }
        assert_eq!(known.relation(&"n2".parse().unwrap(), address("10.0.0.1"), second), None);
        let last = |text: &str| known.last_relation(&node, address(text));
        known.keep_late(&node, second * 65);
        assert_eq!((last("10.0.0.1"), last("10.0.0.2")), (Some(Relation::Own), Some(Relation::Other)));
        assert_eq!(relation("10.0.0.2", second * 65), None, "who waits is not served for that");
        known.keep(&node, Err(io::ErrorKind::TimedOut.into()), second * 70);
        assert_eq!(relation("10.0.0.1", second * 71), Some(Relation::Unknown("timed out".to_owned())));
        assert_eq!(relation("10.0.0.1", second * 130), None);
        known.keep_late(&node, second * 131);
        let late = Some(Relation::Unknown("the name servers do not answer".to_owned()));
        assert_eq!((relation("10.0.0.1", second * 132), relation("10.0.0.1", second * 191)), (late, None));
    }

    #[test]
    fn a_name_is_looked_up_by_one_at_a_time() {
        let (known, [n1, n2]) = (KnownAddresses::default(), ["n1", "n2"].map(|name| name.parse::<NodeName>().unwrap()));
        let mut senders = Vec::new();
        let mut begun = |node: &NodeName| {
            let before = senders.len();
            let running = known.running(node, |sender| {
                senders.push(sender);
                true
            });
            assert!(running.is_some());
            senders.len() > before
        };
        assert_eq!([begun(&n1), begun(&n1), begun(&n2)], [true, false, true]);
        senders.clear();
        assert!(known.running(&n1, |_| false).is_none(), "there is no free thread");
        assert!(known.running(&n1, |_| true).is_some(), "the earlier look-up has ended");
    }
}
