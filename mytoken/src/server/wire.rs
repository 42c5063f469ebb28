// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server's answer with a mytoken, and the successor of a rotated mytoken in any answer.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{OnRotation, Server};
use crate::capabilities::Capabilities;
use crate::http::HttpAnswer;
use crate::restrictions::{self, Clause};
use crate::server::ServerError;
use crate::token::{self, Rotation};
use crate::{Error, Secret};

/// A mytoken (or a code for it) with the rights that the server granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The mytoken, or a code for it.
    pub mytoken: Secret,
    /// The form of `mytoken`.
    pub kind: GrantedKind,
    /// Its clauses; empty: unrestricted.
    pub restrictions: Vec<Clause>,
    /// Its capabilities.
    pub capabilities: Capabilities,
    /// When it rotates; `None`: never. Taken from the token itself if the answer does not contain it (MT-36).
    pub rotation: Option<Rotation>,
    /// Expiry of the mytoken, Unix seconds; `None`: it does not expire.
    pub expires_at: Option<u64>,
    /// Expiry of the code, Unix seconds; only for [`GrantedKind::TransferCode`].
    pub code_expires_at: Option<u64>,
    /// Public handle for managing the token.
    pub mom_id: String,
}

impl Granted {
    /// Whether any use replaces the token.
    #[must_use]
    pub fn rotates(&self) -> bool {
        self.rotation.is_some_and(|rotation| rotation.rotates())
    }

    /// The part that is broader than requested, if any. Check it after a login: the person can widen everything on the consent page,
    /// and if the provider grants none of the requested values, the bound is removed.
    #[must_use]
    pub fn broader_than(&self, clauses: &[Clause], capabilities: &Capabilities) -> Option<String> {
        let beyond = self.capabilities.beyond(capabilities);
        if !beyond.is_empty() {
            return Some(format!("capabilities {beyond}"));
        }
        if restrictions::within(&self.restrictions, clauses) {
            return None;
        }
        let mut names: Vec<&str> = match (self.restrictions.as_slice(), clauses) {
            ([], [only]) => Clause::default().broader_in(only),
            ([own], [only]) => own.broader_in(only),
            _ => Vec::new(),
        };
        names.truncate(4);
        Some(if names.is_empty() { "restrictions".to_owned() } else { format!("restriction {}", names.join(", ")) })
    }
}

/// The form of a mytoken in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantedKind {
    /// The JWT.
    Token,
    /// A short alias with the same rights.
    ShortToken,
    /// A one-time code for the mytoken.
    TransferCode,
}

/// Why an answer with a mytoken cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerFault {
    #[error("neither a mytoken nor a code")]
    NoToken,
    #[error("an empty mytoken")]
    EmptyToken,
    /// This member does not have the documented form.
    #[error("{0} cannot be read")]
    Member(&'static str),
}

/// The answer as sent. Members of any form are accepted, so that the token can be revoked even if the rest cannot be read.
#[derive(Deserialize)]
pub(super) struct MytokenAnswer {
    #[serde(default)]
    mytoken: Option<Secret>,
    #[serde(default)]
    transfer_code: Option<Secret>,
    #[serde(default)]
    mytoken_type: Option<String>,
    #[serde(default)]
    mom_id: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    #[serde(default)]
    restrictions: Value,
    #[serde(default)]
    capabilities: Value,
    #[serde(default)]
    rotation: Value,
}

impl MytokenAnswer {
    /// The token or code, whatever else is wrong.
    pub(super) fn secret(&self) -> Option<&Secret> {
        self.mytoken.as_ref().or(self.transfer_code.as_ref()).filter(|secret| !secret.is_empty())
    }

