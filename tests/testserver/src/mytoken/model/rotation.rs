// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rotation settings of a token (MT-43, MT-46).

use serde::{Deserialize, Serialize};

/// When a token is replaced by a successor, and when it becomes invalid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rotation {
    /// After an access token.
    #[serde(rename = "on_AT", skip_serializing_if = "std::ops::Not::not")]
    pub on_at: bool,
    /// After any other counted use.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub on_other: bool,
    /// Seconds that a token may stay unused; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub lifetime: i64,
    /// Whether the use of an outdated token revokes the whole tree.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub auto_revoke: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}
