// SPDX-License-Identifier: MIT OR Apache-2.0
//! The access tokens that have logged in. Pure: times are parameters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use mytoken::random::random;
use serde::{Deserialize, Serialize};

use super::{TokenName, TokenUse};

/// Maximum number of tokens on a host. None is dropped before it expires: it could log in again.
pub const HOST_LIMIT: usize = 8_192;

/// Maximum number of tokens for one account, so that nobody can lock out the others.
pub const ACCOUNT_LIMIT: usize = 512;

/// The form of the file.
const FORM: u32 = 1;

/// A moment, by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Unix seconds. Tokens expire by this clock, and it can be set back.
    pub unix: u64,
    /// Seconds since boot.
    pub uptime: u64,
}

/// The tokens. Only keyed hashes are kept. The key is random and lives as long as they do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsedTokens {
    v: u32,
    /// In base64; absent while there are no tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    uses: Vec<Use>,
}

/// A use. Short names: a busy host has thousands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Use {
    /// The hash, in base64.
    #[serde(rename = "h")]
    hash: String,
    /// The account.
    #[serde(rename = "u")]
    uid: u32,
    /// Until when the token could log in again, Unix seconds.
    #[serde(rename = "x")]
    until: u64,
    /// When it logged in, seconds since boot.
    #[serde(rename = "b")]
    began: u64,
    /// The same end as `until`, in seconds since boot.
    #[serde(rename = "e")]
    end: u64,
}

impl Use {
    /// Whether the token could log in again by one of the clocks. A time since boot in the future comes from an earlier boot.
    fn is_current(&self, now: Now) -> bool {
        now.unix < self.until || (self.began <= now.uptime && now.uptime < self.end)
    }

    /// Seconds until it is dropped.
    fn remaining(&self, now: Now) -> u64 {
        self.until.saturating_sub(now.unix).max(self.end.saturating_sub(now.uptime)).max(1)
    }
}

/// Why a use cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRecorded {
    /// The token was used before.
    Used,
    /// The account has no room.
    Account {
        /// Seconds until it has.
        wait: u64,
    },
    /// The host has no room.
    Host {
        /// Seconds until it has.
        wait: u64,
    },
}

impl Default for UsedTokens {
    fn default() -> Self {
        Self { v: FORM, key: None, uses: Vec::new() }
    }
}

impl UsedTokens {
    /// Reads the file. `None`: it is damaged, or of another form.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|tokens: &Self| tokens.v == FORM)
    }

    /// Whether the token was used.
    #[must_use]
    pub fn contains(&self, name: &TokenName<'_>, now: Now) -> bool {
        let Some(key) = &self.key else { return false };
        let hash = hash(key, name);
        self.uses.iter().any(|one| one.hash == hash && one.is_current(now))
    }

    /// Records a use.
    ///
    /// # Errors
    /// [`NotRecorded`].
    pub fn add(&mut self, token: TokenUse<'_>, now: Now) -> Result<(), NotRecorded> {
        self.drop_expired(now);
        if self.contains(&token.name, now) {
            return Err(NotRecorded::Used);
        }
        let of_account = || self.uses.iter().filter(|one| one.uid == token.uid);
        if of_account().count() >= ACCOUNT_LIMIT {
            return Err(NotRecorded::Account { wait: wait(of_account(), now) });
        }
        if self.uses.len() >= HOST_LIMIT {
            return Err(NotRecorded::Host { wait: wait(self.uses.iter(), now) });
        }
        let key = self.key.get_or_insert_with(|| STANDARD_NO_PAD.encode(random::<[u8; 32]>()));
        let hash = hash(key, &token.name);
        let end = now.uptime.saturating_add(token.until.saturating_sub(now.unix));
        self.uses.push(Use { hash, uid: token.uid, until: token.until, began: now.uptime, end });
        Ok(())
    }

    /// Drops tokens that cannot log in any more, and the key with the last one.
    fn drop_expired(&mut self, now: Now) {
        self.uses.retain(|one| one.is_current(now));
        if self.uses.is_empty() {
            self.key = None;
        }
    }
}

fn wait<'a>(uses: impl Iterator<Item = &'a Use>, now: Now) -> u64 {
    uses.map(|one| one.remaining(now)).min().unwrap_or(1)
}

