// SPDX-License-Identifier: MIT OR Apache-2.0
//! Enrolment of a node at a broker, and the renewal of its certificate.
//!
//! The order of the steps is the defence: limits first, then the proof of identity, which is bound to the bytes of the request, then the
//! request itself, then the register, and the signature last.

mod messages;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mytoken::ScheduleClock;

use super::attempts::{Attempt, Attempts, TooMany};
use super::authority::{Authority, AuthorityError, DAY, SignedCertificate};
use super::codes::{CodeRefusal, CodeUse, Codes, ValidCode};
use super::munge::{Claim, ConnectionAddress, Munge, MungeRefusal, MungeUnavailable, NodeAddresses};
use super::node_name::NodeName;
use super::register::{Origin, PinRefusal, Pinned, Proof, Register, Repin};
use super::request::{self, CertificateRequest, RequestError};
use super::tls::{Peer, Signer};
use crate::broker::disk_work::DiskTrouble;

/// Enrols nodes. Its calls run programs and read files: not for a thread of the asynchronous runtime.
pub struct Enrolments {
    /// Signs the certificates.
    pub authority: Arc<Authority>,
    /// The nodes that are enrolled.
    pub register: Arc<Register>,
    /// The name of the cluster in slurm.conf.
    pub cluster: String,
    /// The programs of MUNGE. `None`: the site does not use it.
    pub munge: Option<Munge>,
    /// The addresses of nodes.
    pub resolver: Arc<dyn NodeAddresses>,
    /// Whether the connection must come from the node's address.
    pub check: ConnectionAddress,
    /// Whether MUNGE may replace a pinned key.
    pub repin: Repin,
    /// One-time codes.
    pub codes: Codes,
    /// Limits for each address.
    pub attempts: Attempts,
    /// The time.
    pub clock: Arc<dyn ScheduleClock>,
}

/// What a node sends to enrol.
#[derive(Clone, Copy)]
struct Application<'a> {
    /// The node that the sender wants to be.
    node: &'a NodeName,
    /// Its certificate request, DER.
    request: &'a [u8],
    /// How it proves who it is.
    proof: OfferedProof<'a>,
}

/// A proof that was not checked yet.
#[derive(Clone, Copy)]
enum OfferedProof<'a> {
    /// A MUNGE credential.
    Munge(&'a str),
    /// A one-time code.
    Code(&'a str),
}

/// A node that is enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Its certificate.
    pub certificate: SignedCertificate,
    /// What was done in the register. [`Pinned::Replaced`] is to be logged as a warning.
    pub pinned: Pinned,
    /// How it proved who it is.
    pub proof: Proof,
}

