// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file of a node.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::broker::identity::key_hash::KeyHash;
use crate::broker::identity::node_name::NodeName;

/// Longest file in bytes.
pub(super) const LIMIT: usize = 4096;

/// The end of the names of files.
const SUFFIX: &str = ".json";

/// A node of the register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its name.
    pub node: NodeName,
    /// The key with which it is enrolled. `None`: it is blocked.
    pub key: Option<KeyHash>,
    /// When it was enrolled or blocked, Unix seconds.
    pub enrolled: u64,
    /// How it proved its identity. `None`: it is blocked.
    pub proof: Option<Proof>,
    /// Last second of its last certificate, Unix seconds.
    pub certificate_ends: u64,
    /// The address of the connection with which it enrolled. `None`: it is blocked, or has a certificate of the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

/// How and where a node has enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// How it proved its identity.
    pub proof: Proof,
    /// The address of its connection. `None`: it is not known.
    pub address: Option<IpAddr>,
}

impl From<Proof> for Origin {
    fn from(proof: Proof) -> Self {
        Self { proof, address: None }
    }
}

/// How a node proved its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// A MUNGE credential of root, made at this address.
    Munge {
        /// The address, as MUNGE tells it.
        address: IpAddr,
    },
    /// A one-time code.
    Code,
    /// A certificate of the site's authority.
    Site,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Munge { address } => write!(f, "MUNGE from {address}"),
            Self::Code => f.write_str("one-time code"),
            Self::Site => f.write_str("certificate of the site"),
        }
    }
}

impl NodeEntry {
    /// Whether the node is kept out.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.key.is_none()
    }

    /// Reads the file of `node`. The error is a part of a sentence.
    pub(super) fn parse(bytes: &[u8], node: &NodeName) -> Result<Self, String> {
        let entry: Self = serde_json::from_slice(bytes).map_err(|error| format!("it is damaged: {error}"))?;
        if entry.node == *node { Ok(entry) } else { Err(format!("it is about the node {}", entry.node)) }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // A struct of texts and numbers always has a JSON form.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text.into_bytes()
    }
}

/// The name of the file of a node.
pub(super) fn file_name(node: &NodeName) -> String {
    format!("{node}{SUFFIX}")
}

/// The node of a file. `None`: another file, such as one that is being written.
pub(super) fn node_of(file: &str) -> Option<NodeName> {
    file.strip_suffix(SUFFIX)?.parse().ok()
}
