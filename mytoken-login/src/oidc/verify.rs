// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verification of an access token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::config::{Algorithm, IssuerSettings};
use mytoken::{Clock, Deadline, Secret};
use serde_json::{Map, Value};

use super::audience;
use super::claims::{AccessTokenClaims, date, scopes};
use super::jws::Jws;
use super::skew::{Leeway, Skew};
use super::{KeyFreshness, KeySource, Rejection};

/// Verifies an access token.
///
/// The unverified `iss` only selects one of `issuers`; for an unknown one no request is sent. URLs in a token (`jku`, `x5u`) are
/// ignored. The order is: form, issuer, algorithm, kind, key, signature, claims.
///
/// # Errors
/// Why it is rejected.
pub fn verify(
    token: &Secret,
    issuers: &[IssuerSettings],
    keys: &dyn KeySource,
    clock: &dyn Clock,
    deadline: Deadline,
) -> Result<AccessTokenClaims, Rejection> {
    let jws = Jws::parse(token.expose())?;
    let iss = required_text(&jws.claims, "iss")?;
    let issuer = issuers.iter().find(|issuer| issuer.is(&iss)).ok_or(Rejection::IssuerUnknown)?;
    let algorithm = Algorithm::from_name(&jws.algorithm)
        .filter(|algorithm| issuer.algorithms.contains(algorithm))
        .ok_or(Rejection::Algorithm)?;
    check_kind(&jws, issuer)?;
    check_signature(&jws, algorithm, issuer, keys, deadline)?;
    let key = jws.key_id.as_deref().map_or_else(|| "the only key".to_owned(), |id| format!("key {id}"));
    check_claims(jws.claims, issuer, iss, format!("{algorithm}, {key}"), clock.now())
}

/// Checks that the token claims to be an access token, and not another kind of token that the issuer signs.
///
/// `nonce` marks ID tokens, but Keycloak before 24 puts it into access tokens too (MT-57). It is accepted if `typ` says that the token is
/// an access token.
fn check_kind(jws: &Jws<'_>, issuer: &IssuerSettings) -> Result<(), Rejection> {
    let is = |name: &str, expected: &str| {
        jws.claims.get(name).and_then(Value::as_str).is_some_and(|value| value.eq_ignore_ascii_case(expected))
    };
    let has = |name: &str| jws.claims.contains_key(name);
    match jws.kind.as_deref() {
        Some("mt+jwt") => return Err(Rejection::WrongKind("a mytoken")),
        Some("logout+jwt") => return Err(Rejection::WrongKind("a logout token")),
        kind if issuer.accepts_typ(kind) => {}
        _ => return Err(Rejection::WrongKind("a token of another kind")),
    }
    if is("token_type", "mytoken") {
        return Err(Rejection::WrongKind("a mytoken"));
    }
    if has("events") {
        return Err(Rejection::WrongKind("a logout token"));
    }
    // Keycloak puts the kind into the payload.
    if has("typ") && !is("typ", "Bearer") && !is("typ", "at+jwt") && !is("typ", "JWT") {
        return Err(Rejection::WrongKind(if is("typ", "ID") { "an ID token" } else { "a token of another kind" }));
    }
    let bearer = is("typ", "Bearer");
    let nonce_allowed = bearer || jws.kind.as_deref() == Some("at+jwt") || is("typ", "at+jwt");
    if is("token_use", "id") || ((has("at_hash") || has("c_hash")) && !bearer) || (has("nonce") && !nonce_allowed) {
        return Err(Rejection::WrongKind("an ID token"));
    }
    Ok(())
}

fn check_signature(
    jws: &Jws<'_>,
    algorithm: Algorithm,
    issuer: &IssuerSettings,
    keys: &dyn KeySource,
    deadline: Deadline,
) -> Result<(), Rejection> {
    let get =
        |freshness| keys.keys(issuer, freshness, deadline).map_err(|error| Rejection::KeysUnavailable(error.reason));
    let find = |freshness| get(freshness)?.find(jws.key_id.as_deref(), algorithm);
    let key = match find(KeyFreshness::Configured) {
        // The issuer may have changed its keys.
        Err(Rejection::KeyUnknown) => find(KeyFreshness::Newest)?,
        found => found?,
    };
    let signature = URL_SAFE_NO_PAD.decode(jws.signature).map_err(|_| Rejection::Signature)?;
    if key.verifies(jws.signed.as_bytes(), &signature) { Ok(()) } else { Err(Rejection::Signature) }
}

/// Checks the claims of a token whose signature is valid.
fn check_claims(
    all: Map<String, Value>,
    issuer: &IssuerSettings,
    iss: String,
    signed: String,
    now: u64,
) -> Result<AccessTokenClaims, Rejection> {
    let mut leeway = Leeway::new(issuer.leeway.as_secs());
    let exp = date(&all, "exp")?.ok_or(Rejection::Claim("exp"))?;
    let good_until = exp.saturating_add(issuer.leeway.as_secs());
    // At the second of `exp` the token has expired already (RFC 7519 4.1.4).
    if !leeway.permits(now.saturating_add(1).saturating_sub(exp), Skew::Ahead) {
        return Err(Rejection::Expired);
    }
    let iat = date(&all, "iat")?;
    for begin in [date(&all, "nbf")?, iat].into_iter().flatten() {
        if !leeway.permits(begin.saturating_sub(now), Skew::Behind) {
            return Err(Rejection::NotYetValid);
        }
    }
    let max_age = issuer.max_age.as_secs();
    if max_age > 0 {
        let iat = iat.ok_or(Rejection::Claim("iat"))?;
        if !leeway.permits(now.saturating_sub(iat.saturating_add(max_age)), Skew::Ahead) {
            return Err(Rejection::TooOld);
        }
    }
    if !audience::is_accepted(&all, issuer) {
        return Err(Rejection::Audience);
    }
    let scopes = scopes(&all);
    if let Some(missing) = issuer.required_scopes.iter().find(|scope| !scopes.contains(scope)) {
        return Err(Rejection::Scope(missing.clone()));
    }
    let sub = required_text(&all, "sub")?;
    let (issuer, skew, audiences) = (issuer.name.clone(), leeway.used(), audience::audiences(&all, issuer));
    Ok(AccessTokenClaims { issuer, iss, sub, exp, good_until, iat, skew, audiences, scopes, signed, all })
}

/// A required claim that is text and not empty.
fn required_text(claims: &Map<String, Value>, name: &'static str) -> Result<String, Rejection> {
    match claims.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        _ => Err(Rejection::Claim(name)),
    }
}
