// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides which identity may use which account. The decision is pure, and its result holds its own explanation.

use crate::account_name::{AccountName, NameForm};
use crate::accounts::LocalAccount;
use crate::identity::Identity;
use crate::maps::Maps;
use crate::oidc::string_list;
use crate::refusal::Refusal;
use crate::settings::{Mapping, Rule};
use crate::template::MissingClaim;

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
}

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
    /// Nothing: a template does not give system accounts.
    SystemAccount,
    /// Nothing: the map file cannot be used.
    FileUnusable {
        /// Why.
        reason: String,
    },
}

/// A requirement of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// A group.
    Group(String),
    /// An entitlement.
    Entitlement(String),
    /// A scope of the access token.
    Scope(String),
}

/// Decides whether `identity` may use `account`. Rules are tried in order. The first one that gives this account and whose requirements
/// are met decides. `names` is the form of the names that templates may give.
#[must_use]
pub fn decide(identity: &Identity, account: &LocalAccount, rules: &[Rule], names: NameForm, maps: &Maps) -> Decision {
    let mut results = Vec::new();
    let mut winner = None;
    for rule in rules {
        let outcome =
            if winner.is_some() { RuleOutcome::NotTried } else { apply(rule, identity, account, names, maps) };
        if matches!(outcome, RuleOutcome::Account { .. }) {
            winner = Some(rule.name.clone());
        }
        results.push(RuleResult { rule: rule.name.clone(), outcome });
    }
    let verdict = winner.ok_or_else(|| refusal(&results, account));
    Decision { verdict, rules: results }
}

fn apply(rule: &Rule, identity: &Identity, account: &LocalAccount, names: NameForm, maps: &Maps) -> RuleOutcome {
    if rule.issuer != identity.issuer {
        return RuleOutcome::OtherIssuer { issuer: rule.issuer.clone() };
    }
    let by = rule.mapping.clone();
    match &rule.mapping {
        Mapping::Template(_) if account.system => return RuleOutcome::SystemAccount,
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
                    _ if given => {}
                    Some(other) => return RuleOutcome::OtherAccount { by, account: other },
                    None => return RuleOutcome::NotInFile { by },
                }
            }
        },
    }
    match missing_requirement(rule, identity) {
        Some(requirement) => RuleOutcome::RequirementMissing { requirement },
        None => RuleOutcome::Account { by },
    }
}

/// The first requirement that is not met. Values are compared byte for byte.
fn missing_requirement(rule: &Rule, identity: &Identity) -> Option<Requirement> {
    let groups = string_list(&identity.claims, "groups");
    let mut entitlements = string_list(&identity.claims, "entitlements");
    entitlements.extend(string_list(&identity.claims, "eduperson_entitlement"));
    let missing =
        |required: &[String], held: &[&str]| required.iter().find(|one| !held.contains(&one.as_str())).cloned();
    let scopes: Vec<&str> = identity.scopes.iter().map(String::as_str).collect();
    missing(&rule.require_groups, &groups)
        .map(Requirement::Group)
        .or_else(|| missing(&rule.require_entitlements, &entitlements).map(Requirement::Entitlement))
        .or_else(|| missing(&rule.require_scopes, &scopes).map(Requirement::Scope))
}