/// The first 128 bits of the keyed hash: enough for some thousand names, and half of the file.
fn hash(key: &str, name: &TokenName<'_>) -> String {
    let hash = name.hash(key.as_bytes());
    STANDARD_NO_PAD.encode(hash.as_ref().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Now = Now { unix: 1_000_000, uptime: 100 };

    fn after(seconds: u64) -> Now {
        Now { unix: START.unix + seconds, uptime: START.uptime + seconds }
    }

    fn add(tokens: &mut UsedTokens, jti: &str, uid: u32, now: Now) -> Result<(), NotRecorded> {
        let name = TokenName::jti("op", jti);
        tokens.add(TokenUse { name, uid, until: START.unix + 3_600 }, now)
    }

    #[test]
    fn a_token_is_used_once_until_it_expires() {
        let mut tokens = UsedTokens::default();
        assert_eq!(add(&mut tokens, "one", 1, START), Ok(()));
        assert_eq!(add(&mut tokens, "one", 1, START), Err(NotRecorded::Used));
        assert_eq!(add(&mut tokens, "one", 2, after(3_599)), Err(NotRecorded::Used), "another account");
        assert_eq!(add(&mut tokens, "two", 1, START), Ok(()));
        assert_eq!(add(&mut tokens, "one", 1, after(3_600)), Ok(()), "nobody accepts it any more");
        assert_eq!(tokens.uses.len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_does_not_free_a_token() {
        let name = TokenName::jti("op", "one");
        let mut tokens = UsedTokens::default();
        add(&mut tokens, "one", 1, START).unwrap();
        for (unix, uptime, known) in [
            // Set forward by a day, for ten seconds: somebody else logs in meanwhile.
            (START.unix + 86_410, START.uptime + 10, true),
            (START.unix + 20, START.uptime + 20, true),
            // Set back by an hour.
            (START.unix - 3_600 + 3_700, START.uptime + 3_700, true),
            // After a boot, if the file is still there.
            (START.unix + 3_700, 7, false),
            (START.unix + 3_600, START.uptime + 3_600, false),
        ] {
            let now = Now { unix, uptime };
            if known {
                let _ = add(&mut tokens, &format!("other {uptime}"), 2, now);
            }
            assert_eq!(tokens.contains(&name, now), known, "{now:?}");
        }
    }

    #[test]
    fn the_memory_is_bounded_and_one_account_cannot_fill_it() {
        let mut tokens = UsedTokens::default();
        for number in 0..ACCOUNT_LIMIT {
            add(&mut tokens, &format!("1 {number}"), 1, START).unwrap();
        }
        assert_eq!(add(&mut tokens, "more", 1, after(600)), Err(NotRecorded::Account { wait: 3_000 }));
        assert_eq!(add(&mut tokens, "1 0", 1, START), Err(NotRecorded::Used));
        for number in ACCOUNT_LIMIT..HOST_LIMIT {
            let uid = 2 + u32::try_from(number % 16).unwrap();
            add(&mut tokens, &format!("{uid} {number}"), uid, START).unwrap();
        }
        assert_eq!(add(&mut tokens, "more", 99, after(600)), Err(NotRecorded::Host { wait: 3_000 }));
        let bytes = serde_json::to_vec(&tokens).unwrap();
        assert!(bytes.len() < super::super::file::SIZE_LIMIT, "{}", bytes.len());
        assert_eq!(add(&mut tokens, "more", 99, after(3_600)), Ok(()));
    }

    #[test]
    fn neither_a_token_nor_its_id_is_in_the_file() {
        let text = || {
            let mut tokens = UsedTokens::default();
            add(&mut tokens, "an-id-of-a-token", 1, START).unwrap();
            serde_json::to_string(&tokens).unwrap()
        };
        let (one, other) = (text(), text());
        assert!(!one.contains("an-id-of-a-token") && one != other, "{one}");
        let read = UsedTokens::parse(one.as_bytes()).unwrap();
        assert!(read.contains(&TokenName::jti("op", "an-id-of-a-token"), START));
        for damaged in ["", "{}", r#"{"v":2,"uses":[]}"#, &one[1..]] {
            assert_eq!(UsedTokens::parse(damaged.as_bytes()), None, "{damaged}");
        }
    }
}
