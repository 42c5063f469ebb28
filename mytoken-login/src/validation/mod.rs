// SPDX-License-Identifier: MIT OR Apache-2.0
//! The validation of an access token by the modes of its issuer's `validation`: all of them must accept it.
//!
//! The modes are asked in the order of their cost. A signed token is checked here first, so a forged or expired one causes no request. The
//! first mode gives the claims that decide; what later modes tell is added to them and never replaces them.

mod client;
mod introspection;
mod merge;
mod opaque;
mod provider;
mod userinfo;

use mytoken::config::{IssuerSettings, ValidationMode};
use mytoken::token::{Presented, classify};
use mytoken::{Clock, Deadline, Secret};
use serde_json::{Map, Value};

use crate::checks::{Checks, Setting, Subject};
use crate::oidc::{
    AccessTokenClaims, Dates, Expected, Jws, KeySource, Rejection, check_before_request, check_claimed_kind,
    check_claims, check_recorded_kind, find_issuer, verify_signature,
};
use crate::refusal::Refusal;

pub use client::{ClientForm, ClientProofFailed, client_form};
pub use introspection::{Introspection, ask_introspection};
pub use provider::ProviderRequests;
pub use userinfo::Userinfo;

use merge::{add_introspection, add_userinfo};
pub(crate) use opaque::{issuer_of_exchange, named_issuer, only_issuer};

/// An access token, as a login has it.
#[derive(Debug, Clone, Copy)]
pub struct PresentedToken<'a> {
    /// The token.
    pub token: &'a Secret,
    /// Whether the user entered it. Otherwise the configured mytoken server issued it to this login.
    pub entered: bool,
    /// The issuer, if something else than the token says who made it. An opaque token says nothing.
    pub issuer: Option<&'a IssuerSettings>,
}

/// A validated access token.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// Its claims.
    pub claims: AccessTokenClaims,
    /// How the provider was asked.
    pub asked: Vec<ValidationMode>,
}

/// A mode of validation that asks the provider.
pub trait Validator {
    /// What the provider says about the token. It accepts it.
    ///
    /// # Errors
    /// The refusal of the login: the provider does not accept the token, or cannot be asked.
    fn validate(
        &self,
        presented: PresentedToken<'_>,
        issuer: &IssuerSettings,
        deadline: Deadline,
    ) -> Result<Map<String, Value>, Refusal>;
}

/// What validation needs.
#[derive(Clone, Copy)]
pub struct Validation<'a> {
    /// The issuers whose tokens are accepted.
    pub issuers: &'a [IssuerSettings],
    /// Their keys.
    pub keys: &'a dyn KeySource,
    /// Their userinfo endpoints.
    pub userinfo: &'a dyn Validator,
    /// Their introspection endpoints.
    pub introspection: &'a dyn Validator,
    /// The wall clock.
    pub clock: &'a dyn Clock,
}

