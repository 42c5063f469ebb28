// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a node may enrol with a key.

use mytoken::private_files::FileError;

use super::entry::{NodeEntry, Proof};
use crate::broker::identity::key_hash::KeyHash;
use crate::broker::identity::node_name::NodeName;

/// Whether MUNGE may replace a key that is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repin {
    /// Only root does, by removing the node.
    Refused,
    /// For nodes without a disk, which make a new key at each start. Whoever is root on a host with the address of a node can then take
    /// its place.
    Allowed,
}

/// What enrolment does to the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// The node was not enrolled.
    New,
    /// It was enrolled with the same key.
    Again,
    /// It was enrolled with this other key. To be logged.
    Replaced(KeyHash),
}

/// Why a node is not enrolled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinRefusal {
    /// It is enrolled with another key.
    #[error(
        "the node {node} is enrolled with another key; if its key was lost or it was installed again, remove it first with: mytokenctl node remove {node}"
    )]
    OtherKey {
        /// The node.
        node: NodeName,
    },
    /// Root keeps it out.
    #[error("the node {node} is blocked; to let it enrol again: mytokenctl node remove {node}")]
    Blocked {
        /// The node.
        node: NodeName,
    },
    /// Its file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Decides whether `node` may enrol with `key`. `existing` is its file, `ends` the last second of its new certificate.
///
/// # Errors
/// [`PinRefusal::OtherKey`], [`PinRefusal::Blocked`].
pub fn decide(
    existing: Option<&NodeEntry>,
    node: &NodeName,
    key: KeyHash,
    proof: &Proof,
    ends: u64,
    repin: Repin,
) -> Result<Pinned, PinRefusal> {
    let Some(existing) = existing else { return Ok(Pinned::New) };
    let Some(pinned) = existing.key else { return Err(PinRefusal::Blocked { node: node.clone() }) };
    if pinned == key {
        return Ok(Pinned::Again);
    }
    let replaceable = match proof {
        Proof::Munge { .. } => repin == Repin::Allowed,
        // A renewed certificate of a site usually has a new key. A connection with the one before must not take the place back.
        Proof::Site => existing.proof == Some(Proof::Site) && ends >= existing.certificate_ends,
        Proof::Code => false,
    };
    if replaceable { Ok(Pinned::Replaced(pinned)) } else { Err(PinRefusal::OtherKey { node: node.clone() }) }
}
