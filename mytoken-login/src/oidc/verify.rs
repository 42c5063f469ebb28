// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verification of a signed access token on this host.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::config::{Algorithm, IssuerSettings};
use mytoken::{Clock, Deadline, Secret};

use super::claim_checks::{Dates, check_claims, required_text};
use super::claims::AccessTokenClaims;
use super::jws::Jws;
use super::kind::check_kind;
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
    let (iss, issuer) = find_issuer(&jws, issuers)?;
    let signed = verify_signature(&jws, issuer, keys, deadline)?;
    check_claims(jws.claims, issuer, iss, signed, clock.now(), Dates::Required)
}

/// The `iss` of a token, and the issuer that it selects.
pub(crate) fn find_issuer<'a>(
    jws: &Jws<'_>,
    issuers: &'a [IssuerSettings],
) -> Result<(String, &'a IssuerSettings), Rejection> {
    let iss = required_text(&jws.claims, "iss")?;
    let issuer = issuers.iter().find(|issuer| issuer.is(&iss)).ok_or(Rejection::IssuerUnknown)?;
    Ok((iss, issuer))
}

/// Checks algorithm, kind and signature. Returns algorithm and key, for `explain`.
pub(crate) fn verify_signature(
    jws: &Jws<'_>,
    issuer: &IssuerSettings,
    keys: &dyn KeySource,
    deadline: Deadline,
) -> Result<String, Rejection> {
    let algorithm = Algorithm::from_name(&jws.algorithm)
        .filter(|algorithm| issuer.algorithms.contains(algorithm))
        .ok_or(Rejection::Algorithm)?;
    check_kind(jws, issuer)?;
    check_signature(jws, algorithm, issuer, keys, deadline)?;
    let key = jws.key_id.as_deref().map_or_else(|| "the only key".to_owned(), |id| format!("key {id}"));
    Ok(format!("{algorithm}, {key}"))
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
