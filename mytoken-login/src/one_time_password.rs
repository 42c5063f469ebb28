// SPDX-License-Identifier: MIT OR Apache-2.0
//! A login by a one-time password of motley_cue.
//!
//! mccli sends the SHA-512 of an access token that is too long for a prompt, and motley_cue keeps the token behind it
//! (MC-03). So there is no access token here, no identity and no claim: motley_cue alone decides, and the session gets
//! no credential.

use std::time::Instant;

use mytoken::token::{Presented, classify};
use mytoken::{Deadline, Secret};

use crate::accounts::LocalAccount;
use crate::context::LoginContext;
use crate::mapper::ONE_TIME_PASSWORD;
use crate::refusal::Refusal;
use crate::report::{Accepted, Report};
use crate::rules::{RuleOutcome, RuleResult, refusal};
use crate::settings::{LoginSettings, MotleyCueSettings, Rule};

/// Who gets this text as a one-time password: the rule, and its motley_cue. `None`: it has another form, or no rule has `otp`. Then it is an
/// opaque token like any other.
pub(crate) fn receiver<'s>(token: &Secret, settings: &'s LoginSettings) -> Option<(&'s Rule, &'s MotleyCueSettings)> {
    settings.one_time_passwords().filter(|_| matches!(classify(token), Presented::OneTimePassword))
}

/// Asks the motley_cue that gets one-time passwords.
pub(crate) fn log_in(
    account: LocalAccount,
    password: &Secret,
    (rule, settings): (&Rule, &MotleyCueSettings),
    context: &LoginContext<'_>,
    deadline: Deadline,
    report: &mut Report,
) -> Result<Accepted, Refusal> {
    // It is no password of a person: its hash reveals nothing. motley_cue logs the same eight digits.
    report.record_token("otp", password, "128 hexadecimal digits: a one-time password of motley_cue");
    let by = rule.mapping.clone();
    let began = Instant::now();
    let outcome = if account.system {
        RuleOutcome::SystemAccount
    } else {
        RuleOutcome::of_mapper(by, context.mappers.redeem(settings, &account, password, deadline))
    };
    report.durations.map = began.elapsed();
    report.rules = results(&context.settings.rules, rule, &outcome);
    match outcome {
        RuleOutcome::Account { .. } => {
            Ok(Accepted { account, identity: None, rule: rule.name.clone(), credential: None })
        }
        RuleOutcome::SystemAccount => Err(Refusal::KindNotAccepted(ONE_TIME_PASSWORD)),
        RuleOutcome::NoAnswer { refusal, .. } => Err(refusal),
        _ => Err(refusal(&report.rules, &account)),
    }
}

/// The result of each rule: the others need an access token.
fn results(rules: &[Rule], asked: &Rule, outcome: &RuleOutcome) -> Vec<RuleResult> {
    let of = |rule: &Rule| if std::ptr::eq(rule, asked) { outcome.clone() } else { RuleOutcome::NeedsToken };
    rules.iter().map(|rule| RuleResult { rule: rule.name.clone(), outcome: of(rule), skipped: Vec::new() }).collect()
}
