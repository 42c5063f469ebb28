// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verification of a signed access token on this host.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::config::{Algorithm, IssuerSettings};
use mytoken::{Clock, Deadline, Secret};
use serde_json::{Map, Value};

use super::claim_checks::{Dates, Expected, check_claims, required_text};
use super::claims::AccessTokenClaims;
use super::jws::Jws;
use super::kind::check_kind;
use super::{KeyFreshness, KeySource, Rejection};
use crate::checks::{Checks, Setting, Subject};

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
    let checks = &mut Checks::default();
    let jws = Jws::parse(token.expose())?;
    let (iss, issuer) = find_issuer(&jws.claims, issuers, checks)?;
    let signed = verify_signature(&jws, issuer, keys, deadline, checks)?;
    let expected = Expected { issuer, now: clock.now(), dates: Dates::Required };
    check_claims(jws.claims, expected, iss, signed, checks)
}

/// The `iss` of a token, and the issuer that it selects.
pub(crate) fn find_issuer<'a>(
    claims: &Map<String, Value>,
    issuers: &'a [IssuerSettings],
    checks: &mut Checks,
) -> Result<(String, &'a IssuerSettings), Rejection> {
    let iss = required_text(claims, "iss")
        .inspect_err(|rejection| checks.failed(Subject::Issuer, rejection.to_string(), None))?;
    let Some(issuer) = issuers.iter().find(|issuer| issuer.is(&iss)) else {
        checks.failed(Subject::Issuer, format!("no [[issuer]] of mytoken.toml has this url: {iss}"), None);
        return Err(Rejection::IssuerUnknown);
    };
    checks.passed(Subject::Issuer, format!("\"{}\", {}", issuer.name, issuer.url), Some(Setting::of(issuer, "url")));
    Ok((iss, issuer))
}

/// Checks algorithm, kind and signature. Returns algorithm and key, for `explain`.
pub(crate) fn verify_signature(
    jws: &Jws<'_>,
    issuer: &IssuerSettings,
    keys: &dyn KeySource,
    deadline: Deadline,
    checks: &mut Checks,
) -> Result<String, Rejection> {
    let algorithm = check_algorithm(jws, issuer, checks)?;
    check_recorded_kind(jws, issuer, checks)?;
    let key = jws.key_id.as_deref().map_or_else(|| "the only key".to_owned(), |id| format!("key {id}"));
    let signed = format!("{algorithm}, {key}");
    let by = Some(Setting::of(issuer, "validation"));
    match check_signature(jws, algorithm, issuer, keys, deadline) {
        Ok(()) => checks.passed(Subject::Signature, signed.clone(), by),
        Err(rejection) => {
            let why = match &rejection {
                Rejection::KeysUnavailable(reason) => format!(": {reason}"),
                _ => String::new(),
            };
            checks.failed(Subject::Signature, format!("{signed}: {rejection}{why}"), by);
            return Err(rejection);
        }
    }
    Ok(signed)
}

fn check_algorithm(jws: &Jws<'_>, issuer: &IssuerSettings, checks: &mut Checks) -> Result<Algorithm, Rejection> {
    let by = Some(Setting::of(issuer, "algorithms"));
    let found = Algorithm::from_name(&jws.algorithm).filter(|algorithm| issuer.algorithms.contains(algorithm));
    let Some(algorithm) = found else {
        let accepted: Vec<String> = issuer.algorithms.iter().map(ToString::to_string).collect();
        checks.failed(Subject::Algorithm, format!("{}; accepted: {}", jws.algorithm, accepted.join(" ")), by);
        return Err(Rejection::Algorithm);
    };
    checks.passed(Subject::Algorithm, algorithm.to_string(), by);
    Ok(algorithm)
}

/// Checks what kind of token it says it is.
pub(crate) fn check_recorded_kind(
    jws: &Jws<'_>,
    issuer: &IssuerSettings,
    checks: &mut Checks,
) -> Result<(), Rejection> {
    let typ = jws.kind.as_deref().map_or_else(|| "no typ".to_owned(), |kind| format!("typ {kind}"));
    let by = Some(Setting::of(issuer, "accept_typ"));
    match check_kind(jws, issuer) {
        Ok(()) => checks.passed(Subject::Kind, typ, by),
        Err(rejection) => {
            checks.failed(Subject::Kind, format!("{rejection} ({typ})"), by);
            return Err(rejection);
        }
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
