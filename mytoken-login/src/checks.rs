// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks of a login before and after its rules, each with its verdict and the setting that decides, for `explain` and the log.
//!
//! Whoever checks records what passed. A refusal that nobody recorded belongs to the next check that was planned, so that no refusal is
//! without its place.

use mytoken::config::IssuerSettings;

use crate::refusal::Refusal;

/// What is checked, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The PAM service.
    Service,
    /// The account: it exists, and accepts tokens.
    Account,
    /// The kind of the entered text.
    Token,
    /// The confirmation of a login with a link.
    Link,
    /// The exchange at a mytoken server.
    Exchange,
    /// `iss`, or what else says whose token it is.
    Issuer,
    /// The signature's algorithm.
    Algorithm,
    /// `typ` and the claims that mark other kinds of tokens.
    Kind,
    /// The signature, with the issuer's keys.
    Signature,
    /// What the provider's introspection endpoint says.
    Introspection,
    /// What the provider's userinfo endpoint says.
    Userinfo,
    /// `exp`, `nbf`, `iat`.
    Times,
    /// The leeway that the times needed.
    Clock,
    /// For whom the token was made.
    Audience,
    /// Its scopes.
    Scope,
    /// Whose it is.
    Identity,
    /// Whether the access token has logged in before. It follows the rules.
    Replay,
}

impl Subject {
    /// Its word on the screen and in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Account => "account",
            Self::Token => "token",
            Self::Link => "link",
            Self::Exchange => "exchange",
            Self::Issuer => "issuer",
            Self::Algorithm => "algorithm",
            Self::Kind => "typ",
            Self::Signature => "signature",
            Self::Introspection => "introspection",
            Self::Userinfo => "userinfo",
            Self::Times => "times",
            Self::Clock => "clock",
            Self::Audience => "audience",
            Self::Scope => "scope",
            Self::Identity => "identity",
            Self::Replay => "replay",
        }
    }

    /// Whether it is checked when a rule has given the account.
    #[must_use]
    pub fn is_after_rules(self) -> bool {
        matches!(self, Self::Replay)
    }
}

/// The verdict of a check or rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckVerdict {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// Nothing to decide: what was found.
    Noted,
    /// It passed, but an administrator should look.
    Warned,
    /// Something before it has decided.
    NotReached,
}

/// The setting that decides a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// A key of `login.toml`, by its path.
    Login(&'static [&'static str]),
    /// A key of an `[[issuer]]` of `mytoken.toml`.
    Issuer {
        /// The issuer's name.
        name: String,
        /// The key.
        key: &'static str,
    },
    /// An `[[exchange]]` of `login.toml`.
    Exchange {
        /// Its place in the list.
        index: usize,
        /// The key.
        key: &'static str,
    },
    /// A `[[rule]]` of `login.toml`.
    Rule {
        /// Its place in the list of rules.
        index: usize,
        /// The keys of which the first that the rule has decides. Without any it is the rule as a whole.
        keys: &'static [&'static str],
    },
}

impl Setting {
    /// A key of this issuer.
    pub(crate) fn of(issuer: &IssuerSettings, key: &'static str) -> Self {
        Self::Issuer { name: issuer.name.clone(), key }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub subject: Subject,
    /// The verdict.
    pub verdict: CheckVerdict,
    /// What was found. It may repeat claims, so it is escaped where it is shown. It never holds a token.
    pub found: String,
    /// The setting that decides.
    pub by: Option<Setting>,
}

/// The checks of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    done: Vec<Check>,
    planned: Vec<Subject>,
}

/// The checks of a signed token that is verified here.
const USUAL: [Subject; 10] = [
    Subject::Account,
    Subject::Token,
    Subject::Issuer,
    Subject::Algorithm,
    Subject::Kind,
    Subject::Signature,
    Subject::Times,
    Subject::Audience,
    Subject::Scope,
    Subject::Identity,
];

impl Default for Checks {
    fn default() -> Self {
        Self { done: Vec::new(), planned: USUAL.to_vec() }
    }
}

