// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verification itself.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::config::{Algorithm, IssuerSettings};
use mytoken::{Clock, Deadline, Secret};
use serde_json::{Map, Value};

use super::claims::{self, Claims};
use super::jws::Jws;
use super::{Fresh, KeySource, Rejection};

/// Verifies an access token.
///
/// The unverified `iss` selects one of `issuers` and does nothing else; when it is none of them, nothing is sent anywhere. URLs in
/// a token (`jku`, `x5u`) are never looked at. The order is: form, issuer, algorithm, kind, key, signature, then the claims.
///
/// # Errors
/// The reason why it is not accepted.
pub fn verify(
    token: &Secret,
    issuers: &[IssuerSettings],
    keys: &dyn KeySource,
    clock: &dyn Clock,
    deadline: Deadline,
) -> Result<Claims, Rejection> {
    let jws = Jws::parse(token.expose())?;
    let iss = text(&jws.claims, "iss")?;
    let issuer = issuers.iter().find(|issuer| issuer.is(&iss)).ok_or(Rejection::IssuerUnknown)?;
    let algorithm = Algorithm::named(&jws.algorithm)
        .filter(|algorithm| issuer.algorithms.contains(algorithm))
        .ok_or(Rejection::Algorithm)?;
    is_access_token(&jws, issuer)?;
    check_signature(&jws, algorithm, issuer, keys, deadline)?;
    let key = jws.key_id.as_deref().map_or_else(|| "the only key".to_owned(), |id| format!("key {id}"));
    accept(jws.claims, issuer, iss, format!("{algorithm}, {key}"), clock.now())
}

/// Whether it is an access token and nothing else that the provider signs, as far as it says.
///
/// `nonce` marks ID tokens, but Keycloak before 24 has it in access tokens too (MT-57); it is tolerated where the token says what it is.
fn is_access_token(jws: &Jws<'_>, issuer: &IssuerSettings) -> Result<(), Rejection> {
    let is = |name: &str, wanted: &str| {
        jws.claims.get(name).and_then(Value::as_str).is_some_and(|value| value.eq_ignore_ascii_case(wanted))
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
    // Keycloak says in the payload what it is.
    if has("typ") && !is("typ", "Bearer") && !is("typ", "at+jwt") && !is("typ", "JWT") {
        return Err(Rejection::WrongKind(if is("typ", "ID") { "an ID token" } else { "a token of another kind" }));
    }
    let bearer = is("typ", "Bearer");
    let nonce_is_fine = bearer || jws.kind.as_deref() == Some("at+jwt") || is("typ", "at+jwt");
    if is("token_use", "id") || ((has("at_hash") || has("c_hash")) && !bearer) || (has("nonce") && !nonce_is_fine) {
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
    let get = |fresh| keys.keys(issuer, fresh, deadline).map_err(Rejection::KeysUnavailable);
    let find = |fresh| get(fresh)?.find(jws.key_id.as_deref(), algorithm);
    let key = match find(Fresh::Enough) {
        // The provider may have changed its keys since: ask once more.
        Err(Rejection::KeyUnknown) => find(Fresh::Unknown)?,
        found => found?,
    };
    let signature = URL_SAFE_NO_PAD.decode(jws.signature).map_err(|_| Rejection::Signature)?;
    if key.verifies(jws.signed.as_bytes(), &signature) { Ok(()) } else { Err(Rejection::Signature) }
}

/// The claims of a token whose signature is right.
fn accept(
    all: Map<String, Value>,
    issuer: &IssuerSettings,
    iss: String,
    signed: String,
    now: u64,
) -> Result<Claims, Rejection> {
    let leeway = issuer.leeway.as_secs();
    let date = |name| claims::date(&all, name).map_err(Rejection::Claim);
    let exp = date("exp")?.ok_or(Rejection::Claim("exp"))?;
    let good_until = exp.saturating_add(leeway);
    if good_until <= now {
        return Err(Rejection::Expired);
    }
    if date("nbf")?.is_some_and(|nbf| nbf > now.saturating_add(leeway)) {
        return Err(Rejection::NotYetValid);
    }
    let iat = date("iat")?;
    if iat.is_some_and(|iat| iat > now.saturating_add(leeway)) {
        return Err(Rejection::NotYetValid);
    }
    let max_age = issuer.max_age.as_secs();
    if max_age > 0 {
        let iat = iat.ok_or(Rejection::Claim("iat"))?;
        if iat.saturating_add(max_age).saturating_add(leeway) < now {
            return Err(Rejection::TooOld);
        }
    }
    if issuer.require_audience {
        let wanted = |one: &&str| issuer.audiences.iter().any(|audience| audience == one);
        if !claims::list(&all, "aud").iter().any(wanted) {
            return Err(Rejection::Audience);
        }
    }
    let scopes = claims::scopes(&all);
    if let Some(missing) = issuer.required_scopes.iter().find(|scope| !scopes.contains(scope)) {
        return Err(Rejection::Scope(missing.clone()));
    }
    let sub = text(&all, "sub")?;
    Ok(Claims { issuer: issuer.name.clone(), iss, sub, exp, good_until, iat, scopes, signed, all })
}

/// A claim that must be text and not empty.
fn text(claims: &Map<String, Value>, name: &'static str) -> Result<String, Rejection> {
    match claims.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        _ => Err(Rejection::Claim(name)),
    }
}
