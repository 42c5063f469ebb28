// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides which identity may use which account. The decision is pure but for the mappers that it asks, and its result holds its own
//! explanation.

mod aarc;
mod assurance;
mod claim_path;
mod outcome;
mod requirement;
mod values;
mod verdict;

pub use aarc::{AarcEntitlement, AarcFault, AarcForm};
pub use assurance::{AssuranceExpression, AssuranceFault};
pub use claim_path::ClaimPath;
pub use outcome::RuleOutcome;
pub use requirement::Requirement;
pub(crate) use verdict::refusal;

use crate::account_name::{AccountName, NameForm};
use crate::accounts::LocalAccount;
use crate::identity::Identity;
use crate::mapper::Ask;
use crate::maps::Maps;
use crate::refusal::Refusal;
use crate::settings::{Mapping, Rule};
use crate::template::MissingClaim;
use values::Skipped;

/// A decision and its explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The name of the rule that gives the account, or why none does.
    pub verdict: Result<String, Refusal>,
    /// The result of each rule, in order.
    pub rules: Vec<RuleResult>,
}

/// The result of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleResult {
    /// Name of the rule.
    pub rule: String,
    /// Its outcome.
    pub outcome: RuleOutcome,
    /// Values of the token that it cannot use, each with the reason. They meet no requirement.
    pub skipped: Vec<String>,
}

/// Decides whether `identity` may use `account`. Rules are tried in order. The first one that gives this account and
/// whose requirements are met decides, unless an earlier rule asks motley_cue and that says that the account is suspended or limited, or
/// says nothing that can be used: such a rule is final. `names` is the form of the names that templates may give. `ask` is called only
/// for rules whose requirements are met.
#[must_use]
pub fn decide(
    identity: &Identity,
    account: &LocalAccount,
    rules: &[Rule],
    names: NameForm,
    maps: &Maps,
    ask: &Ask<'_>,
) -> Decision {
    let mut results = Vec::new();
    let mut winner = None;
    let mut is_over = false;
    for rule in rules {
        let mut skipped = Skipped::default();
        let outcome = if is_over {
            RuleOutcome::NotTried
        } else {
            apply(rule, identity, account, names, maps, ask, &mut skipped)
        };
        is_over |= outcome.ends_rules();
        if matches!(outcome, RuleOutcome::Account { .. }) {
            winner = Some(rule.name.clone());
            is_over = true;
        }
        results.push(RuleResult { rule: rule.name.clone(), outcome, skipped: skipped.sentences() });
    }
    let verdict = winner.ok_or_else(|| refusal(&results, account));
    Decision { verdict, rules: results }
}

fn apply(
    rule: &Rule,
    identity: &Identity,
    account: &LocalAccount,
    names: NameForm,
    maps: &Maps,
    ask: &Ask<'_>,
    skipped: &mut Skipped,
) -> RuleOutcome {
    if rule.issuer != identity.issuer {
        return RuleOutcome::OtherIssuer { issuer: rule.issuer.clone() };
    }
    let by = rule.mapping.clone();
    match &rule.mapping {
        Mapping::Template(_) | Mapping::Asked(_) if account.system => return RuleOutcome::SystemAccount,
        Mapping::Template(template) => match template.fill(&identity.claims) {
            Err(MissingClaim(claim)) => return RuleOutcome::ClaimMissing { claim },
            Ok(text) => match AccountName::parse_as(&text, names) {
                Err(_) => return RuleOutcome::InvalidName { by },
                Ok(name) if name.as_str() != account.name => return RuleOutcome::OtherAccount { by, account: name },
                Ok(_) => {}
            },
        },
        Mapping::File(path) => match maps.get(path) {
            Err(error) => return RuleOutcome::FileUnusable { reason: error.to_string() },
            Ok(file) => {
                let mut first = None;
                let given = file.accounts(identity).any(|name| {
                    first.get_or_insert_with(|| name.clone());
                    name.as_str() == account.name
                });
                match first {
                    _ if given && account.system && !rule.opens_system_accounts() => return RuleOutcome::AsksTooLittle,
                    _ if given => {}
                    Some(other) => return RuleOutcome::OtherAccount { by, account: other },
                    None => return RuleOutcome::NotInFile { by },
                }
            }
        },
        Mapping::Asked(_) => {}
    }
    match rule.requirements.iter().find(|requirement| !requirement.is_met_by(identity, skipped)) {
        Some(requirement) => RuleOutcome::RequirementMissing { requirement: requirement.clone() },
        None => match &rule.mapping {
            Mapping::Asked(mapper) => RuleOutcome::of_mapper(by, ask(mapper)),
            Mapping::Template(_) | Mapping::File(_) => RuleOutcome::Account { by },
        },
    }
}

#[cfg(test)]
mod tests;
