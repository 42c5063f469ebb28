// SPDX-License-Identifier: MIT OR Apache-2.0
//! The claims of an access token against the settings of its issuer.

use mytoken::config::IssuerSettings;
use mytoken::time_format::duration;
use serde_json::{Map, Value};

use super::claims::{AccessTokenClaims, SCOPE_CLAIMS, date, scopes};
use super::skew::{Leeway, Skew};
use super::{Rejection, audience};
use crate::checks::{Checks, Setting, Subject};

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

/// What the claims of a token are compared with.
#[derive(Clone, Copy)]
pub(crate) struct Expected<'a> {
    /// The issuer's settings.
    pub issuer: &'a IssuerSettings,
    /// Unix seconds.
    pub now: u64,
    /// Which dates must be there.
    pub dates: Dates,
}

/// Checks the claims of a validated token.
pub(crate) fn check_claims(
    all: Map<String, Value>,
    expected: Expected<'_>,
    iss: String,
    signed: String,
    checks: &mut Checks,
) -> Result<AccessTokenClaims, Rejection> {
    let Expected { issuer, now, dates } = expected;
    let Times { exp, iat, skew } = check_times(&all, expected, checks)?;
    check_audience(&all, issuer, checks)?;
    let scopes = check_scopes(&all, issuer, checks)?;
    let sub = check_subject(&all, checks)?;
    let assumed = match dates {
        Dates::Required => 0,
        Dates::Optional { lifetime } => lifetime,
    };
    let exp = exp.unwrap_or_else(|| now.saturating_add(assumed));
    let good_until = exp.saturating_add(issuer.leeway.as_secs());
    let (issuer, audiences) = (issuer.name.clone(), audience::audiences(&all, issuer));
    Ok(AccessTokenClaims { issuer, iss, sub, exp, good_until, iat, skew, audiences, scopes, signed, all })
}

/// Checks the claims like [`check_claims`], but goes on after a check that fails. Returns the first rejection.
pub(crate) fn check_every_claim(
    all: &Map<String, Value>,
    expected: Expected<'_>,
    checks: &mut Checks,
) -> Result<(), Rejection> {
    let times = check_times(all, expected, checks).map(|_| ());
    let audience = check_audience(all, expected.issuer, checks);
    let scopes = check_scopes(all, expected.issuer, checks).map(|_| ());
    let subject = check_subject(all, checks).map(|_| ());
    times.and(audience).and(scopes).and(subject)
}

/// Checks what a token says before its provider is asked about it: a token that would be refused in any case costs no request. What
/// passes is checked again afterwards, so only refusals are recorded.
pub(crate) fn check_before_request(
    all: &Map<String, Value>,
    issuer: &IssuerSettings,
    now: u64,
    checks: &mut Checks,
) -> Result<(), Rejection> {
    let expected = Expected { issuer, now, dates: Dates::Optional { lifetime: 0 } };
    let mut early = checks.clone();
    let result = check_told(all, expected, &mut early);
    if result.is_err() {
        *checks = early;
    }
    result
}

/// Checks what the token tells. Its provider may tell what is missing.
fn check_told(all: &Map<String, Value>, expected: Expected<'_>, checks: &mut Checks) -> Result<(), Rejection> {
    check_times(all, expected, checks)?;
    if expected.issuer.audience_claims.iter().all(|claim| all.contains_key(claim.name())) {
        check_audience(all, expected.issuer, checks)?;
    }
    if SCOPE_CLAIMS.into_iter().any(|name| all.contains_key(name)) {
        check_scopes(all, expected.issuer, checks)?;
    }
    Ok(())
}

fn check_times(all: &Map<String, Value>, expected: Expected<'_>, checks: &mut Checks) -> Result<Times, Rejection> {
    let Expected { issuer, now, .. } = expected;
    let found = times(all, expected);
    match &found {
        Ok(times) => {
            let left = times.exp.map_or_else(
                || "the provider does not say when it expires".to_owned(),
                |exp| if exp > now { format!("expires in {}", duration(exp - now)) } else { expired(exp, now) },
            );
            checks.passed(Subject::Times, left, Some(Setting::of(issuer, "leeway")));
            if let Some(skew) = times.skew {
                checks.warned(Subject::Clock, skew.sentence(), None);
            }
        }
        Err(rejection) => {
            let (key, dates) = match rejection {
                Rejection::TooOld => ("max_age", vec!["iat"]),
                Rejection::NotYetValid => ("leeway", vec!["nbf", "iat"]),
                _ => ("leeway", vec!["exp"]),
            };
            let told: String = dates
                .into_iter()
                .filter_map(|name| date(all, name).ok().flatten().map(|at| format!("; {name} is {}", beside(at, now))))
                .collect();
            checks.failed(Subject::Times, format!("{rejection}{told}"), Some(Setting::of(issuer, key)));
        }
    }
    found
}

fn expired(exp: u64, now: u64) -> String {
    format!("expired {} ago", duration(now - exp))
}

/// A time beside this host's clock.
fn beside(at: u64, now: u64) -> String {
    if at > now {
        format!("in {} by this host's clock", duration(at - now))
    } else {
        format!("{} ago by this host's clock", duration(now - at))
    }
}

fn times(all: &Map<String, Value>, expected: Expected<'_>) -> Result<Times, Rejection> {
    let Expected { issuer, now, dates } = expected;
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

fn check_audience(all: &Map<String, Value>, issuer: &IssuerSettings, checks: &mut Checks) -> Result<(), Rejection> {
    let found = match audience::audiences(all, issuer) {
        none if none.is_empty() => "none".to_owned(),
        some => some.join(" "),
    };
    if !issuer.require_audience {
        let by = Some(Setting::of(issuer, "require_audience"));
        checks.warned(Subject::Audience, format!("not checked; the token is for: {found}"), by);
        return Ok(());
    }
    let by = Some(Setting::of(issuer, "audiences"));
    if audience::is_accepted(all, issuer) {
        checks.passed(Subject::Audience, found, by);
        return Ok(());
    }
    checks.failed(Subject::Audience, format!("for: {found}; accepted: {}", issuer.audiences.join(" ")), by);
    Err(Rejection::Audience)
}

fn check_scopes(
    all: &Map<String, Value>,
    issuer: &IssuerSettings,
    checks: &mut Checks,
) -> Result<Vec<String>, Rejection> {
    let scopes = scopes(all);
    let by = Some(Setting::of(issuer, "required_scopes"));
    match issuer.required_scopes.iter().find(|scope| !scopes.contains(scope)) {
        Some(missing) => {
            checks.failed(Subject::Scope, format!("{missing} is missing; held: {}", scopes.join(" ")), by);
            Err(Rejection::Scope(missing.clone()))
        }
        None => {
            let required = issuer.required_scopes.join(" ");
            let found = if required.is_empty() { "none required".to_owned() } else { required };
            checks.passed(Subject::Scope, found, by);
            Ok(scopes)
        }
    }
}

fn check_subject(all: &Map<String, Value>, checks: &mut Checks) -> Result<String, Rejection> {
    let sub = required_text(all, "sub");
    match &sub {
        Ok(sub) => checks.passed(Subject::Identity, sub.clone(), None),
        Err(rejection) => checks.failed(Subject::Identity, rejection.to_string(), None),
    }
    sub
}

/// A required claim that is text and not empty.
pub(crate) fn required_text(claims: &Map<String, Value>, name: &'static str) -> Result<String, Rejection> {
    match claims.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        _ => Err(Rejection::Claim(name)),
    }
}
