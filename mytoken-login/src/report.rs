// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report of a login: everything that the log, the user, the session and `mytokenctl explain` need.

use std::time::{Duration, Instant};

use mytoken::token::fingerprint;
use mytoken::{Deadline, Secret};

use crate::accounts::LocalAccount;
use crate::checks::{Checks, Subject};
use crate::credential::SessionCredential;
use crate::identity::Identity;
use crate::oidc::Skew;
use crate::refusal::{Level, Refusal};
use crate::rules::RuleResult;

/// The report of a login.
#[derive(Debug, Clone)]
pub struct Report {
    /// Accepted or refused.
    pub outcome: Result<Box<Accepted>, Refusal>,
    /// User id, once the account is known.
    pub uid: Option<u32>,
    /// Name of the issuer and subject, once verified.
    pub identity: Option<(String, String)>,
    /// The leeway without which the access token would have been rejected.
    pub skew: Option<Skew>,
    /// Kind of the entered text: `at`, `mt`, `st`, `tc`, `otp` or `opaque`; `link` without one. A fingerprint follows
    /// only if the text is certainly a token: 32 bits of a hash are enough to find a weak password.
    pub token: Option<String>,
    /// Whether it is a login with a link.
    pub by_link: bool,
    /// The checks before and after the rules, for `explain`.
    pub checks: Checks,
    /// The result of each rule.
    pub rules: Vec<RuleResult>,
    /// The revocation of the mytoken that was redeemed for a refused login.
    pub revocation: Option<RevocationResult>,
    /// When the prompt was answered. `fail_delay` counts from here.
    pub answered: Option<Instant>,
    /// The end of the login's time. What follows the decision ends by then, too. `None` without an answer.
    pub deadline: Option<Deadline>,
    /// How long each step took.
    pub durations: StepDurations,
}

/// A login that is accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The account.
    pub account: LocalAccount,
    /// The identity that may use it. `None` after a login by a one-time password: only motley_cue knows it.
    pub identity: Option<Identity>,
    /// Name of the rule that gives the account.
    pub rule: String,
    /// The credential for its session. `None` after a login by a one-time password: there is no access token.
    pub credential: Option<SessionCredential>,
}

/// The revocation of a mytoken that was redeemed for a login which was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevocationResult {
    /// The mytoken is revoked.
    Revoked,
    /// The mytoken stays valid until it expires.
    Failed {
        /// Why, for the log.
        reason: String,
    },
}

/// How long the steps of a login took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepDurations {
    /// Redeeming and exchanging.
    pub exchange: Duration,
    /// Verifying the access token, with the issuer's keys.
    pub verify: Duration,
    /// Applying the rules.
    pub map: Duration,
}

impl RevocationResult {
    /// The sentence after the refusal on the user's screen.
    pub(crate) fn sentence(&self, by_link: bool) -> &'static str {
        match self {
            Self::Revoked if by_link => ". The mytoken of this login was revoked",
            Self::Failed { .. } if by_link => {
                ". The mytoken of this login could not be revoked: revoke it at your mytoken server"
            }
            Self::Revoked => ". Your transfer code is used up, and its mytoken was revoked",
            Self::Failed { .. } => {
                ". Your transfer code is used up, but its mytoken could not be revoked: revoke it at your mytoken server"
            }
        }
    }
}

impl Report {
    /// The report of a login that has just begun.
    pub(crate) fn new() -> Self {
        Self {
            outcome: Err(Refusal::Conversation),
            uid: None,
            identity: None,
            skew: None,
            token: None,
            by_link: false,
            checks: Checks::default(),
            rules: Vec::new(),
            revocation: None,
            answered: None,
            deadline: None,
            durations: StepDurations::default(),
        }
    }

    /// The level of the log line.
    #[must_use]
    pub fn level(&self) -> Level {
        match &self.outcome {
            Ok(_) => Level::Info,
            Err(refusal) => refusal.level(),
        }
    }

    /// Records kind and fingerprint of the entered text. It is certainly a token.
    pub(crate) fn record_token(&mut self, kind: &str, token: &Secret, found: &str) {
        self.token = Some(format!("{kind}:{}", fingerprint(token)));
        self.record_kind(found);
    }

    /// Records only the kind of the entered text. It may be a password.
    pub(crate) fn record_without_fingerprint(&mut self, kind: &str, found: &str) {
        self.token = Some(kind.to_owned());
        self.record_kind(found);
    }

    fn record_kind(&mut self, found: &str) {
        self.checks.noted(Subject::Token, found.to_owned(), None);
    }
}
