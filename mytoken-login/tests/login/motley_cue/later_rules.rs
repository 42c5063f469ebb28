// SPDX-License-Identifier: MIT OR Apache-2.0
//! A rule by motley_cue, and after it a template that gives the same account.

use mytoken_login::{Maps, NameForm, Rule, decide};

use super::*;

/// The result of a login of its own in this connection: the rule that gives the account, or the reason of the refusal.
fn log_in(motley_cue: &MotleyCue, connection: &str, time: Duration) -> String {
    let on_outage = if motley_cue.on_outage == OnOutage::Next { "next" } else { "refuse" };
    let asked = format!("motley_cue = 'https://mc.example.org'\non_outage = '{on_outage}'");
    let rule = |name: &str, lines: &str| -> Rule {
        toml::from_str(&format!("name = '{name}'\nissuer = 'op'\n{lines}")).unwrap()
    };
    let rules = [rule("mc", &asked), rule("everybody", "template = '{preferred_username}'")];
    let account = LocalAccount { name: "alice".into(), uid: 2_001, gid: 2_001, system: false };
    let ask = |_: &MapperSettings| motley_cue.log_in(With::Entered, "alice", connection, time);
    let decision = decide(&alice(), &account, &rules, NameForm::Posix, &Maps::default(), &ask);
    decision.verdict.unwrap_or_else(|refusal| refusal.reason().to_owned())
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_suspended_person_does_not_get_in_by_a_second_prompt() {
    for word in ["suspended", "limited"] {
        let motley_cue = MotleyCue::new(state(word, true));
        assert_eq!(log_in(&motley_cue, "one", LONG), word);
        for _ in 0..2 {
            assert_eq!(log_in(&motley_cue, "one", LONG), word, "the same token in the same connection");
        }
        assert_eq!(motley_cue.questions().len(), 1);
        assert_eq!(log_in(&motley_cue, "two", LONG), word);
    }
    // What motley_cue does not know can be given by the later rule, also at a later prompt of another token.
    let motley_cue = MotleyCue::new(state("not_deployed", false));
    assert_eq!(log_in(&motley_cue, "one", LONG), "everybody");
}

#[test]
fn nor_by_spending_the_budget_of_an_address() {
    let mut motley_cue = MotleyCue::new(state("suspended", true));
    motley_cue.budget.per_address = 2;
    for on_outage in [OnOutage::Refuse, OnOutage::Next] {
        motley_cue.on_outage = on_outage;
        for number in 0..2 {
            let _refused = motley_cue.log_in(With::OneTimePassword, "alice", &format!("x{number}"), LONG);
        }
        assert_eq!(log_in(&motley_cue, "one", LONG), "budget_address");
    }
}

#[test]
fn nor_by_a_token_that_motley_cue_cannot_read_or_check() {
    for status in [302, 400, 401, 413, 414, 431, 500] {
        for on_outage in [OnOutage::Refuse, OnOutage::Next] {
            let mut motley_cue = MotleyCue::new(Reply::new(status, "text/html", "Request Header Or Cookie Too Large"));
            motley_cue.on_outage = on_outage;
            assert_eq!(log_in(&motley_cue, "one", LONG), "not_decided", "{status}");
        }
    }
}

#[test]
fn a_state_that_motley_cue_could_not_find_out_opens_nothing() {
    for word in ["unknown", "failed"] {
        for on_outage in [OnOutage::Refuse, OnOutage::Next] {
            let mut motley_cue = MotleyCue::new(state(word, false));
            motley_cue.on_outage = on_outage;
            assert_eq!(log_in(&motley_cue, "one", LONG), "not_decided", "{word}");
        }
    }
}

#[test]
fn an_outage_refuses_unless_the_rule_says_that_the_next_one_is_tried() {
    for (on_outage, expected) in [(OnOutage::Refuse, "unavailable"), (OnOutage::Next, "everybody")] {
        let mut motley_cue = MotleyCue::new(Reply::new(502, "text/html", "<html>"));
        motley_cue.on_outage = on_outage;
        assert_eq!(log_in(&motley_cue, "one", LONG), expected, "a proxy without motley_cue behind it");
    }
}

#[test]
fn a_motley_cue_that_is_silent_about_one_token_only_is_no_outage() {
    for (on_outage, outage) in [(OnOutage::Refuse, "unavailable"), (OnOutage::Next, "everybody")] {
        // It answers other questions.
        let mut motley_cue = MotleyCue::new(Reply::hang_up());
        motley_cue.on_outage = on_outage;
        assert_eq!(log_in(&motley_cue, "one", LONG), "not_decided");
        // It is not asked again from this address for a while.
        assert_eq!(log_in(&motley_cue, "two", LONG), "not_decided");
        assert_eq!(motley_cue.questions().len(), 1);
        // The fake server answers nobody meanwhile.
        let mut silent = MotleyCue::new(Reply { silence: Duration::from_secs(8), ..state("suspended", true) });
        silent.on_outage = on_outage;
        assert_eq!(log_in(&silent, "one", Duration::from_secs(3)), outage);
    }
}
