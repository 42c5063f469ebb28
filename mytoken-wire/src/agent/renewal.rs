// SPDX-License-Identifier: MIT OR Apache-2.0
//! What renews the access token of a login session.

use serde::{Deserialize, Serialize};

use crate::Secret;

/// The credential that renews a session's access token, and what to ask for with it. It is the same record from the login in the PAM
/// module to the agent's lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalCredential {
    /// Name of the configured mytoken server (`mytoken.toml`) at which `mytoken` is exchanged.
    pub server: String,
    /// The mytoken. It never rotates.
    pub mytoken: Secret,
    /// Scopes of the access token, separated by single blanks; empty: what the mytoken's clause says.
    #[serde(default)]
    pub scope: String,
    /// Audience of the access token; empty: the request names none.
    #[serde(default)]
    pub audience: String,
}