/// Why a node is not enrolled, or gets no new certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolmentRefusal {
    /// There were too many attempts.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// MUNGE does not prove who it is.
    #[error(transparent)]
    Munge(#[from] MungeRefusal),
    /// The code does not prove who it is.
    #[error(transparent)]
    Code(#[from] CodeRefusal),
    /// The request is not one.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The message has another form.
    #[error("the request to enrol has another form: {0}")]
    Form(
        /// What is wrong with it.
        &'static str,
    ),
    /// The register refuses.
    #[error(transparent)]
    Pin(#[from] PinRefusal),
    /// The site does not use MUNGE.
    #[error("this broker enrols nodes with one-time codes only: mytokenctl node code")]
    NoMunge,
    /// MUNGE cannot be asked.
    #[error(transparent)]
    Unavailable(#[from] MungeUnavailable),
    /// The authority cannot sign.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The node that wants a new certificate is not enrolled with its key any more.
    #[error("the node {node} is not enrolled with this key; it has to enrol again")]
    NotPinned {
        /// The node.
        node: NodeName,
    },
    /// Its certificate expired while the connection was open.
    #[error("the certificate of the node {node} has expired; it has to connect again with a new one")]
    Expired {
        /// The node.
        node: NodeName,
    },
    /// A certificate is renewed for the same key only.
    #[error("the request of the node {node} is for another key than its certificate")]
    OtherKey {
        /// The node.
        node: NodeName,
    },
    /// The disk does not answer.
    #[error(transparent)]
    Disk(#[from] DiskTrouble),
    /// The proof or the disk takes too long.
    #[error("the broker has not finished it within {seconds} s: its disk, its MUNGE or its name servers do not answer")]
    Late {
        /// How long it has waited.
        seconds: u64,
    },
    /// A new certificate would hardly last longer.
    #[error("the certificate of the node {node} cannot be prolonged yet")]
    NotDue {
        /// The node.
        node: NodeName,
    },
}

/// What a refusal means for the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// A later attempt with the same proof fails, too.
    Refused,
    /// It should wait for this time.
    Wait(Duration),
    /// The broker cannot decide now.
    Unavailable,
}

impl EnrolmentRefusal {
    /// What it means for the sender.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::TooMany(too_many) => RefusalKind::Wait(too_many.after),
            Self::Unavailable(_)
            | Self::Disk(_)
            | Self::Late { .. }
            | Self::Authority(_)
            | Self::Pin(PinRefusal::File(_))
            | Self::Code(CodeRefusal::File(_)) => RefusalKind::Unavailable,
            _ => RefusalKind::Refused,
        }
    }

    /// Whether no proof was looked at. Anybody can send such a message, and it costs nothing.
    fn is_without_proof(&self) -> bool {
        use RequestError::TooLong;
        matches!(self, Self::Form(_) | Self::NoMunge | Self::Munge(MungeRefusal::Malformed) | Self::Request(TooLong))
    }

    /// Whether it is to be logged: all are, but of a row of attempts that were too many only the first.
    #[must_use]
    pub fn is_to_log(&self) -> bool {
        !matches!(self, Self::TooMany(TooMany { first: false, .. }))
    }
}

/// A proof that holds.
enum Proven {
    Munge(IpAddr),
    Code(ValidCode),
}

impl Enrolments {
    /// Begins an attempt of a connection. It looks into memory only.
    ///
    /// # Errors
    /// [`EnrolmentRefusal::TooMany`].
    pub fn begin(&self, connection: IpAddr) -> Result<Attempt, EnrolmentRefusal> {
        Ok(self.attempts.begin(connection, self.clock.elapsed())?)
    }

    fn limited(
        &self,
        attempt: Attempt,
        enrol: impl FnOnce() -> Result<Enrolled, EnrolmentRefusal>,
    ) -> Result<Enrolled, EnrolmentRefusal> {
        match enrol() {
            Ok(enrolled) => {
                attempt.succeeded();
                Ok(enrolled)
            }
            Err(refusal) => {
                if refusal.kind() == RefusalKind::Unavailable {
                    attempt.not_counted();
                } else if refusal.is_without_proof() {
                    attempt.without_proof();
                }
                Err(refusal)
            }
        }
    }

    fn attempt(&self, application: &Application<'_>, connection: IpAddr) -> Result<Enrolled, EnrolmentRefusal> {
        let Application { node, request: der, .. } = *application;
        if der.len() > request::LONGEST {
            return Err(RequestError::TooLong.into());
        }
        let now = self.now();
        let proven = self.prove(application, connection, now)?;
        let request = CertificateRequest::read(der)?;
        let proof = match &proven {
            Proven::Munge(address) => Proof::Munge { address: *address },
            Proven::Code(_) => Proof::Code,
        };
        let (key, ends) = (request.key(), self.authority.node_end(now));
        if let Proven::Code(code) = proven {
            // A code must not be lost to a node that is enrolled already.
            let would = self.register.would_pin(node, key, &proof, ends, self.repin)?;
            match code.code_use() {
                // After `Begun`, the broker may have ended before the register had the key.
                CodeUse::Unused | CodeUse::Begun(_) => self.codes.take(node, code, key)?,
                // Its answer was lost: the disk was slow, or the connection ended.
                CodeUse::Finished(used) if used == key && would == Pinned::Again => {}
                CodeUse::Finished(_) => return Err(CodeRefusal::Invalid { node: node.clone() }.into()),
            }
        }
        let origin = Origin { proof: proof.clone(), address: Some(connection.to_canonical()) };
        let pinned = self.register.pin(node, key, origin, ends, self.repin)?;
        if proof == Proof::Code {
            self.codes.finish(node, key).map_err(CodeRefusal::from)?;
        }
        Ok(Enrolled { certificate: self.authority.sign_node(&request, node, now)?, pinned, proof })
    }

    fn prove(&self, application: &Application<'_>, connection: IpAddr, now: u64) -> Result<Proven, EnrolmentRefusal> {
        let node = application.node;
        match application.proof {
            OfferedProof::Code(code) => Ok(Proven::Code(self.codes.check(node, code, now)?)),
            OfferedProof::Munge(credential) => {
                let munge = self.munge.as_ref().ok_or(EnrolmentRefusal::NoMunge)?;
                let request = request::hash(application.request);
                let claim = Claim { cluster: &self.cluster, node, request, connection, check: self.check };
                Ok(Proven::Munge(munge.verify(credential, &claim, self.resolver.as_ref())??))
            }
        }
    }

    /// Whether a node is enrolled with its key, and its certificate has not expired, as memory says, see [`Register::knows`].
    #[must_use]
    pub fn is_admitted(&self, peer: &Peer) -> bool {
        self.now() <= peer.ends && self.register.knows(&peer.node, peer.key)
    }

    /// Whether a node may make requests: it is enrolled with its key, and its certificate has not expired. To be asked at each request,
    /// because a connection may outlast both. A node with a certificate of the site is enrolled here; then the result tells what was done
    /// in the register.
    ///
    /// # Errors
    /// [`EnrolmentRefusal`].
    pub fn admit(&self, peer: &Peer) -> Result<Option<Pinned>, EnrolmentRefusal> {
        let node = || peer.node.clone();
        if self.now() > peer.ends {
            return Err(EnrolmentRefusal::Expired { node: node() });
        }
        if self.register.is_pinned(&peer.node, peer.key) {
            return Ok(None);
        }
        match peer.signer {
            Signer::Cluster => Err(EnrolmentRefusal::NotPinned { node: node() }),
            Signer::Site => Ok(Some(self.register.pin(&peer.node, peer.key, Proof::Site, peer.ends, self.repin)?)),
        }
    }

    /// A new certificate for a node that shows its current one. The key stays the same.
    ///
    /// # Errors
    /// [`EnrolmentRefusal`].
    pub fn renew(&self, peer: &Peer, request: &[u8]) -> Result<SignedCertificate, EnrolmentRefusal> {
        let node = || peer.node.clone();
        let now = self.now();
        if !self.register.is_pinned(&peer.node, peer.key) {
            return Err(EnrolmentRefusal::NotPinned { node: node() });
        }
        let ends = self.authority.node_end(now);
        if ends < peer.ends.saturating_add(DAY) {
            return Err(EnrolmentRefusal::NotDue { node: node() });
        }
        let request = CertificateRequest::read(request)?;
        if request.key() != peer.key {
            return Err(EnrolmentRefusal::OtherKey { node: node() });
        }
        if !self.register.renewed(&peer.node, peer.key, ends)? {
            return Err(EnrolmentRefusal::NotPinned { node: node() });
        }
        Ok(self.authority.sign_node(&request, &peer.node, now)?)
    }

    fn now(&self) -> u64 {
        self.clock.unix_millis() / 1000
    }
}
