// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a credential encodes.

use mytoken_wire::hex;

use crate::broker::identity::node_name::NodeName;

/// The text that a credential for this request must encode, to the last byte. `request` is the SHA-256 of the certificate request.
#[must_use]
pub fn payload(cluster: &str, node: &NodeName, request: &[u8; 32]) -> String {
    // A name with a line break would be two lines.
    let cluster = mytoken_wire::printable(cluster, 200);
    format!("mytoken enrolment 1\ncluster {cluster}\nnode {node}\nrequest {}\n", hex::encode(request))
}
