// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens that were refused in a connection. ssh answers three prompts, and many clients send the same text each time; each exchange can
//! consume a use of the mytoken, and counts for the server's limit. Times (seconds since boot) are parameters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use mytoken::Secret;
use mytoken::random::random;
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;
use crate::service_state::ServiceState;

/// Maximum number of tokens that are kept. The oldest is dropped first. Each has cost a request, so the budget bounds them already.
const TOKENS_LIMIT: usize = 256;

/// How long a token is kept, in seconds; sshd's default `LoginGraceTime` is 120 (SSH-10).
const AGE_LIMIT: u64 = 600;

/// The tokens that were refused after a request, each with its connection. Only marks are kept: keyed hashes, because a transfer code of
/// eight letters could be found from a plain one. The key is random and lives as long as the marks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedTokens {
    /// In base64; absent while there are no tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    marks: Vec<Mark>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    at: u64,
    mark: String,
    /// What motley_cue said about the account of the token's holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<ServiceState>,
}

impl Mark {
    /// Whether it is still valid. A time in the future comes from an earlier boot.
    fn is_current(&self, now: u64) -> bool {
        self.at <= now && now - self.at < AGE_LIMIT
    }
}

impl RefusedTokens {
    /// Records that `token` was refused in `connection`; `state`: because motley_cue said this about the account.
    pub fn add(&mut self, connection: &str, token: &Secret, state: Option<ServiceState>, now: u64) {
        self.drop_expired(now);
        let key = self.key.get_or_insert_with(|| STANDARD_NO_PAD.encode(random::<[u8; 32]>())).clone();
        let mark = mark(&key, connection, token);
        self.marks.retain(|one| one.mark != mark);
        if self.marks.len() >= TOKENS_LIMIT {
            self.marks.remove(0);
        }
        self.marks.push(Mark { at: now, mark, state });
    }

    /// Whether `token` was refused in `connection`.
    #[must_use]
    pub fn contains(&self, connection: &str, token: &Secret, now: u64) -> bool {
        self.find(connection, token, now).is_some()
    }

    /// What `token` was refused with in `connection`, as far as it is kept: that the account must not be used, else that the token is
    /// repeated. `None`: it was not refused.
    pub(super) fn refusal(&self, connection: &str, token: &Secret, now: u64) -> Option<Refusal> {
        self.find(connection, token, now).map(|found| found.state.map_or(Refusal::Repeated, Refusal::NotActive))
    }

    fn find(&self, connection: &str, token: &Secret, now: u64) -> Option<&Mark> {
        let mark = mark(self.key.as_ref()?, connection, token);
        self.marks.iter().find(|one| one.mark == mark && one.is_current(now))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Drops old entries, and the key with the last one.
    pub(super) fn drop_expired(&mut self, now: u64) {
        self.marks.retain(|one| one.is_current(now));
        if self.marks.is_empty() {
            self.key = None;
        }
    }
}

/// The keyed hash of a token in a connection. The text of a connection holds no NUL.
fn mark(key: &str, connection: &str, token: &Secret) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(connection.as_bytes());
    context.update(&[0]);
    context.update(token.expose().as_bytes());
    STANDARD_NO_PAD.encode(context.sign())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    #[test]
    fn a_token_is_known_in_its_connection_for_a_while() {
        let mut tokens = RefusedTokens::default();
        assert!(!tokens.contains("a 1", &secret("AbCdEfGh"), 100));
        tokens.add("a 1", &secret("AbCdEfGh"), None, 100);
        tokens.add("a 1", &secret("AbCdEfGh"), None, 101);
        assert_eq!(tokens.marks.len(), 1);
        assert!(tokens.contains("a 1", &secret("AbCdEfGh"), 700));
        for (connection, token, now) in
            [("a 1", "AbCdEfGj", 101), ("a 2", "AbCdEfGh", 101), ("a 1", "AbCdEfGh", 701), ("a 1", "AbCdEfGh", 50)]
        {
            assert!(!tokens.contains(connection, &secret(token), now), "{connection} {token} {now}");
        }
        tokens.drop_expired(701);
        assert_eq!(tokens, RefusedTokens::default(), "the key goes with the last token");
        for number in 0..1_000 {
            tokens.add("a 1", &secret(&format!("token-{number}")), None, 800);
        }
        assert_eq!(tokens.marks.len(), TOKENS_LIMIT);
        assert!(tokens.contains("a 1", &secret("token-999"), 800));
    }

    #[test]
    fn a_repeated_token_keeps_what_is_known_of_a_suspension() {
        let mut tokens = RefusedTokens::default();
        for (token, state) in
            [("one", None), ("two", Some(ServiceState::Suspended)), ("three", Some(ServiceState::Limited))]
        {
            tokens.add("a 1", &secret(token), state, 100);
        }
        let read: RefusedTokens = serde_json::from_str(&serde_json::to_string(&tokens).unwrap()).unwrap();
        let refusal = |token: &str, now| read.refusal("a 1", &secret(token), now);
        assert_eq!(refusal("one", 101), Some(Refusal::Repeated));
        assert_eq!(refusal("two", 101), Some(Refusal::NotActive(ServiceState::Suspended)));
        assert_eq!(refusal("three", 101), Some(Refusal::NotActive(ServiceState::Limited)));
        assert_eq!((refusal("four", 101), refusal("two", 701)), (None, None));
    }

    #[test]
    fn two_ledgers_have_different_marks_for_a_token_and_none_holds_it() {
        let text = || {
            let mut tokens = RefusedTokens::default();
            tokens.add("a 1", &secret("AbCdEfGh"), None, 100);
            (serde_json::to_string(&tokens).unwrap(), tokens.marks[0].mark.clone())
        };
        let ((first, mark), (_, other)) = (text(), text());
        assert_ne!(mark, other);
        assert!(!first.contains("AbCdEfGh") && !first.contains("a 1"), "{first}");
        let read: RefusedTokens = serde_json::from_str(&first).unwrap();
        assert!(read.contains("a 1", &secret("AbCdEfGh"), 101));
    }
}
