// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which identity may use which account: a pure function whose result explains itself.

use std::path::PathBuf;

use super::{Account, Identity, Mapping, Maps, Refusal, Rule, Template};
use crate::account_name::{AccountName, NameForm};
use crate::oidc::list;

/// A decision with the way to it; log, `explain` and the person see it in three forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub verdict: Verdict,
    /// What each rule said, in order.
    pub steps: Vec<Step>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The identity may use the account.
    Accept {
        /// Name of the rule that says so.
        rule: String,
    },
    /// It may not.
    Refuse(Refusal),
}

/// What one rule said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Name of the rule.
    pub rule: String,
    /// What it said.
    pub finding: Finding,
}

/// What a rule can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It gives the identity the account.
    Gives {
        /// How: the template or file.
        by: Source,
    },
    /// An earlier rule has decided.
    NotTried,
    /// It is for another provider.
    OtherIssuer {
        /// The provider.
        issuer: String,
    },
    /// It gives the identity another account.
    OtherAccount {
        /// How.
        by: Source,
        /// Which.
        account: AccountName,
    },
    /// The claims make no account's name.
    NoName {
        /// How.
        by: Source,
    },
    /// A claim that the template needs is missing or not text.
    ClaimMissing {
        /// The claim.
        claim: String,
    },
    /// The map file does not know the identity.
    NotInFile {
        /// The file.
        by: Source,
    },
    /// It would give the account, but demands more.
    Lacks {
        /// What the identity lacks.
        requirement: Requirement,
    },
    /// A template names no account in writing, so it opens none of the system's.
    SystemAccount,
    /// The map file cannot be used.
    FileUnusable {
        /// Why.
        reason: String,
    },
}

/// How a rule comes to an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A template over claims.
    Template(Template),
    /// A map file.
    File(PathBuf),
}

/// What a rule can demand of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// A group.
    Group(String),
    /// An entitlement.
    Entitlement(String),
    /// A scope of the access token.
    Scope(String),
}

/// Decides whether `identity` may use `account`. Rules are tried in order; the first that gives the account and has its demands met
/// wins. PAM's user is compared with, never changed. `names` is the form of the names that templates may give.
#[must_use]
pub fn decide(identity: &Identity, account: &Account, rules: &[Rule], names: NameForm, maps: &Maps) -> Decision {
    let mut steps = Vec::new();
    let mut winner = None;
    for rule in rules {
        let finding = if winner.is_some() { Finding::NotTried } else { ask(rule, identity, account, names, maps) };
        if matches!(finding, Finding::Gives { .. }) {
            winner = Some(rule.name.clone());
        }
        steps.push(Step { rule: rule.name.clone(), finding });
    }
    let verdict = match winner {
        Some(rule) => Verdict::Accept { rule },
        None => Verdict::Refuse(refusal(&steps, account)),
    };
    Decision { verdict, steps }
}

fn ask(rule: &Rule, identity: &Identity, account: &Account, names: NameForm, maps: &Maps) -> Finding {
    if rule.issuer != identity.issuer {
        return Finding::OtherIssuer { issuer: rule.issuer.clone() };
    }
    let by = match &rule.mapping {
        Mapping::Template(_) if account.system => return Finding::SystemAccount,
        Mapping::Template(template) => match template.fill(&identity.claims) {
            Err(claim) => return Finding::ClaimMissing { claim },
            Ok(text) => {
                let by = Source::Template(template.clone());
                match AccountName::parse_as(&text, names) {
                    Err(_) => return Finding::NoName { by },
                    Ok(name) if name.as_str() != account.name => return Finding::OtherAccount { by, account: name },
                    Ok(_) => by,
                }
            }
        },
        Mapping::File(path) => match maps.get(path) {
            Err(reason) => return Finding::FileUnusable { reason },
            Ok(file) => {
                let by = Source::File(path.clone());
                let mut first = None;
                if file.accounts(identity).any(|name| {
                    first.get_or_insert_with(|| name.clone());
                    name.as_str() == account.name
                }) {
                    by
                } else {
                    return match first {
                        Some(other) => Finding::OtherAccount { by, account: other },
                        None => Finding::NotInFile { by },
                    };
                }
            }
        },
    };
    match lacking(rule, identity) {
        Some(requirement) => Finding::Lacks { requirement },
        None => Finding::Gives { by },
    }
}

/// The first demand that is not met. Values are compared byte for byte.
fn lacking(rule: &Rule, identity: &Identity) -> Option<Requirement> {
    let groups = list(&identity.claims, "groups");
    let mut entitlements = list(&identity.claims, "entitlements");
    entitlements.extend(list(&identity.claims, "eduperson_entitlement"));
    let missing = |wanted: &[String], held: &[&str]| wanted.iter().find(|one| !held.contains(&one.as_str())).cloned();
    let scopes: Vec<&str> = identity.scopes.iter().map(String::as_str).collect();
    missing(&rule.require_groups, &groups)
        .map(Requirement::Group)
        .or_else(|| missing(&rule.require_entitlements, &entitlements).map(Requirement::Entitlement))
        .or_else(|| missing(&rule.require_scopes, &scopes).map(Requirement::Scope))
}

