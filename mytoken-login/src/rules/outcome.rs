// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one rule gives to an identity.

use super::requirement::Requirement;
use crate::account_name::AccountName;
use crate::mapper::Given;
use crate::refusal::{Refusal, RefusalClass};
use crate::service_state::ServiceState;
use crate::settings::{MapperSettings, Mapping, OnOutage, STRONG_KEYS};

/// What a rule gives to an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleOutcome {
    /// The requested account.
    Account {
        /// The template or map file that gives it.
        by: Mapping,
    },
    /// Nothing: an earlier rule has decided.
    NotTried,
    /// Nothing: it is for another issuer.
    OtherIssuer {
        /// Its issuer.
        issuer: String,
    },
    /// Another account.
    OtherAccount {
        /// The template or map file that gives it.
        by: Mapping,
        /// The account.
        account: AccountName,
    },
    /// A text that is not a valid account name.
    InvalidName {
        /// The template.
        by: Mapping,
    },
    /// Nothing: a claim of the template is missing or not text.
    ClaimMissing {
        /// The claim.
        claim: String,
    },
    /// Nothing: the map file has no line for the identity.
    NotInFile {
        /// The map file.
        by: Mapping,
    },
    /// The requested account, but the identity does not meet a requirement of the rule.
    RequirementMissing {
        /// The first missing requirement.
        requirement: Requirement,
    },
    /// Not tried: it needs an access token, and the user entered a one-time password.
    NeedsToken,
    /// Nothing: only a map file gives system accounts.
    SystemAccount,
    /// Nothing: the map file gives the system account, but the rule has no strong requirement.
    AsksTooLittle,
    /// Nothing: the mapper says so.
    NotGiven {
        /// The mapper.
        by: Mapping,
        /// Why, a clause without subject.
        reason: String,
    },
    /// Nothing: motley_cue does not want the account to be used. No later rule is tried.
    Blocked {
        /// The mapper.
        by: Mapping,
        /// The state of the account.
        state: ServiceState,
    },
    /// Nothing: there is no answer of the mapper. If the mapper is motley_cue, no later rule is tried, see `ends_rules`.
    NoAnswer {
        /// The mapper.
        by: Mapping,
        /// The refusal, if no other rule gives the account.
        refusal: Refusal,
    },
    /// Nothing: the map file cannot be used.
    FileUnusable {
        /// Why.
        reason: String,
    },
}

impl RuleOutcome {
    /// What the mapper of a rule has answered.
    pub(crate) fn of_mapper(by: Mapping, answer: Result<Given, Refusal>) -> Self {
        match answer {
            Ok(Given::Account) => Self::Account { by },
            Ok(Given::Nothing(reason)) => Self::NotGiven { by, reason },
            // An account that does not exist yet can still be given by another rule.
            Err(Refusal::NotActive(state)) if state != ServiceState::Pending => Self::Blocked { by, state },
            Err(refusal) => Self::NoAnswer { by, refusal },
        }
    }

    /// Whether no later rule is tried, although this one gives nothing. motley_cue may have suspended the person, so a later rule must not
    /// open the account because motley_cue was not asked or did not answer: the person can repeat a token, spend the budget of an address
    /// or enter a token that motley_cue cannot read. Only an outage can be excepted, by the rule's settings. An account that waits for its
    /// approval may not exist yet, and can be given by another rule.
    pub(super) fn ends_rules(&self) -> bool {
        match self {
            Self::Blocked { .. } => true,
            Self::NoAnswer { by: Mapping::Asked(MapperSettings::MotleyCue(settings)), refusal } => match refusal {
                Refusal::NotActive(_) => false,
                refusal if refusal.class() == RefusalClass::Unavailable => settings.on_outage == OnOutage::Refuse,
                _ => true,
            },
            _ => false,
        }
    }
}

impl std::fmt::Display for RuleOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Account { by } => write!(f, "{by} gives the account"),
            Self::NotTried => f.write_str("not tried: an earlier rule has decided"),
            Self::OtherIssuer { issuer } => write!(f, "is for issuer \"{issuer}\""),
            Self::OtherAccount { by, account } => write!(f, "{by} gives \"{account}\""),
            Self::InvalidName { by } => write!(f, "{by} gives no valid account name"),
            Self::ClaimMissing { claim } => write!(f, "the claim {claim} of the token is missing or not text"),
            Self::NotInFile { by } => write!(f, "{by} has no line for the identity"),
            Self::RequirementMissing { requirement } => write!(f, "{requirement} missing"),
            Self::SystemAccount => f.write_str("gives no system account; only a rule with a map file does"),
            Self::NeedsToken => f.write_str("not tried: it needs an access token"),
            Self::AsksTooLittle => write!(f, "asks for too little to give a system account: add {STRONG_KEYS}"),
            Self::NotGiven { by, reason } => write!(f, "{by} {reason}"),
            Self::Blocked { by, state } => write!(f, "{by} says that the account is {}", state.as_str()),
            Self::NoAnswer { by, refusal } => {
                write!(f, "no answer of {by}: {}", refusal.detail().unwrap_or_else(|| refusal.to_string()))
            }
            Self::FileUnusable { reason } => f.write_str(reason),
        }
    }
}
