// SPDX-License-Identifier: MIT OR Apache-2.0
//! The claims of a verified access token.

use serde_json::{Map, Value};

use super::{Rejection, Skew};

/// The claims of a verified access token.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessTokenClaims {
    /// Name of the issuer in the configuration.
    pub issuer: String,
    /// `iss`, as in the token.
    pub iss: String,
    /// `sub`.
    pub sub: String,
    /// `exp`, Unix seconds.
    pub exp: u64,
    /// Until when it is accepted, Unix seconds: `exp` and the issuer's `leeway`.
    pub good_until: u64,
    /// `iat`, Unix seconds.
    pub iat: Option<u64>,
    /// The leeway without which it would have been rejected.
    pub skew: Option<Skew>,
    /// For whom it was made: the values of the issuer's `audience_claims`.
    pub audiences: Vec<String>,
    /// `scope` and `scp`, split.
    pub scopes: Vec<String>,
    /// Signature algorithm and key, for `explain`. Empty: the signature was not checked here.
    pub signed: String,
    /// All claims.
    pub all: Map<String, Value>,
}

/// The strings of a claim that is a list of strings, or one string.
#[must_use]
pub fn string_list<'a>(claims: &'a Map<String, Value>, name: &str) -> Vec<&'a str> {
    match claims.get(name) {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The claims with scopes: `scope` (RFC 9068), and `scp` of Microsoft Entra ID and Okta.
pub(super) const SCOPE_CLAIMS: [&str; 2] = ["scope", "scp"];

/// The scopes of all [`SCOPE_CLAIMS`]: each is a string of scopes separated by blanks, or a list of such strings.
pub(crate) fn scopes(claims: &Map<String, Value>) -> Vec<String> {
    let texts = SCOPE_CLAIMS.into_iter().flat_map(|name| string_list(claims, name));
    texts.flat_map(str::split_ascii_whitespace).map(str::to_owned).collect()
}

/// A claim that is a `NumericDate` (RFC 7519): a number, possibly with a fraction.
///
/// # Errors
/// [`Rejection::Claim`] when it is something else.
pub(crate) fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, Rejection> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            if let Some(whole) = number.as_u64() {
                return Ok(Some(whole));
            }
            let seconds =
                number.as_f64().filter(|seconds| (0.0..1e15).contains(seconds)).ok_or(Rejection::Claim(name))?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
            Ok(Some(seconds as u64))
        }
        Some(_) => Err(Rejection::Claim(name)),
    }
}
