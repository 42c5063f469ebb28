// SPDX-License-Identifier: MIT OR Apache-2.0
//! The name of a node, as Slurm has it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::jobs::host_list::LONGEST_NAME;

/// The name of a node in slurm.conf: letters, digits, `-`, `_` and `.`. It begins and ends with a letter or digit and has no two dots in a
/// row, so it is also a safe name of a file. Slurm distinguishes capital letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// Why a text is not the name of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{shown}\" is not the name of a node: it has at most {LONGEST_NAME} letters, digits, '-', '_' and '.', and begins and ends with a letter or digit"
)]
pub struct NodeNameError {
    shown: String,
}

/// Before the name in a node's certificate. It is a URI, because brokers have DNS names and addresses: no TLS library compares a URI with
/// the name of a server.
const URI: &str = "mytoken:node:";

impl NodeName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name by which Slurm usually knows this host: the host's own name without its domain.
    ///
    /// # Errors
    /// [`NodeNameError`].
    pub fn of_this_host() -> Result<Self, NodeNameError> {
        let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.split('.').next().unwrap_or_default().parse()
    }

    /// The URI in the certificate of this node.
    #[must_use]
    pub fn to_uri(&self) -> String {
        format!("{URI}{self}")
    }

    /// The node of a URI in a certificate.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<Self> {
        uri.strip_prefix(URI)?.parse().ok()
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        let ends_well = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let valid = text.len() <= LONGEST_NAME
            && ends_well(text.bytes().next())
            && ends_well(text.bytes().last())
            && text.bytes().all(known)
            && !text.contains("..");
        if valid { Ok(Self(text.to_owned())) } else { Err(NodeNameError { shown: mytoken_wire::printable(text, 80) }) }
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;

    fn try_from(text: String) -> Result<Self, NodeNameError> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jobs::host_list;

    #[test]
    fn names_of_nodes_are_read_and_nothing_else() {
        for name in ["n1", "N1", "node-07.rack_2.example.org", "7", &"n".repeat(64)] {
            assert_eq!(name.parse::<NodeName>().unwrap().as_str(), name);
        }
        let long = "n".repeat(65);
        for wrong in [
            "", ".", "..", ".n1", "n1.", "n1-", "-n1", "_n", "n1/..", "a..b", "n[1-2]", "n1,n2", "n 1", "n1\n", "nö",
            &long,
        ] {
            let error = wrong.parse::<NodeName>().unwrap_err().to_string();
            assert!(error.contains("is not the name of a node") && !error.contains('\n'), "{error}");
            assert!(serde_json::from_value::<NodeName>(wrong.into()).is_err());
        }
    }

    #[test]
    fn a_uri_of_another_form_is_no_node() {
        assert_eq!("n1".parse::<NodeName>().unwrap().to_uri(), "mytoken:node:n1");
        for wrong in
            ["n1", "mytoken:node:", "mytoken:node:n1/x", "MYTOKEN:node:n1", "mytoken:node:n%31", "mytoken:broker:n1"]
        {
            assert_eq!(NodeName::from_uri(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_one_name_of_a_host_list_and_one_uri(text in "[-a-zA-Z0-9._\\[\\],/ ]{0,70}") {
            if let Ok(name) = text.parse::<NodeName>() {
                prop_assert_eq!(host_list::position(&text, &text), Some(0));
                prop_assert_eq!(host_list::first(&text), Some(text.clone()));
                prop_assert_eq!(NodeName::from_uri(&name.to_uri()), Some(name));
            }
        }
    }
}
