// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines of an explanation: each check and each rule, with its verdict and the place in the configuration that decides.

use std::path::Path;

use mytoken::config::{ConfigPlaces, FileTrust, IssuerSettings};

use crate::checks::{Check, CheckVerdict, Checks, Setting};
use crate::rules::{Requirement, RuleOutcome, RuleResult};
use crate::settings::Rule;

/// Where the settings of a configuration stand.
#[derive(Default)]
pub struct SettingPlaces {
    login: Option<ConfigPlaces>,
    shared: Option<ConfigPlaces>,
    issuers: Vec<String>,
}

impl SettingPlaces {
    /// Reads the places in `DIR/login.toml`, `DIR/mytoken.toml` and their drop-ins. Without a file its settings have no place.
    #[must_use]
    pub fn read(dir: &Path, trust: FileTrust, issuers: &[IssuerSettings]) -> Self {
        Self {
            login: ConfigPlaces::read(dir, "login", trust).ok(),
            shared: ConfigPlaces::read(dir, "mytoken", trust).ok(),
            issuers: issuers.iter().map(|issuer| issuer.name.clone()).collect(),
        }
    }

    /// `login.toml:8`, or `login.toml:5 (default)` if the table at line 5 does not have the key.
    #[must_use]
    pub fn place(&self, setting: &Setting) -> Option<String> {
        match setting {
            Setting::Login(path) => {
                let login = self.login.as_ref()?;
                Some(login.key(path).unwrap_or_else(|| "login.toml (default)".to_owned()))
            }
            Setting::Issuer { name, key } => {
                let index = self.issuers.iter().position(|issuer| issuer == name)?;
                let found = self.shared.as_ref()?.entry("issuer", index, &[*key])?;
                Some(found.key.unwrap_or_else(|| format!("{} (default)", found.entry)))
            }
            Setting::Exchange { index, key } => {
                let found = self.login.as_ref()?.entry("exchange", *index, &[*key])?;
                Some(found.key.unwrap_or_else(|| format!("{} (default)", found.entry)))
            }
            Setting::Rule { index, keys } => {
                let found = self.login.as_ref()?.entry("rule", *index, keys)?;
                Some(found.key.unwrap_or(found.entry))
            }
        }
    }
}

/// One line of an explanation. Its texts are not escaped yet.
pub(crate) struct Line {
    pub verdict: CheckVerdict,
    /// What it is about.
    pub about: About,
    pub place: Option<String>,
    pub text: String,
}

/// What a line is about.
pub(crate) enum About {
    /// A check, by its word.
    Check(&'static str),
    /// A rule.
    Rule(String),
    /// More about the rule of the line before.
    More(String),
}

/// The lines of the checks and of the rules between them.
pub(crate) fn of_all(checks: &Checks, rules: Vec<Line>, places: &SettingPlaces) -> Vec<Line> {
    let (after, before): (Vec<Check>, Vec<Check>) =
        checks.all().into_iter().partition(|check| check.subject.is_after_rules());
    let line = |check: Check| Line {
        verdict: check.verdict,
        about: About::Check(check.subject.name()),
        place: check.by.as_ref().and_then(|setting| places.place(setting)),
        text: check.found,
    };
    before.into_iter().map(line).chain(rules).chain(after.into_iter().map(line)).collect()
}

/// The lines of the rules. Without results none was reached. `is_not_asked` tells the outcome of a rule that could have decided otherwise.
pub(crate) fn of_rules(
    results: &[RuleResult],
    rules: &[Rule],
    user: &str,
    places: &SettingPlaces,
    is_not_asked: impl Fn(&RuleOutcome) -> bool,
) -> Vec<Line> {
    let place = |index, keys| places.place(&Setting::Rule { index, keys });
    if results.is_empty() {
        let not_reached = |(index, rule): (usize, &Rule)| Line {
            verdict: CheckVerdict::NotReached,
            about: About::Rule(rule.name.clone()),
            place: place(index, &[]),
            text: "not reached".to_owned(),
        };
        return rules.iter().enumerate().map(not_reached).collect();
    }
    let mut lines = Vec::new();
    for (index, RuleResult { rule, outcome, skipped }) in results.iter().enumerate() {
        let verdict = match outcome {
            RuleOutcome::Account { .. } => CheckVerdict::Passed,
            RuleOutcome::NotTried | RuleOutcome::NeedsToken | RuleOutcome::OtherIssuer { .. } => {
                CheckVerdict::NotReached
            }
            outcome if is_not_asked(outcome) => CheckVerdict::Warned,
            _ => CheckVerdict::Failed,
        };
        let text = match outcome {
            RuleOutcome::OtherAccount { .. } => format!("{outcome}, asked for \"{user}\""),
            RuleOutcome::Account { .. } => match rules.get(index) {
                Some(rule) if !rule.requirements.is_empty() => {
                    let held: Vec<String> = rule.requirements.iter().map(ToString::to_string).collect();
                    format!("{outcome}; it has {}", held.join(", "))
                }
                _ => outcome.to_string(),
            },
            RuleOutcome::NotTried => "not reached: an earlier rule has decided".to_owned(),
            _ => outcome.to_string(),
        };
        let place = place(index, deciding_keys(outcome));
        lines.push(Line { verdict, about: About::Rule(rule.clone()), place, text });
        for value in skipped {
            let text = format!("not used: {value}");
            lines.push(Line { verdict: CheckVerdict::Noted, about: About::More(rule.clone()), place: None, text });
        }
    }
    lines
}

/// The key of the rule that decides, or those of which one does. Empty: the rule as a whole.
fn deciding_keys(outcome: &RuleOutcome) -> &'static [&'static str] {
    match outcome {
        RuleOutcome::OtherIssuer { .. } => &["issuer"],
        RuleOutcome::RequirementMissing { requirement } => match requirement {
            Requirement::Group { .. } => &["require_groups"],
            Requirement::Entitlement(_) | Requirement::AarcEntitlement { .. } => &["require_entitlements"],
            Requirement::Scope(_) => &["require_scopes"],
            Requirement::Acr(_) => &["require_acr"],
            Requirement::Claim { .. } => &["require_claims"],
            Requirement::Assurance { .. } => &["require_assurance"],
        },
        RuleOutcome::OtherAccount { .. }
        | RuleOutcome::InvalidName { .. }
        | RuleOutcome::ClaimMissing { .. }
        | RuleOutcome::NotInFile { .. }
        | RuleOutcome::FileUnusable { .. } => &["template", "map_file"],
        RuleOutcome::NotGiven { .. } | RuleOutcome::Blocked { .. } | RuleOutcome::NoAnswer { .. } => {
            &["user_file", "command", "motley_cue"]
        }
        RuleOutcome::NeedsToken => &["motley_cue"],
        RuleOutcome::SystemAccount => &["template", "user_file", "command", "motley_cue"],
        RuleOutcome::Account { .. } | RuleOutcome::NotTried | RuleOutcome::AsksTooLittle => &[],
    }
}