impl Checks {
    /// All checks in their order. Those that were not reached follow what was done.
    #[must_use]
    pub fn all(&self) -> Vec<Check> {
        let open = self.planned.iter().filter(|subject| self.find(**subject).is_none());
        let open = open.map(|subject| Check {
            subject: *subject,
            verdict: CheckVerdict::NotReached,
            found: "not reached".to_owned(),
            by: None,
        });
        let mut all: Vec<Check> = self.done.iter().cloned().chain(open).collect();
        all.sort_by_key(|check| check.subject);
        all
    }

    /// The check of this subject, if it was done.
    #[must_use]
    pub fn find(&self, subject: Subject) -> Option<&Check> {
        self.done.iter().find(|check| check.subject == subject)
    }

    /// Adds this subject to what will be checked.
    pub(crate) fn plan(&mut self, subject: Subject) {
        if !self.planned.contains(&subject) {
            self.planned.push(subject);
            self.planned.sort_unstable();
        }
    }

    /// Takes these subjects from what will be checked: this kind of token has nothing to check there.
    pub(crate) fn leave_out(&mut self, subjects: &[Subject]) {
        self.planned.retain(|subject| !subjects.contains(subject));
    }

    pub(crate) fn passed(&mut self, subject: Subject, found: String, by: Option<Setting>) {
        self.record(Check { subject, verdict: CheckVerdict::Passed, found, by });
    }

    pub(crate) fn failed(&mut self, subject: Subject, found: String, by: Option<Setting>) {
        self.record(Check { subject, verdict: CheckVerdict::Failed, found, by });
    }

    pub(crate) fn noted(&mut self, subject: Subject, found: String, by: Option<Setting>) {
        self.record(Check { subject, verdict: CheckVerdict::Noted, found, by });
    }

    pub(crate) fn warned(&mut self, subject: Subject, found: String, by: Option<Setting>) {
        self.record(Check { subject, verdict: CheckVerdict::Warned, found, by });
    }

    /// The login is refused before its rules. If no check has said so, it is the next one.
    pub(crate) fn close(&mut self, refusal: &Refusal) {
        if self.done.iter().any(|check| check.verdict == CheckVerdict::Failed) {
            return;
        }
        let mut before_rules = self.planned.iter().copied().filter(|subject| !subject.is_after_rules());
        let next = before_rules.find(|subject| self.find(*subject).is_none());
        if let Some(subject) = next {
            self.failed(subject, refusal.whole_sentence(), None);
        }
    }

    /// A later result of the same check replaces the earlier one.
    fn record(&mut self, check: Check) {
        self.done.retain(|earlier| earlier.subject != check.subject);
        self.done.push(check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(checks: &Checks) -> Vec<(Subject, CheckVerdict)> {
        checks.all().into_iter().map(|check| (check.subject, check.verdict)).collect()
    }

    #[test]
    fn a_refusal_that_nobody_recorded_belongs_to_the_next_check() {
        let mut checks = Checks::default();
        checks.leave_out(&[Subject::Algorithm, Subject::Kind, Subject::Signature, Subject::Times]);
        checks.plan(Subject::Introspection);
        checks.passed(Subject::Account, "uid 2001".to_owned(), None);
        checks.noted(Subject::Token, "opaque text".to_owned(), None);
        checks.passed(Subject::Issuer, "op".to_owned(), None);
        checks.close(&Refusal::DeadlinePassed);
        use CheckVerdict::{Failed, NotReached, Noted, Passed};
        let expected = [
            (Subject::Account, Passed),
            (Subject::Token, Noted),
            (Subject::Issuer, Passed),
            (Subject::Introspection, Failed),
            (Subject::Audience, NotReached),
            (Subject::Scope, NotReached),
            (Subject::Identity, NotReached),
        ];
        assert_eq!(shown(&checks), expected);
        checks.close(&Refusal::Opaque);
        assert_eq!(shown(&checks), expected, "one check fails");
    }
}
