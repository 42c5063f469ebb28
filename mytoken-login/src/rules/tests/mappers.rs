// SPDX-License-Identifier: MIT OR Apache-2.0
//! When mappers are asked, and what follows from their answers.

use super::*;
use crate::mapper::Given;
use crate::refusal::Limit;
use crate::service_state::ServiceState;

const OWN: &str = "user_file = '.config/mytoken/authorized_identities'";
const COMMAND: &str = "command = ['/usr/libexec/mapper']\nrun_as = 'nobody'";

/// What a mapper answers to a question.
type Answer = Result<Given, Refusal>;

fn nothing() -> Answer {
    Ok(Given::Nothing("has no line for the identity".into()))
}

fn silent() -> Answer {
    Err(Refusal::Unavailable("x".into()))
}

/// Decides with mappers of which each has the next of these answers. Also how many were asked.
fn run_asking(claims: &str, account: &str, rules: &[Rule], answers: &[Answer]) -> (Decision, usize) {
    let uid = if account == "root" { 0 } else { 2_000 };
    let account = LocalAccount::new(account, uid, uid, &AccountSettings::default());
    let asked = std::cell::Cell::new(0);
    let ask = |_: &crate::settings::MapperSettings| {
        let number = asked.replace(asked.get() + 1);
        answers.get(number).cloned().unwrap_or_else(|| panic!("mapper {number} was asked"))
    };
    let decision = decide(&identity(claims), &account, rules, NameForm::Posix, &Maps::default(), &ask);
    (decision, asked.get())
}

/// Claims, account, rules, answers of the mappers that are asked, result.
type Row<'a> = (&'a str, &'a str, Vec<&'a String>, Vec<Answer>, &'a str);

