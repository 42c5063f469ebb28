// SPDX-License-Identifier: MIT OR Apache-2.0
//! The three parts of a signed JWT, strictly decoded and not verified.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::config::media_type;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Rejection, strict};

/// Longest accepted token, in bytes.
const LIMIT: usize = 64 * 1024;

/// A decoded JWT.
pub(crate) struct Jws<'a> {
    /// Header and payload: the text that is signed.
    pub signed: &'a str,
    /// The signature in base64url.
    pub signature: &'a str,
    /// `alg`.
    pub algorithm: String,
    /// `kid`.
    pub key_id: Option<String>,
    /// `typ`, as [`media_type`] writes it.
    pub kind: Option<String>,
    /// The claims.
    pub claims: Map<String, Value>,
}

impl<'a> Jws<'a> {
    /// Decodes a token.
    pub fn parse(token: &'a str) -> Result<Self, Rejection> {
        if token.len() > LIMIT || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Rejection::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Rejection::Malformed)?;
        if payload.contains('.') {
            return Err(Rejection::Malformed);
        }
        let header = object(header)?;
        if header.contains_key("crit") {
            return Err(Rejection::Critical);
        }
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Rejection::Malformed),
        };
        let kind = text("typ")?.map(|kind| media_type(&kind));
        let algorithm = text("alg")?.ok_or(Rejection::Malformed)?;
        Ok(Self { signed, signature, algorithm, key_id: text("kid")?, kind, claims: object(payload)? })
    }
}

fn object(part: &str) -> Result<Map<String, Value>, Rejection> {
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejection::Malformed)?);
    strict::object(&bytes).ok_or(Rejection::Malformed)
}
