// SPDX-License-Identifier: MIT OR Apache-2.0
//! The credential that renews the access token of a login session.

use serde::{Deserialize, Serialize};

use crate::Secret;

/// The credential that renews a session's access token, with the scopes and the audience to request. The PAM module, the hand-over
/// record and the agent's lease all use this type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalCredential {
    /// Name of the mytoken server in `mytoken.toml` at which `mytoken` is exchanged.
    pub server: String,
    /// The mytoken. It never rotates.
    pub mytoken: Secret,
    /// Scopes of the access token, separated by single blanks; empty: the scopes of the mytoken's clause.
    #[serde(default)]
    pub scope: String,
    /// Audience of the access token; empty: the request has no audience.
    #[serde(default)]
    pub audience: String,
}
