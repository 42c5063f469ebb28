// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the certificates of nodes are used. Whoever has a copy of a certificate with its key is that node, as far as TLS goes. So the
//! address of the connection is compared with that of the enrolment, and with those of the node's name: a node may have several.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Entrance;
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
pub(super) struct KnownAddresses(Mutex<HashMap<NodeName, LookedUp>>);

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
        let LookedUp { found, at } = known.get(node)?;
        let age = now.saturating_sub(*at);
        let is_own = |own: &IpAddr| own.to_canonical() == address.to_canonical();
        match found {
            Ok(addresses) if addresses.iter().any(is_own) => (age < USABLE).then_some(Relation::Own),
            Ok(_) => (age < PAUSE).then_some(Relation::Other),
            Err(reason) => (age < PAUSE).then(|| Relation::Unknown(reason.clone())),
        }
    }

    fn keep(&self, node: &NodeName, found: io::Result<Vec<IpAddr>>, at: Duration) {
        let found = found.map_err(|error| error.to_string());
        self.known().insert(node.clone(), LookedUp { found, at });
    }

    fn known(&self) -> MutexGuard<'_, HashMap<NodeName, LookedUp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.addresses.relation(&peer.node, address, self.clock.elapsed()).is_none()
    }

    /// Asks the resolver for the addresses of a node.
    pub(super) fn look_up(&self, node: &NodeName) {
        let found = self.enrolments.resolver.addresses(node);
        self.addresses.keep(node, found, self.clock.elapsed());
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
        match self.addresses.relation(node, address, self.clock.elapsed()) {
            Some(Relation::Own) => {}
            Some(Relation::Other) if is_checked => {
                tell("its requests are refused, because its name does not have this address");
                return Err(MungeRefusal::OtherConnection { address, node: node.clone() }.into());
            }
            Some(Relation::Other) => tell("its requests are served, but its name does not have this address"),
            Some(Relation::Unknown(reason)) => {
                tell(&format!("its requests are served, but its name cannot be looked up: {reason}"));
            }
            None => tell("its requests are served, but the name servers do not answer"),
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
        known.keep(&node, Err(io::ErrorKind::TimedOut.into()), second * 70);
        assert_eq!(relation("10.0.0.1", second * 71), Some(Relation::Unknown("timed out".to_owned())));
        assert_eq!(relation("10.0.0.1", second * 130), None);
    }
}