    /// Reads the rest.
    pub(super) fn granted(&self, now: u64) -> Result<Granted, AnswerFault> {
        let (mytoken, kind) = match (&self.mytoken, &self.transfer_code, self.mytoken_type.as_deref()) {
            (Some(token), None, Some("token") | None) => (token, GrantedKind::Token),
            (Some(token), None, Some("short_token")) => (token, GrantedKind::ShortToken),
            (None, Some(code), Some("transfer_code") | None) => (code, GrantedKind::TransferCode),
            _ => return Err(AnswerFault::NoToken),
        };
        if mytoken.is_empty() {
            return Err(AnswerFault::EmptyToken);
        }
        let restrictions: Vec<Clause> = member(&self.restrictions, "restrictions")?;
        let own = token::unverified_claims(mytoken);
        let rotation = match member::<Option<Rotation>>(&self.rotation, "rotation")? {
            // MT-36: the answer to a redeemed code does not contain it.
            None => own.as_ref().and_then(|claims| claims.unverified().rotation),
            some => some,
        };
        let (expires_at, code_expires_at) = if kind == GrantedKind::TransferCode {
            (restrictions::latest_exp(&restrictions), self.expires_in.map(|seconds| now.saturating_add(seconds)))
        } else {
            let expires_at = self.expires_in.map(|seconds| now.saturating_add(seconds));
            // `expires_in` is also missing for tokens that are already expired (MT-24).
            (expires_at.or_else(|| restrictions::latest_exp(&restrictions)), None)
        };
        Ok(Granted {
            mytoken: mytoken.clone(),
            kind,
            restrictions,
            capabilities: member(&self.capabilities, "capabilities")?,
            rotation,
            expires_at,
            code_expires_at,
            mom_id: self.mom_id.clone().unwrap_or_default(),
        })
    }
}

fn member<T: for<'de> Deserialize<'de> + Default>(value: &Value, name: &'static str) -> Result<T, AnswerFault> {
    if value.is_null() {
        return Ok(T::default());
    }
    T::deserialize(value).map_err(|_| AnswerFault::Member(name))
}

/// Longest lifetime that is accepted from a server, in seconds: a hundred years.
const LONGEST: u64 = 100 * 366 * 86_400;

/// Reads a lifetime such as `expires_in` in seconds. Zero, a negative number and any other value mean "unknown" and are not an error:
/// the rest of the answer is still needed, because it may have cost a use.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
    let whole = |number: f64| (1.0..1e15).contains(&number).then_some(number as u64);
    let seconds = value.as_u64().or_else(|| value.as_f64().and_then(whole));
    Ok(seconds.filter(|seconds| (1..=LONGEST).contains(seconds)))
}

#[derive(Deserialize)]
struct Update {
    #[serde(default)]
    token_update: Option<Successor>,
    /// The name in the server's documentation. The server sends `token_update`.
    #[serde(default)]
    updated_token: Option<Successor>,
}

#[derive(Deserialize)]
struct Successor {
    mytoken: Secret,
}

impl Server<'_> {
    /// Stores the successor if the answer contains one. Must be called before anything else is done with the answer.
    pub(super) fn store_successor(&self, answer: &HttpAnswer, on_rotation: OnRotation<'_>) -> Result<(), Error> {
        let update: Update = match answer.json() {
            Ok(update) => update,
            Err(_) if !names_successor(&answer.body) => return Ok(()),
            Err(reason) => return Err(self.not_understood(answer, &reason)),
        };
        let Some(successor) = update.token_update.or(update.updated_token) else { return Ok(()) };
        if successor.mytoken.is_empty() {
            return Err(self.not_understood(answer, "the successor of the mytoken is empty"));
        }
        // The old token no longer works. So if the store fails, it is tried a second time before the successor is lost.
        on_rotation(&successor.mytoken).or_else(|_| on_rotation(&successor.mytoken)).map_err(|error| match error {
            Error::Server(ServerError::RotatedTokenNotStored { .. }) => error,
            other => Error::Server(ServerError::RotatedTokenNotStored { reason: other.to_string() }),
        })
    }
}

/// Whether a body that is not the expected JSON may still contain a successor.
fn names_successor(body: &[u8]) -> bool {
    [b"token_update".as_slice(), b"updated_token"].iter().any(|name| body.windows(name.len()).any(|part| part == *name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            prop::sample::select(vec!["", "token", "transfer_code", "abcdefgh", "AT", "a b"]).prop_map(Value::from),
        ];
        let name = prop::sample::select(vec![
            "mytoken",
            "transfer_code",
            "mytoken_type",
            "mom_id",
            "expires_in",
            "restrictions",
            "capabilities",
            "rotation",
            "exp",
            "scope",
            "usages_AT",
            "on_AT",
            "token_update",
        ]);
        leaf.prop_recursive(4, 40, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(name.clone().prop_map(str::to_owned), inner, 0..8)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic_and_grants_nothing_without_a_token(value in answer(), now in any::<u64>()) {
            if let Ok(answer) = MytokenAnswer::deserialize(&value) {
                if let Ok(granted) = answer.granted(now) {
                    prop_assert!(!granted.mytoken.is_empty());
                    prop_assert_eq!(Some(&granted.mytoken), answer.secret());
                }
            }
        }
    }
}
