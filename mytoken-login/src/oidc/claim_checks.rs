// SPDX-License-Identifier: MIT OR Apache-2.0
//! The claims of an access token against the settings of its issuer.

use mytoken::config::IssuerSettings;
use serde_json::{Map, Value};

use super::claims::{AccessTokenClaims, SCOPE_CLAIMS, date, scopes};
use super::skew::{Leeway, Skew};
use super::{Rejection, audience};

/// Whether the dates that every signed access token has may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dates {
    /// `exp` is required, and `iat` if `max_age` is not zero.
    Required,
    /// The provider says that the token is valid now. It need not say since when and until when (RFC 7662 2.2).
    Optional {
        /// The assumed lifetime of a token without `exp`, in seconds.
        lifetime: u64,
    },
}

/// The dates of a token that is valid now.
struct Times {
    exp: Option<u64>,
    iat: Option<u64>,
    skew: Option<Skew>,
}

/// Checks the claims of a validated token.
pub(crate) fn check_claims(
    all: Map<String, Value>,
    issuer: &IssuerSettings,
    iss: String,
    signed: String,
    now: u64,
    dates: Dates,
) -> Result<AccessTokenClaims, Rejection> {
    let Times { exp, iat, skew } = check_times(&all, issuer, now, dates)?;
    if !audience::is_accepted(&all, issuer) {
        return Err(Rejection::Audience);
    }
    let scopes = scopes(&all);
    if let Some(missing) = missing_scope(&scopes, issuer) {
        return Err(missing);
    }
    let sub = required_text(&all, "sub")?;
    let assumed = match dates {
        Dates::Required => 0,
        Dates::Optional { lifetime } => lifetime,
    };
    let exp = exp.unwrap_or_else(|| now.saturating_add(assumed));
    let good_until = exp.saturating_add(issuer.leeway.as_secs());
    let (issuer, audiences) = (issuer.name.clone(), audience::audiences(&all, issuer));
    Ok(AccessTokenClaims { issuer, iss, sub, exp, good_until, iat, skew, audiences, scopes, signed, all })
}

/// Checks what a token says before its provider is asked about it: a token that would be refused in any case costs no request.
pub(crate) fn check_before_request(
    all: &Map<String, Value>,
    issuer: &IssuerSettings,
    now: u64,
) -> Result<(), Rejection> {
    check_times(all, issuer, now, Dates::Optional { lifetime: 0 })?;
    // The provider may tell a claim that is not in the token.
    let tells_audience = issuer.audience_claims.iter().all(|claim| all.contains_key(claim.name()));
    if tells_audience && !audience::is_accepted(all, issuer) {
        return Err(Rejection::Audience);
    }
    let tells_scopes = SCOPE_CLAIMS.into_iter().any(|name| all.contains_key(name));
    missing_scope(&scopes(all), issuer).filter(|_| tells_scopes).map_or(Ok(()), Err)
}

fn check_times(all: &Map<String, Value>, issuer: &IssuerSettings, now: u64, dates: Dates) -> Result<Times, Rejection> {
    let required = |found: Option<u64>, name: &'static str| match (found, dates) {
        (None, Dates::Required) => Err(Rejection::Claim(name)),
        (found, _) => Ok(found),
    };
    let mut leeway = Leeway::new(issuer.leeway.as_secs());
    let exp = required(date(all, "exp")?, "exp")?;
    // At the second of `exp` the token has expired already (RFC 7519 4.1.4).
    if exp.is_some_and(|exp| !leeway.permits(now.saturating_add(1).saturating_sub(exp), Skew::Ahead)) {
        return Err(Rejection::Expired);
    }
    let iat = date(all, "iat")?;
    for begin in [date(all, "nbf")?, iat].into_iter().flatten() {
        if !leeway.permits(begin.saturating_sub(now), Skew::Behind) {
            return Err(Rejection::NotYetValid);
        }
    }
    let max_age = issuer.max_age.as_secs();
    if max_age > 0 {
        let iat = required(iat, "iat")?;
        let too_old = |iat: u64| now.saturating_sub(iat.saturating_add(max_age));
        if iat.is_some_and(|iat| !leeway.permits(too_old(iat), Skew::Ahead)) {
            return Err(Rejection::TooOld);
        }
    }
    Ok(Times { exp, iat, skew: leeway.used() })
}

fn missing_scope(scopes: &[String], issuer: &IssuerSettings) -> Option<Rejection> {
    let missing = issuer.required_scopes.iter().find(|scope| !scopes.contains(scope))?;
    Some(Rejection::Scope(missing.clone()))
}

/// A required claim that is text and not empty.
pub(crate) fn required_text(claims: &Map<String, Value>, name: &'static str) -> Result<String, Rejection> {
    match claims.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        _ => Err(Rejection::Claim(name)),
    }
}