impl Validation<'_> {
    /// Validates a token.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn check(&self, presented: PresentedToken<'_>, deadline: Deadline) -> Result<Validated, Refusal> {
        self.check_and_record(presented, deadline, &mut Checks::default())
    }

    /// Validates a token, and records each check.
    pub(crate) fn check_and_record(
        &self,
        presented: PresentedToken<'_>,
        deadline: Deadline,
        checks: &mut Checks,
    ) -> Result<Validated, Refusal> {
        match presented.issuer {
            Some(issuer) if !is_signed(presented.token) => self.check_opaque(presented, issuer, deadline, checks),
            _ => self.check_signed(presented, deadline, checks),
        }
    }

    fn check_opaque(
        &self,
        presented: PresentedToken<'_>,
        issuer: &IssuerSettings,
        deadline: Deadline,
        checks: &mut Checks,
    ) -> Result<Validated, Refusal> {
        plan(checks, issuer);
        checks.leave_out(&[Subject::Algorithm, Subject::Kind, Subject::Signature]);
        let by = Some(Setting::of(issuer, "opaque"));
        if !issuer.opaque {
            checks.failed(Subject::Issuer, format!("\"{}\" has no opaque tokens", issuer.name), by);
            return Err(Refusal::Opaque);
        }
        checks.passed(Subject::Issuer, format!("\"{}\", {}", issuer.name, issuer.url), by);
        let (claims, asked) = self.ask(presented, issuer, None, &Map::new(), deadline, checks)?;
        let dates = Dates::Optional { lifetime: issuer.opaque_lifetime.as_secs() };
        let expected = Expected { issuer, now: self.clock.now(), dates };
        Ok(Validated { claims: check_claims(claims, expected, issuer.url.clone(), String::new(), checks)?, asked })
    }

    fn check_signed(
        &self,
        presented: PresentedToken<'_>,
        deadline: Deadline,
        checks: &mut Checks,
    ) -> Result<Validated, Refusal> {
        let jws = Jws::parse(presented.token.expose())
            .inspect_err(|rejection| checks.failed(Subject::Token, rejection.to_string(), None))?;
        let (iss, issuer) = find_issuer(&jws.claims, self.issuers, checks)?;
        if let Some(named) = presented.issuer.filter(|named| named.name != issuer.name) {
            let found =
                format!("the token is of \"{}\", not of \"{}\" as is written before it", issuer.name, named.name);
            checks.failed(Subject::Issuer, found, None);
            return Err(Rejection::IssuerUnknown.into());
        }
        plan(checks, issuer);
        let verified = if issuer.validates_by(ValidationMode::Local) {
            Some(verify_signature(&jws, issuer, self.keys, deadline, checks)?)
        } else {
            checks.leave_out(&[Subject::Algorithm, Subject::Signature]);
            check_recorded_kind(&jws, issuer, checks)?;
            None
        };
        let now = self.clock.now();
        if !issuer.asks_provider() {
            let signed = verified.unwrap_or_default();
            let expected = Expected { issuer, now, dates: Dates::Required };
            let claims = check_claims(jws.claims, expected, iss, signed, checks)?;
            return Ok(Validated { claims, asked: Vec::new() });
        }
        check_before_request(&jws.claims, issuer, now, checks)?;
        let decisive = verified.is_some().then(|| jws.claims.clone());
        let (claims, asked) = self.ask(presented, issuer, decisive, &jws.claims, deadline, checks)?;
        let dates = match verified {
            Some(_) => Dates::Required,
            None if claims.contains_key("exp") => Dates::Optional { lifetime: 0 },
            None => return Err(Rejection::Claim("exp").into()),
        };
        let expected = Expected { issuer, now: self.clock.now(), dates };
        let claims = check_claims(claims, expected, iss, verified.unwrap_or_default(), checks)?;
        Ok(Validated { claims, asked })
    }

    /// Asks the provider in each configured way. `decisive`: the claims that decide, if there are any before. `own`: those of the token
    /// itself, with which the answers must agree. Returns the claims that decide, and how the provider was asked.
    fn ask(
        &self,
        presented: PresentedToken<'_>,
        issuer: &IssuerSettings,
        decisive: Option<Map<String, Value>>,
        own: &Map<String, Value>,
        deadline: Deadline,
        checks: &mut Checks,
    ) -> Result<(Map<String, Value>, Vec<ValidationMode>), Refusal> {
        let (mut claims, mut asked) = (decisive, Vec::new());
        if issuer.validates_by(ValidationMode::Introspection) {
            let answer = self.introspection.validate(presented, issuer, deadline).and_then(|answer| {
                check_claimed_kind(&answer, false)?;
                Ok(add_introspection(claims.take(), answer, own, issuer)?)
            });
            let found = "the provider says that it is active";
            claims = Some(record_answer(checks, Subject::Introspection, found, issuer, answer)?);
            asked.push(ValidationMode::Introspection);
        }
        if issuer.validates_by(ValidationMode::Userinfo) {
            let answer = self.userinfo.validate(presented, issuer, deadline);
            let answer = answer.and_then(|answer| Ok(add_userinfo(claims.take(), answer, own, issuer)?));
            claims = Some(record_answer(checks, Subject::Userinfo, "the provider says whose it is", issuer, answer)?);
            asked.push(ValidationMode::Userinfo);
        }
        let claims = claims.ok_or_else(|| Refusal::from(Rejection::Claim("sub")))?;
        Ok((claims, asked))
    }
}

/// What will be checked for tokens of this issuer.
fn plan(checks: &mut Checks, issuer: &IssuerSettings) {
    for (mode, subject) in
        [(ValidationMode::Introspection, Subject::Introspection), (ValidationMode::Userinfo, Subject::Userinfo)]
    {
        if issuer.validates_by(mode) {
            checks.plan(subject);
        }
    }
}

/// Records what the provider answered.
fn record_answer<T>(
    checks: &mut Checks,
    subject: Subject,
    found: &str,
    issuer: &IssuerSettings,
    answer: Result<T, Refusal>,
) -> Result<T, Refusal> {
    let by = Some(Setting::of(issuer, "validation"));
    match &answer {
        Ok(_) => checks.passed(subject, found.to_owned(), by),
        Err(refusal) => {
            checks.failed(subject, refusal.whole_sentence(), by);
        }
    }
    answer
}

/// Whether a token has the form of a JWT.
pub(crate) fn is_signed(token: &Secret) -> bool {
    matches!(classify(token), Presented::AccessToken(_))
}
