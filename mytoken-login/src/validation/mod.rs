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

use crate::oidc::{
    AccessTokenClaims, Dates, Jws, KeySource, Rejection, check_before_request, check_claimed_kind, check_claims,
    check_kind, find_issuer, verify_signature,
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
        match presented.issuer {
            Some(issuer) if !is_signed(presented.token) => self.check_opaque(presented, issuer, deadline),
            _ => self.check_signed(presented, deadline),
        }
    }

    fn check_opaque(
        &self,
        presented: PresentedToken<'_>,
        issuer: &IssuerSettings,
        deadline: Deadline,
    ) -> Result<Validated, Refusal> {
        if !issuer.opaque {
            return Err(Refusal::Opaque);
        }
        let (claims, asked) = self.ask(presented, issuer, None, &Map::new(), deadline)?;
        let dates = Dates::Optional { lifetime: issuer.opaque_lifetime.as_secs() };
        let (iss, now) = (issuer.url.clone(), self.clock.now());
        Ok(Validated { claims: check_claims(claims, issuer, iss, String::new(), now, dates)?, asked })
    }

    fn check_signed(&self, presented: PresentedToken<'_>, deadline: Deadline) -> Result<Validated, Refusal> {
        let jws = Jws::parse(presented.token.expose())?;
        let (iss, issuer) = find_issuer(&jws, self.issuers)?;
        if presented.issuer.is_some_and(|named| named.name != issuer.name) {
            return Err(Rejection::IssuerUnknown.into());
        }
        let verified = if issuer.validates_by(ValidationMode::Local) {
            Some(verify_signature(&jws, issuer, self.keys, deadline)?)
        } else {
            check_kind(&jws, issuer)?;
            None
        };
        let now = self.clock.now();
        if !issuer.asks_provider() {
            let signed = verified.unwrap_or_default();
            let claims = check_claims(jws.claims, issuer, iss, signed, now, Dates::Required)?;
            return Ok(Validated { claims, asked: Vec::new() });
        }
        check_before_request(&jws.claims, issuer, now)?;
        let decisive = verified.is_some().then(|| jws.claims.clone());
        let (claims, asked) = self.ask(presented, issuer, decisive, &jws.claims, deadline)?;
        let dates = match verified {
            Some(_) => Dates::Required,
            None if claims.contains_key("exp") => Dates::Optional { lifetime: 0 },
            None => return Err(Rejection::Claim("exp").into()),
        };
        let claims = check_claims(claims, issuer, iss, verified.unwrap_or_default(), self.clock.now(), dates)?;
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
    ) -> Result<(Map<String, Value>, Vec<ValidationMode>), Refusal> {
        let (mut claims, mut asked) = (decisive, Vec::new());
        if issuer.validates_by(ValidationMode::Introspection) {
            let answer = self.introspection.validate(presented, issuer, deadline)?;
            check_claimed_kind(&answer, false)?;
            claims = Some(add_introspection(claims, answer, own, issuer)?);
            asked.push(ValidationMode::Introspection);
        }
        if issuer.validates_by(ValidationMode::Userinfo) {
            let answer = self.userinfo.validate(presented, issuer, deadline)?;
            claims = Some(add_userinfo(claims, answer, own, issuer)?);
            asked.push(ValidationMode::Userinfo);
        }
        let claims = claims.ok_or_else(|| Refusal::from(Rejection::Claim("sub")))?;
        Ok((claims, asked))
    }
}

/// Whether a token has the form of a JWT.
pub(crate) fn is_signed(token: &Secret) -> bool {
    matches!(classify(token), Presented::AccessToken(_))
}
