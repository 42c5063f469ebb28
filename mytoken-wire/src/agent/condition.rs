// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is the matter with the access token of a job or session.

use serde::{Deserialize, Serialize};

/// The condition of an access token: what is on disk, and what the server last said. On the wire, and in `mytokenctl status --json`, one
/// word that never changes its meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The file holds a valid access token, and it is renewed.
    Valid,
    /// The file holds a valid access token, and nothing can renew it: the session has no mytoken.
    NotRenewed,
    /// The first access token was requested and has not come yet.
    Pending,
    /// The credential gives no access token now, but will again.
    Waiting,
    /// The server gave no valid answer. The file may still hold a valid access token.
    Outage,
    /// The agent has written the file, and it holds no valid access token any more: somebody removed or changed it.
    FileMissing,
    /// There will be no further access token.
    Refused,
    /// The access token was removed on request, and the server has not revoked the credential yet.
    Revoking,
    /// The credential was revoked.
    Revoked,
    /// The job or session has ended here.
    Ended,
    /// A condition that a newer agent sends.
    #[serde(untagged)]
    Other(String),
}

impl Condition {
    /// Whether a running job or session can use its access token.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Valid | Self::NotRenewed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_is_a_word_and_an_unknown_one_is_kept() {
        for word in [
            "valid",
            "not_renewed",
            "pending",
            "waiting",
            "outage",
            "file_missing",
            "refused",
            "revoking",
            "revoked",
            "ended",
        ] {
            let condition: Condition = serde_json::from_str(&format!("\"{word}\"")).unwrap();
            assert!(!matches!(condition, Condition::Other(_)), "{word}");
            assert_eq!(serde_json::to_string(&condition).unwrap(), format!("\"{word}\""));
        }
        let newer: Condition = serde_json::from_str("\"frozen\"").unwrap();
        assert_eq!((newer.is_good(), newer), (false, Condition::Other("frozen".into())));
    }
}
