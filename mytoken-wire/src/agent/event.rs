// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events of a credential.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Serialize};

/// Something that happened to a credential: one line of `mytokenctl status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unix seconds; of a repeated event, the last time.
    pub time: u64,
    /// The kind of event.
    #[serde(rename = "what")]
    pub kind: EventKind,
    /// A sentence without secrets.
    pub text: String,
    /// How many times it happened without another event in between.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_once(times: &u32) -> bool {
    *times == 1
}

/// The kind of an event; on the wire one word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The sealed credential was opened.
    Opened,
    /// The first access token was written.
    Started,
    /// A new access token replaced the old one.
    Renewed,
    /// An answer brought the access token that is there already.
    Unchanged,
    /// A further job of the submission started on the node.
    Joined,
    /// The credential gives no access token now, but will again; the text says from when on.
    Waiting,
    /// An attempt to get an access token failed; the agent tries again.
    Retry,
    /// There will be no access token, or no further one.
    Refused,
    /// The access token expired before a new one came, and was removed.
    Expired,
    /// The job or session ended; its access token was removed.
    Removed,
    /// The job ended, but no epilog reported it to the agent.
    Missed,
    /// The sub-token was revoked.
    Revoked,
    /// The sub-token could not be revoked; it stays valid until it expires.
    Kept,
    /// Another node revokes the sub-token, or the files of an ended session stay.
    Left,
    /// The job was requeued, or other jobs of the submission wait or run; the sub-token stays valid.
    Requeued,
    /// The agent is finished with the credential.
    Dropped,
    /// The job has a new credential.
    Replaced,
    /// Something happened to one of the job's further files; the text names it.
    File,
    /// A kind that a newer agent sends.
    #[serde(untagged)]
    Other(String),
}

impl EventKind {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Opened => "opened",
            Self::Started => "started",
            Self::Renewed => "renewed",
            Self::Unchanged => "unchanged",
            Self::Joined => "joined",
            Self::Waiting => "waiting",
            Self::Retry => "retry",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Removed => "removed",
            Self::Missed => "missed",
            Self::Revoked => "revoked",
            Self::Kept => "kept",
            Self::Left => "left",
            Self::Requeued => "requeued",
            Self::Dropped => "dropped",
            Self::Replaced => "replaced",
            Self::File => "file",
            Self::Other(word) => word,
        }
    }
}

impl FromStr for EventKind {
    type Err = Infallible;

    fn from_str(word: &str) -> Result<Self, Infallible> {
        let word: StrDeserializer<'_, serde::de::value::Error> = word.into_deserializer();
        Ok(Self::deserialize(word).unwrap_or_else(|_| Self::Other(String::new())))
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_word_and_an_unknown_word_is_kept() {
        let words = "opened started renewed unchanged joined waiting retry refused expired removed missed revoked kept left \
                     requeued dropped replaced file";
        for word in words.split(' ') {
            let kind: EventKind = word.parse().unwrap();
            assert!(!matches!(kind, EventKind::Other(_)), "{word}");
            assert_eq!((kind.as_str(), serde_json::to_string(&kind).unwrap()), (word, format!("\"{word}\"")));
        }
        let line = r#"{"time":1,"what":"sublimed","text":"x"}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(event.kind, EventKind::Other("sublimed".into()));
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
    }
}