#[test]
fn a_mapper_is_asked_only_when_its_rule_needs_it() {
    let alice = r#"{"preferred_username":"alice","groups":["/hpc"]}"#;
    let (own, template) = (OWN.to_owned(), "template = '{preferred_username}'".to_owned());
    let group = format!("{COMMAND}\nrequire_groups = ['/hpc']");
    let other_group = format!("{COMMAND}\nrequire_groups = ['/x']");
    let strong = format!("{COMMAND}\nrequire_scopes = ['openid']\nrequire_acr = ['2']");
    let given = || Ok(Given::Account);
    let late = || Err(Refusal::DeadlinePassed);
    #[rustfmt::skip]
    let table: Vec<Row<'_>> = vec![
        // claims, account, rules, answers of the mappers that are asked, result
        (alice, "alice", vec![&own], vec![given()], "accept"),
        (alice, "alice", vec![&own], vec![nothing()], "not_mapped"),
        (alice, "alice", vec![&own], vec![silent()], "unavailable"),
        (alice, "alice", vec![&group], vec![given()], "accept"),
        (alice, "alice", vec![&other_group], vec![], "requirement"),
        ("{}", "alice", vec![&group], vec![], "requirement"),
        (alice, "alice", vec![&strong], vec![], "requirement"),
        (r#"{"acr":"2"}"#, "alice", vec![&strong], vec![given()], "accept"),
        // The first rule that gives the account decides; the others are not asked.
        (alice, "alice", vec![&template, &own], vec![], "accept"),
        (alice, "alice", vec![&own, &template], vec![nothing()], "accept"),
        (alice, "alice", vec![&own, &template], vec![silent()], "accept"),
        (alice, "alice", vec![&own, &group], vec![given()], "accept"),
        (alice, "alice", vec![&own, &group], vec![silent(), given()], "accept"),
        (alice, "alice", vec![&own, &group], vec![nothing(), nothing()], "not_mapped"),
        (alice, "alice", vec![&own, &group], vec![silent(), nothing()], "unavailable"),
        (alice, "alice", vec![&own, &group], vec![late(), silent()], "late"),
        // A requirement that is missing is more helpful than a mapper without an answer, and opens no way kept for outages.
        (alice, "alice", vec![&own, &other_group], vec![silent()], "requirement"),
        (alice, "bob", vec![&template, &own], vec![nothing()], "not_mapped"),
        // Never root, whatever the rule asks for.
        (r#"{"acr":"2"}"#, "root", vec![&own, &strong], vec![], "not_mapped"),
    ];
    for (claims, account, lines, answers, expected) in table {
        let rules: Vec<Rule> = lines.iter().map(|lines| rule(lines)).collect();
        let (decision, asked) = run_asking(claims, account, &rules, &answers);
        let about = format!("{claims} as {account} with {lines:?}: {:?}", decision.rules);
        assert_eq!((reason(&decision), asked), (expected, answers.len()), "{about}");
    }
}

#[test]
fn the_mapper_of_another_issuer_is_not_asked() {
    let other = toml::from_str::<Rule>(&format!("name = 'r'\nissuer = 'egi'\n{OWN}")).unwrap();
    let (decision, asked) = run_asking("{}", "alice", &[other], &[]);
    assert_eq!((reason(&decision), asked), ("not_mapped", 0));
}

#[test]
fn an_account_that_motley_cue_has_suspended_is_given_by_no_later_rule() {
    let alice = r#"{"preferred_username":"alice"}"#;
    let motley_cue = rule("motley_cue = 'https://mc.example.org'");
    let (group, template) =
        (rule(&format!("{OWN}\nrequire_groups = ['/x']")), rule("template = '{preferred_username}'"));
    let refused = |state| -> Answer { Err(Refusal::NotActive(state)) };
    for (state, expected) in [
        (ServiceState::Suspended, "suspended"),
        (ServiceState::Limited, "limited"),
        // There may be another account of the same person.
        (ServiceState::Pending, "accept"),
    ] {
        let rules = [group.clone(), motley_cue.clone(), template.clone()];
        let (decision, asked) = run_asking(alice, "alice", &rules, &[refused(state)]);
        assert_eq!((reason(&decision), asked), (expected, 1), "{state:?}: {:?}", decision.rules);
    }
    let (decision, _) =
        run_asking(alice, "alice", std::slice::from_ref(&motley_cue), &[refused(ServiceState::Pending)]);
    assert_eq!(reason(&decision), "pending");
    let rules = [template, motley_cue];
    let (decision, asked) = run_asking(alice, "alice", &rules, &[]);
    assert_eq!((reason(&decision), asked), ("accept", 0), "an earlier rule is final");
}

#[test]
fn no_later_rule_opens_an_account_about_which_motley_cue_has_said_nothing() {
    let alice = r#"{"preferred_username":"alice"}"#;
    let motley_cue = |lines: &str| rule(&format!("motley_cue = 'https://mc.example.org'\n{lines}"));
    let (usual, next) = (motley_cue(""), motley_cue("on_outage = 'next'"));
    let group = rule(&format!("{OWN}\nrequire_groups = ['/x']"));
    let template = rule("template = '{preferred_username}'");
    let limit = |limit| Refusal::TooManyRequests { wait: 1, limit };
    let outage = || Refusal::Unavailable("x".into());
    for (asked_rule, refusal, expected) in [
        (&usual, Refusal::Repeated, "repeated"),
        (&usual, limit(Limit::Address), "budget_address"),
        (&usual, limit(Limit::Host), "budget_host"),
        (&usual, limit(Limit::Server), "server_limit"),
        (&usual, Refusal::DeadlinePassed, "late"),
        (&usual, Refusal::NotDecided("x".into()), "not_decided"),
        (&usual, Refusal::System("x".into()), "system"),
        (&usual, outage(), "unavailable"),
        // What the person can cause is no outage.
        (&next, Refusal::Repeated, "repeated"),
        (&next, limit(Limit::Address), "budget_address"),
        (&next, Refusal::DeadlinePassed, "late"),
        (&next, Refusal::NotDecided("x".into()), "not_decided"),
        (&next, outage(), "accept"),
    ] {
        let rules = [asked_rule.clone(), template.clone()];
        let (decision, asked) = run_asking(alice, "alice", &rules, &[Err(refusal.clone())]);
        assert_eq!((reason(&decision), asked), (expected, 1), "{refusal:?}: {:?}", decision.rules);
        let is_tried = decision.rules[1].outcome != RuleOutcome::NotTried;
        assert_eq!(is_tried, expected == "accept", "{refusal:?}");
        // A requirement that is missing is more helpful than an outage, and opens no way kept for outages.
        let rules = [group.clone(), asked_rule.clone()];
        let (decision, _) = run_asking(alice, "alice", &rules, &[Err(refusal.clone())]);
        let expected = if refusal == outage() { "requirement" } else { expected };
        assert_eq!(reason(&decision), expected, "{refusal:?}");
    }
}

#[test]
fn the_result_of_a_mapper_is_a_sentence() {
    let (decision, _) = run_asking("{}", "alice", &[rule(OWN), rule(COMMAND)], &[nothing(), silent()]);
    let results: Vec<String> = decision.rules.iter().map(|result| result.outcome.to_string()).collect();
    assert_eq!(
        results,
        [
            "user file .config/mytoken/authorized_identities has no line for the identity",
            "no answer of command /usr/libexec/mapper: x",
        ]
    );
    let (decision, _) = run_asking("{}", "alice", &[rule(COMMAND)], &[Ok(Given::Account)]);
    assert_eq!(decision.rules[0].outcome.to_string(), "command /usr/libexec/mapper gives the account");
}