/// The refusal that helps most: what the rule for this account lacked, else that its file is broken, else which account it is.
fn refusal(steps: &[Step], account: &Account) -> Refusal {
    let mut maps_to = None;
    let mut unusable = None;
    for step in steps {
        match &step.finding {
            Finding::Lacks { requirement } => return Refusal::Requirement(requirement.to_string()),
            Finding::FileUnusable { reason } => unusable = unusable.or_else(|| Some(reason.clone())),
            Finding::OtherAccount { account, .. } => maps_to = maps_to.or_else(|| Some(account.to_string())),
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

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Template(template) => write!(f, "account template {template}"),
            Self::File(path) => write!(f, "map file {}", path.display()),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gives { by } => write!(f, "{by} gives the account"),
            Self::NotTried => f.write_str("not tried: an earlier rule has decided"),
            Self::OtherIssuer { issuer } => write!(f, "is for issuer \"{issuer}\""),
            Self::OtherAccount { by, account } => write!(f, "{by} gives \"{account}\""),
            Self::NoName { by } => write!(f, "{by} gives no valid account name"),
            Self::ClaimMissing { claim } => write!(f, "the token has no text in claim {claim}"),
            Self::NotInFile { by } => write!(f, "{by} does not know the identity"),
            Self::Lacks { requirement } => write!(f, "{requirement} missing"),
            Self::SystemAccount => f.write_str("a template opens no system account; only a map file does"),
            Self::FileUnusable { reason } => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let account = Account::new(account, uid, uid, &crate::AccountSettings::default());
        let mut maps = Maps::default();
        let path = std::path::Path::new("/users.map");
        maps.insert(path, Ok(super::super::MapFile::parse(MAP.as_bytes())));
        maps.insert(std::path::Path::new("/broken.map"), Err("/broken.map:1: no".into()));
        decide(&identity(claims), &account, rules, names, &maps)
    }

    fn reason(decision: &Decision) -> &'static str {
        match &decision.verdict {
            Verdict::Accept { .. } => "accept",
            Verdict::Refuse(refusal) => refusal.reason(),
        }
    }

    #[test]
    fn one_rule() {
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
            ("{}", "root", file, "accept"), // the file names it; whether root may log in at all is asked before
            ("{}", "dave", file, "not_mapped"),
            ("{}", "bob", file, "not_mapped"),
            ("{}", "bob", "map_file = '/broken.map'", "configuration"),
            ("{}", "bob", "map_file = '/elsewhere.map'", "configuration"),
        ];
        for (claims, account, lines, expected) in table {
            let decision = run(claims, account, &[rule(lines)]);
            assert_eq!(reason(&decision), *expected, "{claims} as {account} with {lines}: {:?}", decision.steps);
        }
    }

    #[test]
    fn a_map_file_names_any_account_and_a_template_only_with_a_word() {
        for name in ["4dave", "Dave", "dave@example.org", "DOM\\dave"] {
            let claims = serde_json::json!({ "name": name }).to_string();
            let (template, file) = ([rule("template = '{name}'")], [rule("map_file = '/users.map'")]);
            assert_eq!(reason(&run("{}", name, &file)), "accept", "{name} by file");
            assert_eq!(reason(&run(&claims, name, &template)), "not_mapped", "{name} by template");
            assert_eq!(reason(&run_with(NameForm::Nss, &claims, name, &template)), "accept", "{name} by template");
            // Byte for byte: the system's databases may be indifferent to case, this is not.
            let other = name.replace("dave", "DAVE").replace("Dave", "dave");
            assert_eq!(reason(&run("{}", &other, &file)), "not_mapped", "{other} by file");
            assert_eq!(reason(&run_with(NameForm::Nss, &claims, &other, &template)), "not_mapped", "{other}");
        }
    }

    #[test]
    fn a_template_never_gives_what_is_no_name() {
        for name in ["-oProxyCommand", "a/b", "..", "a:b", " dave", "a\u{1b}[2J"] {
            let claims = serde_json::json!({ "name": name }).to_string();
            let decision = run_with(NameForm::Nss, &claims, name, &[rule("template = '{name}'")]);
            assert!(matches!(decision.steps[0].finding, Finding::NoName { .. }), "{name:?}");
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
        assert_eq!(decision.verdict, Verdict::Accept { rule: "b".into() });
        assert!(matches!(decision.steps[0].finding, Finding::OtherAccount { .. }));
        assert_eq!(decision.steps[2].finding, Finding::NotTried);
    }

    #[test]
    fn a_rule_is_for_one_issuer() {
        let mut rule = rule("template = '{preferred_username}'");
        rule.issuer = "egi".into();
        let decision = run(r#"{"preferred_username":"alice"}"#, "alice", &[rule]);
        assert_eq!(reason(&decision), "not_mapped");
    }

    #[test]
    fn without_rules_nobody_is_let_in() {
        assert_eq!(reason(&run("{}", "alice", &[])), "not_mapped");
    }

    #[test]
    fn the_person_is_told_their_own_account_and_nothing_else() {
        let decision = run(r#"{"preferred_username":"alice"}"#, "bob", &[rule("template = '{preferred_username}'")]);
        let Verdict::Refuse(refusal) = decision.verdict else { panic!("accepted") };
        assert_eq!(
            refusal.to_string(),
            r#"your identity is valid but not mapped to the account "bob". It maps to "alice""#
        );
    }

    proptest::proptest! {
        #[test]
        fn a_template_only_ever_gives_the_account_that_the_claim_spells(claim in "\\PC{0,12}", account in "[a-z]{1,6}") {
            let claims = serde_json::json!({ "preferred_username": claim }).to_string();
            let decision = run(&claims, &account, &[rule("template = '{preferred_username}'")]);
            proptest::prop_assert_eq!(matches!(decision.verdict, Verdict::Accept { .. }), claim == account);
        }
    }
}
