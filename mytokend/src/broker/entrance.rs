// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may make requests: certificates of connections, enrolment, and what the log tells about both.

mod addresses;
mod in_time;

use std::net::IpAddr;
use std::sync::Arc;

use mytoken::ScheduleClock;
use rustls::ServerConnection;

use super::identity::attempts::{Attempt, network_name};
use super::identity::enrolment::{EnrolmentRefusal, Enrolments, RefusalKind};
use super::identity::{BrokerTls, NodeName, NotANode, Peer, Pinned, Proof};
use super::messages::{CertificateAnswer, EnrolRequest, RenewRequest};
use super::told::{StrangerLines, Told};
use crate::log::{Level, Log};

use addresses::KnownAddresses;
pub(super) use in_time::EntranceWork;

/// Who may make requests.
pub struct Entrance {
    tls: BrokerTls,
    enrolments: Enrolments,
    clock: Arc<dyn ScheduleClock>,
    log: Arc<Log>,
    memory: Arc<EntranceMemory>,
}

/// What was logged of refusals, and the addresses of nodes. It outlives a reload: a copy of a certificate that is known to be used elsewhere
/// must not be served again because the name servers are away, and who repeats a request is logged once.
#[derive(Default)]
pub struct EntranceMemory {
    told: Told,
    stranger_lines: StrangerLines,
    addresses: KnownAddresses,
}

impl Entrance {
    /// An entrance with these TLS settings.
    #[must_use]
    pub fn new(tls: BrokerTls, enrolments: Enrolments, clock: Arc<dyn ScheduleClock>, log: Arc<Log>) -> Self {
        Self { tls, enrolments, clock, log, memory: Arc::default() }
    }

    /// The same with the memory of the one before.
    #[must_use]
    pub fn with(self, memory: &Arc<EntranceMemory>) -> Self {
        Self { memory: Arc::clone(memory), ..self }
    }

    /// The TLS settings.
    #[must_use]
    pub fn tls(&self) -> &BrokerTls {
        &self.tls
    }

    /// The enrolled nodes, and how nodes enrol.
    #[must_use]
    pub fn enrolments(&self) -> &Enrolments {
        &self.enrolments
    }

    /// The node at the other end of a connection. `None`: it can only enrol.
    ///
    /// # Errors
    /// [`NotANode`], which is logged.
    pub fn peer(&self, connection: &ServerConnection, address: IpAddr) -> Result<Option<Peer>, NotANode> {
        let peer = self.tls.peer(connection);
        if let Err(refusal) = &peer {
            let text = format!("{}: a connection was refused: {refusal}", network_name(address));
            self.memory.stranger_lines.tell(&self.log, Level::Warning, &text, self.clock.elapsed());
        }
        peer
    }

    /// Whether a node may make requests now, as memory says. If not, [`Self::admit`] looks closer.
    #[must_use]
    pub fn is_admitted(&self, peer: &Peer) -> bool {
        self.enrolments.is_admitted(peer)
    }

    /// Whether a node may make requests now. It may write a file, for the first request of a node with a certificate of the site.
    ///
    /// # Errors
    /// [`EnrolmentRefusal`], which is logged.
    pub fn admit(&self, peer: &Peer) -> Result<(), EnrolmentRefusal> {
        match self.enrolments.admit(peer) {
            Ok(None) => Ok(()),
            Ok(Some(pinned)) => {
                self.enrolled(peer.node.as_str(), &Proof::Site, &pinned);
                Ok(())
            }
            Err(refusal) => Err(self.refused(peer, refusal)),
        }
    }

    /// Enrols a node, in an attempt that was begun. It runs programs and writes files.
    ///
    /// # Errors
    /// [`EnrolmentRefusal`], which is logged.
    pub fn enrol(
        &self,
        request: &EnrolRequest,
        address: IpAddr,
        attempt: Attempt,
    ) -> Result<CertificateAnswer, EnrolmentRefusal> {
        match self.enrolments.enrol(request, address, attempt) {
            Ok(enrolled) => {
                self.enrolled(request.node.as_str(), &enrolled.proof, &enrolled.pinned);
                Ok(CertificateAnswer { certificate: enrolled.certificate.pem })
            }
            Err(refusal) => Err(self.not_enrolled(&request.node, address, refusal)),
        }
    }

    /// Gives a node a new certificate for its key. It writes a file.
    ///
    /// # Errors
    /// [`EnrolmentRefusal`], which is logged.
    pub fn renew(&self, peer: &Peer, request: &RenewRequest) -> Result<CertificateAnswer, EnrolmentRefusal> {
        match self.enrolments.renew_by(request, peer) {
            Ok(certificate) => {
                self.log.line(Level::Info, &format!("node {}: its certificate was renewed", peer.node));
                Ok(CertificateAnswer { certificate: certificate.pem })
            }
            Err(refusal) => Err(self.not_renewed(peer, refusal)),
        }
    }

    /// Logs that a request is refused.
    fn refused(&self, peer: &Peer, refusal: EnrolmentRefusal) -> EnrolmentRefusal {
        self.tell(&peer.node, &format!("node {}: a request was refused: {refusal}", peer.node));
        refusal
    }

    /// Logs that a node is not enrolled.
    fn not_enrolled(&self, node: &NodeName, address: IpAddr, refusal: EnrolmentRefusal) -> EnrolmentRefusal {
        let text = format!("{}: the enrolment of the node {node} was refused: {refusal}", address.to_canonical());
        let level = if refusal.kind() == RefusalKind::Unavailable { Level::Error } else { Level::Warning };
        if refusal.is_to_log() {
            // A host may have as many addresses as it likes.
            self.memory.stranger_lines.tell(&self.log, level, &text, self.clock.elapsed());
        }
        refusal
    }

    /// Logs that a node gets no new certificate.
    fn not_renewed(&self, peer: &Peer, refusal: EnrolmentRefusal) -> EnrolmentRefusal {
        self.tell(&peer.node, &format!("node {}: no new certificate: {refusal}", peer.node));
        refusal
    }

    fn enrolled(&self, node: &str, proof: &Proof, pinned: &Pinned) {
        let by = match proof {
            Proof::Munge { address } => format!("by MUNGE, from {}", address.to_canonical()),
            Proof::Code => "with a one-time code".to_owned(),
            Proof::Site => "with a certificate of the site".to_owned(),
        };
        match pinned {
            Pinned::New => self.log.line(Level::Notice, &format!("node {node}: enrolled {by}")),
            Pinned::Again => {
                self.log.line(Level::Info, &format!("node {node}: enrolled again {by}, with the same key"));
            }
            Pinned::Replaced(_) => {
                self.log.line(Level::Warning, &format!("node {node}: enrolled {by}; another key of it was replaced"));
            }
        }
    }

    /// Whether a refusal of this node was logged. It then counts as logged.
    #[cfg(test)]
    pub(super) fn has_told(&self, node: &str, text: &str) -> bool {
        !self.memory.told.is_new_of(node, text, self.clock.elapsed())
    }

    /// Logs a refusal once an hour: a node repeats its requests.
    fn tell(&self, node: &NodeName, text: &str) {
        let now = self.clock.elapsed();
        self.memory.told.tell_left_out(&self.log, now);
        if self.memory.told.is_new_of(node.as_str(), text, now) {
            self.log.line(Level::Warning, text);
        }
    }
}