/// The most helpful refusal: a missing requirement, else an unusable map file, else the account that the identity maps to.
fn refusal(results: &[RuleResult], account: &LocalAccount) -> Refusal {
    let mut maps_to = None;
    let mut unusable = None;
    for result in results {
        match &result.outcome {
            RuleOutcome::RequirementMissing { requirement } => return Refusal::Requirement(requirement.to_string()),
            RuleOutcome::FileUnusable { reason } => unusable = unusable.or_else(|| Some(reason.clone())),
            RuleOutcome::OtherAccount { account, .. } => maps_to = maps_to.or_else(|| Some(account.to_string())),
            _ => {}
        }
    }
    match unusable {
        Some(reason) => Refusal::Configuration(reason),
        None => Refusal::NotMapped { account: account.name.clone(), maps_to },
    }
}

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Group(name) => write!(f, "group {name}"),
            Self::Entitlement(name) => write!(f, "entitlement {name}"),
            Self::Scope(name) => write!(f, "scope {name}"),
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
            Self::SystemAccount => f.write_str("a template gives no system account; only a map file does"),
            Self::FileUnusable { reason } => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map_file::MapFile;
    use crate::maps::MapFileUnusable;
    use crate::settings::AccountSettings;

    const MAP: &str = "op s-1 carol\nhttps://op.example.org/ s-1 root\nother s-1 dave\nop s-2 bob\n\
                       op s-1 4dave\nop s-1 Dave\nop s-1 dave@example.org\nop s-1 DOM\\dave # a comment\n";

    fn identity(claims: &str) -> Identity {
        let claims: serde_json::Map<_, _> = serde_json::from_str(claims).unwrap();
        Identity {
            issuer: "op".into(),
            iss: "https://op.example.org".into(),
            sub: "s-1".into(),
            scopes: vec!["openid".into()],
            claims,
        }
    }

    fn rule(lines: &str) -> Rule {
        toml::from_str(&format!("name = 'r'\nissuer = 'op'\n{lines}")).unwrap()
    }

    fn run(claims: &str, account: &str, rules: &[Rule]) -> Decision {
        run_with(NameForm::Posix, claims, account, rules)
    }

    fn run_with(names: NameForm, claims: &str, account: &str, rules: &[Rule]) -> Decision {
        let uid = if account == "root" { 0 } else { 2_000 };
        let account = LocalAccount::new(account, uid, uid, &AccountSettings::default());
        let mut maps = Maps::default();
        let path = std::path::Path::new("/users.map");
        maps.insert(path, Ok(MapFile::parse(MAP.as_bytes())));
        let unusable = MapFileUnusable { reason: "/broken.map: no".into() };
        maps.insert(std::path::Path::new("/broken.map"), Err(unusable));
        decide(&identity(claims), &account, rules, names, &maps)
    }

    fn reason(decision: &Decision) -> &'static str {
        match &decision.verdict {
            Ok(_) => "accept",
            Err(refusal) => refusal.reason(),
        }
    }

    #[test]
    fn each_rule_has_its_result() {
        let alice = r#"{"preferred_username":"alice","groups":["/hpc"],"entitlements":"urn:a","eduperson_entitlement":["urn:b"]}"#;
        let template = "template = '{preferred_username}'";
        let file = "map_file = '/users.map'";
        let table: &[(&str, &str, &str, &str)] = &[
            // claims, account, rule, result
            (alice, "alice", template, "accept"),
            (alice, "bob", template, "not_mapped"),
            (alice, "alic", template, "not_mapped"),
            (r#"{"preferred_username":"Alice"}"#, "alice", template, "not_mapped"),
            (r#"{"preferred_username":["alice"]}"#, "alice", template, "not_mapped"),
            (r#"{"preferred_username":"alice "}"#, "alice", template, "not_mapped"),
            (r#"{"preferred_username":"root"}"#, "root", template, "not_mapped"),
            ("{}", "alice", template, "not_mapped"),
            (alice, "alice", "template = '{preferred_username}'\nrequire_groups = ['/hpc']", "accept"),
            (alice, "alice", "template = '{preferred_username}'\nrequire_groups = ['/hpc', '/x']", "requirement"),
            (alice, "alice", "template = '{preferred_username}'\nrequire_groups = ['/HPC']", "requirement"),
            (alice, "alice", "template = '{preferred_username}'\nrequire_entitlements = ['urn:a', 'urn:b']", "accept"),
            (alice, "alice", "template = '{preferred_username}'\nrequire_entitlements = ['urn:c']", "requirement"),
            (alice, "alice", "template = '{preferred_username}'\nrequire_scopes = ['openid']", "accept"),
            (alice, "alice", "template = '{preferred_username}'\nrequire_scopes = ['ssh']", "requirement"),
            ("{}", "carol", file, "accept"),
            ("{}", "root", file, "accept"), // the file names it; `deny` is checked before the rules
            ("{}", "dave", file, "not_mapped"),
            ("{}", "bob", file, "not_mapped"),
            ("{}", "bob", "map_file = '/broken.map'", "configuration"),
            ("{}", "bob", "map_file = '/elsewhere.map'", "configuration"),
        ];
        for (claims, account, lines, expected) in table {
            let decision = run(claims, account, &[rule(lines)]);
            assert_eq!(reason(&decision), *expected, "{claims} as {account} with {lines}: {:?}", decision.rules);
        }
    }

    #[test]
    fn a_map_file_gives_any_account_name_and_a_template_only_posix_ones_by_default() {
        for name in ["4dave", "Dave", "dave@example.org", "DOM\\dave"] {
            let claims = serde_json::json!({ "name": name }).to_string();
            let (template, file) = ([rule("template = '{name}'")], [rule("map_file = '/users.map'")]);
            assert_eq!(reason(&run("{}", name, &file)), "accept", "{name} by file");
            assert_eq!(reason(&run(&claims, name, &template)), "not_mapped", "{name} by template");
            assert_eq!(reason(&run_with(NameForm::Nss, &claims, name, &template)), "accept", "{name} by template");
            // NSS databases may ignore case. The comparison here is byte for byte.
            let other = name.replace("dave", "DAVE").replace("Dave", "dave");
            assert_eq!(reason(&run("{}", &other, &file)), "not_mapped", "{other} by file");
            assert_eq!(reason(&run_with(NameForm::Nss, &claims, &other, &template)), "not_mapped", "{other}");
        }
    }

    #[test]
    fn a_template_never_gives_an_invalid_name() {
        for name in ["-oProxyCommand", "a/b", "..", "a:b", " dave", "a\u{1b}[2J"] {
            let claims = serde_json::json!({ "name": name }).to_string();
            let decision = run_with(NameForm::Nss, &claims, name, &[rule("template = '{name}'")]);
            assert!(matches!(decision.rules[0].outcome, RuleOutcome::InvalidName { .. }), "{name:?}");
        }
    }

    #[test]
    fn the_first_rule_that_gives_the_account_wins() {
        let mut rules =
            [rule("template = '{preferred_username}'"), rule("map_file = '/users.map'"), rule("template = '{sub}'")];
        for (rule, name) in rules.iter_mut().zip(["a", "b", "c"]) {
            rule.name = name.to_owned();
        }
        let decision = run(r#"{"preferred_username":"alice"}"#, "carol", &rules);
        assert_eq!(decision.verdict, Ok("b".to_owned()));
        assert!(matches!(decision.rules[0].outcome, RuleOutcome::OtherAccount { .. }));
        assert_eq!(decision.rules[2].outcome, RuleOutcome::NotTried);
    }

    #[test]
    fn a_rule_ignores_identities_of_other_issuers() {
        let mut rule = rule("template = '{preferred_username}'");
        rule.issuer = "egi".into();
        let decision = run(r#"{"preferred_username":"alice"}"#, "alice", &[rule]);
        assert_eq!(reason(&decision), "not_mapped");
    }

    #[test]
    fn without_rules_every_login_is_refused() {
        assert_eq!(reason(&run("{}", "alice", &[])), "not_mapped");
    }

    #[test]
    fn the_refusal_names_the_users_own_account_and_nothing_else() {
        let decision = run(r#"{"preferred_username":"alice"}"#, "bob", &[rule("template = '{preferred_username}'")]);
        assert_eq!(
            decision.verdict.unwrap_err().to_string(),
            r#"your identity is valid but not mapped to the account "bob". It maps to "alice""#
        );
    }

    proptest::proptest! {
        #[test]
        fn a_template_gives_only_the_account_that_the_claim_spells(claim in "\\PC{0,12}", account in "[a-z]{1,6}") {
            let claims = serde_json::json!({ "preferred_username": claim }).to_string();
            let decision = run(&claims, &account, &[rule("template = '{preferred_username}'")]);
            proptest::prop_assert_eq!(decision.verdict.is_ok(), claim == account);
        }
    }
}
