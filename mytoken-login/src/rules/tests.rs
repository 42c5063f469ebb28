// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables of rules, claims and decisions.

use super::*;
use crate::map_file::MapFile;
use crate::maps::MapFileUnusable;
use crate::settings::AccountSettings;

mod mappers;

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
    let unusable = MapFileUnusable { reason: "/broken.map: no".into(), cause: None };
    maps.insert(std::path::Path::new("/broken.map"), Err(unusable));
    decide(&identity(claims), &account, rules, names, &maps, &|_| unreachable!("no rule has a mapper"))
}

fn reason(decision: &Decision) -> &'static str {
    match &decision.verdict {
        Ok(_) => "accept",
        Err(refusal) => refusal.reason(),
    }
}

#[test]
fn each_rule_has_its_result() {
    let alice =
        r#"{"preferred_username":"alice","groups":["/hpc"],"entitlements":"urn:a","eduperson_entitlement":["urn:b"]}"#;
    let template = "template = '{preferred_username}'";
    let file = "map_file = '/users.map'";
    let acr = "template = '{preferred_username}'\nrequire_acr = ['urn:mfa', '2']";
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
        (r#"{"preferred_username":"alice","acr":"urn:mfa"}"#, "alice", acr, "accept"),
        (r#"{"preferred_username":"alice","acr":["1","2"]}"#, "alice", acr, "accept"),
        (r#"{"preferred_username":"alice","acr":"urn:MFA"}"#, "alice", acr, "requirement"),
        (r#"{"preferred_username":"alice","acr":"urn:mfa 2"}"#, "alice", acr, "requirement"),
        (r#"{"preferred_username":"alice","acr":2}"#, "alice", acr, "requirement"),
        (alice, "alice", acr, "requirement"),
        ("{}", "carol", file, "accept"),
        // The file names root; `deny` and `allow_system` are checked before the rules.
        ("{}", "root", file, "configuration"),
        ("{}", "root", "map_file = '/users.map'\nrequire_scopes = ['openid']", "configuration"),
        ("{}", "root", "map_file = '/users.map'\nrequire_assurance = '*'", "configuration"),
        (r#"{"acr":"2"}"#, "root", "map_file = '/users.map'\nrequire_acr = ['2']", "accept"),
        (r#"{"acr":"1"}"#, "root", "map_file = '/users.map'\nrequire_acr = ['2']", "requirement"),
        (r#"{"amr":["pwd","mfa"]}"#, "root", "map_file = '/users.map'\nrequire_claims = { amr = 'mfa' }", "accept"),
        (r#"{"amr":["pwd"]}"#, "root", "map_file = '/users.map'\nrequire_claims = { amr = 'mfa' }", "requirement"),
        (
            r#"{"eduperson_assurance":"IAP/high"}"#,
            "root",
            "map_file = '/users.map'\nrequire_assurance = 'IAP/high'",
            "configuration",
        ),
        (r#"{"preferred_username":"root","acr":"2"}"#, "root", acr, "not_mapped"),
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
fn a_rule_that_asks_for_too_little_leaves_a_system_account_to_the_next_one() {
    let weak = rule("map_file = '/users.map'\nrequire_scopes = ['openid']");
    let decision = run(r#"{"acr":"2"}"#, "root", &[weak.clone(), rule("map_file = '/users.map'\nrequire_acr = ['2']")]);
    assert!(decision.verdict.is_ok());
    assert_eq!(decision.rules[0].outcome, RuleOutcome::AsksTooLittle);
    let Err(Refusal::Configuration(reason)) = run("{}", "root", &[weak]).verdict else { panic!("accepted") };
    assert!(
        reason.starts_with("the rule \"r\" asks for too little to give a system account: add require_acr"),
        "{reason}"
    );
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

#[test]
fn groups_are_read_from_the_claims_of_the_rule() {
    let table: &[(&str, &str, bool)] = &[
        // lines of the rule, a claim of the token, met
        ("require_groups = ['/hpc']", r#""groups":"/hpc""#, true),
        ("require_groups = ['/hpc']", r#""groups":"/hpc /x""#, false),
        ("require_groups = ['/hpc']", r#""groups":["/hpc/users"]"#, false),
        ("require_groups = ['/hpc']", r#""groups":[7,["/hpc"],{"/hpc":1},null]"#, false),
        ("require_groups = ['/hpc']", r#""groups":[7,"/hpc"]"#, true),
        ("require_groups = ['/hpc']", r#""groups":{"/hpc":true}"#, false),
        ("require_groups = ['/hpc']", r#""wlcg.groups":["/hpc"]"#, false),
        ("require_groups = ['/hpc']\ngroup_claims = ['wlcg.groups']", r#""wlcg.groups":["/hpc"]"#, true),
        ("require_groups = ['/hpc']\ngroup_claims = ['wlcg.groups']", r#""wlcg":{"groups":["/hpc"]}"#, false),
        ("require_groups = ['/hpc']\ngroup_claims = ['wlcg.groups']", r#""groups":["/hpc"]"#, false),
        ("require_groups = ['a']\ngroup_claims = ['eduperson_entitlement']", r#""eduperson_entitlement":"a""#, true),
        ("require_groups = ['a']\ngroup_claims = ['/realm/roles']", r#""realm":{"roles":["b","a"]}"#, true),
        ("require_groups = ['a']\ngroup_claims = ['/realm/roles']", r#""/realm/roles":["a"]"#, false),
        ("require_groups = ['a', 'b']\ngroup_claims = ['x', 'y']", r#""x":["a"],"y":"b""#, true),
        ("require_groups = ['a', 'b']\ngroup_claims = ['x', 'y']", r#""x":["a"],"z":"b""#, false),
    ];
    for (lines, claim, met) in table {
        let rule = rule(&format!("template = '{{sub}}'\n{lines}"));
        let decision = run(&format!("{{\"sub\":\"alice\",{claim}}}"), "alice", &[rule]);
        assert_eq!(decision.verdict.is_ok(), *met, "{lines}: {claim}");
    }
}

#[test]
fn values_that_are_not_text_are_told() {
    let rules = [rule("template = '{sub}'\nrequire_groups = ['a']")];
    let decision = run(r#"{"sub":"alice","groups":[7,"b",8,{}]}"#, "alice", &rules);
    assert_eq!(decision.rules[0].skipped, ["groups: a number is not text", "groups: an object is not text"]);
    let decision = run(r#"{"sub":"alice","groups":["a","b"]}"#, "alice", &rules);
    assert!(decision.rules[0].skipped.is_empty());
}

#[test]
fn aarc_entitlements_are_compared_by_the_subset_rule_and_others_byte_for_byte() {
    const VO: &str = "require_entitlements = ['urn:mace:egi.eu:group:vo#aai.egi.eu']";
    let in_g002 = format!("{VO}\nentitlement_form = 'g002'");
    let table: &[(&str, &str, bool)] = &[
        // lines of the rule, entitlements of the token, met
        (VO, r#""urn:mace:egi.eu:group:vo#aai.egi.eu""#, true),
        (VO, r#"["urn:mace:egi.eu:group:vo:admins:role=member#other.eu"]"#, true),
        (VO, r#"["common-lib-terms", 7, "urn:mace:egi.eu:group:vo"]"#, true),
        (VO, r#"["urn:mace:egi.eu:group:vo2#aai.egi.eu"]"#, false),
        (VO, r#"["URN:Mace:EGI.eu:group:vo"]"#, true),
        (VO, r#"["urn:mace:egi.eu:group:vo%3Aadmins"]"#, false),
        (in_g002.as_str(), r#"["urn:mace:egi.eu:group:%76o"]"#, true),
        (in_g002.as_str(), r#"["urn:mace:egi.eu:group:vo%3Aadmins"]"#, false),
        (in_g002.as_str(), r#"["URN:Mace:EGI.eu:group:vo"]"#, false),
        // What cannot be read opens nothing, also where it has the same beginning.
        (VO, r#"["urn:mace:egi.eu:group:vo#"]"#, false),
        (VO, r#"["urn:mace:egi.eu:group:vo:group:x"]"#, false),
        ("require_entitlements = ['urn:mace:dir:x']", r#"["urn:mace:dir:x"]"#, true),
        ("require_entitlements = ['urn:mace:dir:x']", r#"["URN:mace:dir:x"]"#, false),
        ("require_entitlements = ['urn:mace:dir:x']", r#"["urn:mace:dir:x:y"]"#, false),
    ];
    for (lines, held, met) in table {
        for claim in ["entitlements", "eduperson_entitlement"] {
            let rules = [rule(&format!("template = '{{sub}}'\n{lines}"))];
            let decision = run(&format!("{{\"sub\":\"alice\",\"{claim}\":{held}}}"), "alice", &rules);
            assert_eq!(decision.verdict.is_ok(), *met, "{lines}: {held}");
        }
    }
}

#[test]
fn entitlements_that_cannot_be_read_are_told() {
    let rules = [rule("template = '{sub}'\nrequire_entitlements = ['urn:n:e.org:group:a']")];
    let claims = r#"{"sub":"alice","entitlements":["urn:n:e.org:group:b","common-lib-terms","urn:n:e.org:group:a#"]}"#;
    let decision = run(claims, "alice", &rules);
    assert_eq!(
        decision.rules[0].skipped,
        [
            "entitlement \"common-lib-terms\": it does not begin with \"urn:\" (AARC-G069)",
            "entitlement \"urn:n:e.org:group:a#\": it has no authority behind \"#\" (AARC-G069)",
        ]
    );
}

#[test]
fn assurance_is_read_from_the_claims_of_the_rule() {
    const MEDIUM: &str = "require_assurance = 'profile/cappuccino & IAP/medium'";
    let of_voperson = format!("{MEDIUM}\nassurance_claims = ['voperson_assurance', '/idp/assurance']");
    let table: &[(&str, &str, bool)] = &[
        // lines of the rule, claims of the token, met
        (
            MEDIUM,
            r#""eduperson_assurance":["https://refeds.org/assurance/profile/cappuccino","IAP/low","IAP/medium"]"#,
            true,
        ),
        (MEDIUM, r#""eduperson_assurance":["profile/cappuccino","IAP/low"]"#, false),
        (MEDIUM, r#""eduperson_assurance":"profile/cappuccino IAP/medium""#, true),
        (MEDIUM, r#""eduperson_assurance":["profile/cappuccino IAP/medium"]"#, false),
        (MEDIUM, r#""eduperson_assurance":[7,{"IAP/medium":1},"profile/cappuccino"]"#, false),
        (MEDIUM, r#""acr":"profile/cappuccino IAP/medium""#, false),
        (MEDIUM, r#""sub2":"""#, false),
        (of_voperson.as_str(), r#""voperson_assurance":["IAP/medium"],"idp":{"assurance":"profile/cappuccino"}"#, true),
        (of_voperson.as_str(), r#""eduperson_assurance":["profile/cappuccino","IAP/medium"]"#, false),
    ];
    for (lines, claims, met) in table {
        let rules = [rule(&format!("template = '{{sub}}'\n{lines}"))];
        let decision = run(&format!("{{\"sub\":\"alice\",{claims}}}"), "alice", &rules);
        assert_eq!(decision.verdict.is_ok(), *met, "{lines}: {claims}");
    }
}

#[test]
fn a_claim_is_compared_with_its_type() {
    let table: &[(&str, &str, bool)] = &[
        // require_claims, a claim of the token, met
        ("org = 'x'", r#""org":"x""#, true),
        ("org = 'x'", r#""org":"X""#, false),
        ("org = 'x'", r#""org":" x""#, false),
        ("org = 'x'", r#""org":["y","x"]"#, true),
        ("org = 'x'", r#""org":[["x"]]"#, false),
        ("org = 'x'", r#""org":{"x":"x"}"#, false),
        ("org = 'x'", r#""other":"x""#, false),
        ("org = 'true'", r#""org":true"#, false),
        ("level = 2", r#""level":2"#, true),
        ("level = 2", r#""level":"2""#, false),
        ("level = 2", r#""level":2.0"#, false),
        ("level = -1", r#""level":-1"#, true),
        ("email_verified = true", r#""email_verified":true"#, true),
        ("email_verified = true", r#""email_verified":"true""#, true),
        ("email_verified = true", r#""email_verified":"True""#, false),
        ("email_verified = true", r#""email_verified":false"#, false),
        ("email_verified = true", r#""email_verified":1"#, false),
        ("email_verified = true", r#""email":"a@example.org""#, false),
        ("active = true", r#""active":"true""#, false),
        ("'/org/name' = 'x'", r#""org":{"name":"x"}"#, true),
        ("'/org/name' = 'x'", r#""/org/name":"x""#, false),
        ("amr = 'mfa'", r#""amr":["pwd","mfa"]"#, true),
        ("org = 'x', level = 2", r#""org":"x","level":2"#, true),
        ("org = 'x', level = 2", r#""org":"x""#, false),
        // The same letter in two forms of Unicode is not the same text.
        ("org = 'K\u{f6}ln'", "\"org\":\"K\u{f6}ln\"", true),
        ("org = 'K\u{f6}ln'", "\"org\":\"Ko\u{308}ln\"", false),
    ];
    for (required, claim, met) in table {
        let rule = rule(&format!("template = '{{sub}}'\nrequire_claims = {{ {required} }}"));
        let decision = run(&format!("{{\"sub\":\"alice\",{claim}}}"), "alice", &[rule]);
        assert_eq!(decision.verdict.is_ok(), *met, "{required}: {claim}");
    }
}

/// What the user and the log see of a missing requirement.
#[test]
fn a_missing_requirement_is_named() {
    let named = [
        ("require_acr = ['urn:mfa', '2']", "acr urn:mfa or 2"),
        ("require_scopes = ['ssh']", "scope ssh"),
        ("require_assurance = 'IAP/low | IAP/medium '", "assurance IAP/low | IAP/medium"),
        ("require_claims = { email_verified = true }", "claim email_verified = true"),
        ("require_claims = { '/org/name' = 'x' }", "claim /org/name = \"x\""),
    ];
    for (lines, expected) in named {
        let decision = run("{\"sub\":\"alice\"}", "alice", &[rule(&format!("template = '{{sub}}'\n{lines}"))]);
        assert_eq!(decision.verdict, Err(Refusal::Requirement(expected.to_owned())), "{lines}");
    }
}

proptest::proptest! {
    #[test]
    fn a_template_gives_only_the_account_that_the_claim_spells(claim in "\\PC{0,12}", account in "[a-z]{1,6}") {
        let claims = serde_json::json!({ "preferred_username": claim }).to_string();
        let decision = run(&claims, &account, &[rule("template = '{preferred_username}'")]);
        proptest::prop_assert_eq!(decision.verdict.is_ok(), claim == account);
    }
}
