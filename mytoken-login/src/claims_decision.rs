// SPDX-License-Identifier: MIT OR Apache-2.0
//! The decision about claims that an administrator has in a file, without a token: nothing is sent, and nothing is counted.

use mytoken::config::{IssuerSettings, ValidationMode};
use mytoken::{Deadline, Secret};
use serde_json::{Map, Value};

use crate::authenticate::find_account;
use crate::checks::{Checks, Setting, Subject};
use crate::context::{Attempt, LoginContext};
use crate::identity::Identity;
use crate::mapper::{Asked, Given};
use crate::oidc::{
    Dates, Expected, Rejection, check_claimed_kind, check_every_claim, find_issuer, required_text, scopes,
};
use crate::refusal::Refusal;
use crate::rules::{RuleOutcome, RuleResult, decide};
use crate::settings::{MapperSettings, Mapping};

/// The decision about claims.
#[derive(Debug, Clone)]
pub struct ClaimsDecision {
    /// The checks before the rules.
    pub checks: Checks,
    /// The result of each rule. Empty: the claims do not say whose they are, or the account accepts no tokens.
    pub rules: Vec<RuleResult>,
    /// The name of the rule that gives the account, or the first refusal: as if the rules that were not asked gave nothing.
    pub verdict: Result<String, Refusal>,
    /// Names of the rules that were not asked and could change the verdict.
    pub depends_on: Vec<String>,
}

impl ClaimsDecision {
    /// Whether a genuine token with these claims is accepted, whatever the rules say that were not asked.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.verdict.is_ok() && self.depends_on.is_empty()
    }
}

/// Whether the rule was not asked, because there are only claims.
pub(crate) fn is_not_asked(outcome: &RuleOutcome) -> bool {
    use MapperSettings::{Command, MotleyCue};
    matches!(outcome, RuleOutcome::NotGiven { by: Mapping::Asked(Command(_) | MotleyCue(_)), .. })
}

/// The rules that were not asked and could change this verdict. Without the account any of them could give it. With it, only motley_cue
/// can end a login before the rule that gives it.
fn could_change(verdict: &Result<String, Refusal>, rules: &[RuleResult]) -> Vec<String> {
    let by_motley_cue = |outcome: &RuleOutcome| {
        matches!(outcome, RuleOutcome::NotGiven { by: Mapping::Asked(MapperSettings::MotleyCue(_)), .. })
    };
    let could = |result: &&RuleResult| match verdict {
        Ok(_) => by_motley_cue(&result.outcome),
        Err(_) => is_not_asked(&result.outcome),
    };
    rules.iter().filter(could).map(|result| result.rule.clone()).collect()
}

/// Decides about these claims as if a genuine token had them. Unlike a login it goes on after a check of a claim that fails: claims in a
/// file are often old, and the rules are what matters.
#[must_use]
pub fn examine_claims(attempt: &Attempt, claims: &Map<String, Value>, context: &LoginContext<'_>) -> ClaimsDecision {
    let mut checks = Checks::default();
    checks.leave_out(&[Subject::Algorithm]);
    checks.noted(Subject::Token, "claims from a file".to_owned(), None);
    checks.warned(Subject::Signature, "not checked: there is no token, only its claims".to_owned(), None);
    let (mut rules, mut depends_on) = (Vec::new(), Vec::new());
    let verdict = decide_claims(attempt, claims, context, &mut checks, (&mut rules, &mut depends_on));
    if let Some(refusal) = verdict.as_ref().err().filter(|_| rules.is_empty()) {
        checks.close(refusal);
    }
    ClaimsDecision { checks, rules, verdict, depends_on }
}

fn decide_claims(
    attempt: &Attempt,
    claims: &Map<String, Value>,
    context: &LoginContext<'_>,
    checks: &mut Checks,
    (rules, depends_on): (&mut Vec<RuleResult>, &mut Vec<String>),
) -> Result<String, Refusal> {
    let account = find_account(attempt, context, checks)?.ok_or(Refusal::UserUnknown)?;
    let (iss, issuer) = find_issuer(claims, context.issuers, checks)?;
    let checked = check_kind(claims, checks).and(check_claims(claims, issuer, context, checks));
    let sub = required_text(claims, "sub")?;
    let identity = Identity { issuer: issuer.name.clone(), iss, sub, scopes: scopes(claims), claims: claims.clone() };
    let settings = context.settings;
    let (access_token, deadline) = (Secret::new(""), Deadline::after(settings.deadline.get()));
    let (service, rhost) = (attempt.service.as_str(), attempt.rhost.as_deref());
    let asked =
        Asked { identity: &identity, account: &account, access_token: &access_token, entered: false, service, rhost };
    let ask = |mapper: &MapperSettings| match mapper {
        MapperSettings::UserFile(_) => context.mappers.mapper(mapper).gives(&asked, deadline),
        // A command may send what it is told, and would take the claims for verified. motley_cue wants the token itself.
        MapperSettings::Command(_) | MapperSettings::MotleyCue(_) => {
            Ok(Given::Nothing("is not asked about claims from a file".to_owned()))
        }
    };
    let decision = decide(&identity, &account, &settings.rules, settings.accounts.names, context.maps, &ask);
    *rules = decision.rules;
    checked?;
    *depends_on = could_change(&decision.verdict, rules);
    decision.verdict
}

fn check_kind(claims: &Map<String, Value>, checks: &mut Checks) -> Result<(), Rejection> {
    let kind = check_claimed_kind(claims, false);
    match &kind {
        Ok(()) => checks.passed(Subject::Kind, "no claim of another kind of token".to_owned(), None),
        Err(rejection) => checks.failed(Subject::Kind, rejection.to_string(), None),
    }
    kind
}

fn check_claims(
    claims: &Map<String, Value>,
    issuer: &IssuerSettings,
    context: &LoginContext<'_>,
    checks: &mut Checks,
) -> Result<(), Rejection> {
    for (mode, subject) in
        [(ValidationMode::Introspection, Subject::Introspection), (ValidationMode::Userinfo, Subject::Userinfo)]
    {
        if issuer.validates_by(mode) {
            let by = Some(Setting::of(issuer, "validation"));
            checks.warned(subject, "not asked: the file should have what the provider says".to_owned(), by);
        }
    }
    let dates = if issuer.asks_provider() {
        Dates::Optional { lifetime: issuer.opaque_lifetime.as_secs() }
    } else {
        Dates::Required
    };
    check_every_claim(claims, Expected { issuer, now: context.clock.now(), dates }, checks)
}
