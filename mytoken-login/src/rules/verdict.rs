// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why no rule gives the account.

use super::RuleResult;
use super::outcome::RuleOutcome;
use crate::accounts::LocalAccount;
use crate::refusal::{Refusal, RefusalClass};

/// The most helpful refusal: that motley_cue does not want the account to be used or could not be asked, else a missing requirement, else
/// an unusable map file or rule, else that of a mapper that does not answer, else the account that the identity maps to. An outage opens
/// the way that a site keeps for outages, so it never hides a missing requirement.
pub(crate) fn refusal(results: &[RuleResult], account: &LocalAccount) -> Refusal {
    let last = results.iter().find(|result| result.outcome.ends_rules()).map(|result| &result.outcome);
    match last {
        Some(RuleOutcome::Blocked { state, .. }) => return Refusal::NotActive(*state),
        Some(RuleOutcome::NoAnswer { refusal, .. }) if refusal.class() != RefusalClass::Unavailable => {
            return refusal.clone();
        }
        _ => {}
    }
    let mut maps_to = None;
    let mut unusable = None;
    let mut unanswered = None;
    for result in results {
        match &result.outcome {
            RuleOutcome::RequirementMissing { requirement } => return Refusal::Requirement(requirement.to_string()),
            RuleOutcome::FileUnusable { reason } => unusable = unusable.or_else(|| Some(reason.clone())),
            RuleOutcome::NoAnswer { refusal, .. } => unanswered = unanswered.or_else(|| Some(refusal.clone())),
            RuleOutcome::AsksTooLittle => {
                unusable = unusable.or_else(|| Some(format!("the rule \"{}\" {}", result.rule, result.outcome)));
            }
            RuleOutcome::OtherAccount { account, .. } => maps_to = maps_to.or_else(|| Some(account.to_string())),
            _ => {}
        }
    }
    unusable
        .map(Refusal::Configuration)
        .or(unanswered)
        .unwrap_or_else(|| Refusal::NotMapped { account: account.name.clone(), maps_to })
}
