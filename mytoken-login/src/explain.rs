// SPDX-License-Identifier: MIT OR Apache-2.0
//! The explanation of a decision, for an administrator: each check and each rule in order. On the screen of `mytokenctl explain`, and in
//! the log with the module's argument `debug`.

use std::fmt::Write as _;

use crate::checks::CheckVerdict;
use crate::claims_decision::{ClaimsDecision, is_not_asked};
use crate::context::Attempt;
use crate::explain_lines::{About, Line, of_all, of_rules};
use crate::log_line::{escape_field, quote};
use crate::refusal::Refusal;
use crate::report::{Report, RevocationResult};
use crate::settings::LoginSettings;

pub use crate::explain_lines::SettingPlaces;

/// Longest text of a line on the screen, in characters.
const TEXT_LIMIT: usize = 300;

/// The explanation of a decision.
pub struct Explanation {
    user: String,
    lines: Vec<Line>,
    /// What follows the checks and rules on the screen.
    end: String,
}

impl Explanation {
    /// Of a login, or of a token that an administrator examines.
    #[must_use]
    pub fn of(report: &Report, attempt: &Attempt, settings: &LoginSettings, places: &SettingPlaces) -> Self {
        let rules = of_rules(&report.rules, &settings.rules, &attempt.user, places, |_| false);
        let lines = of_all(&report.checks, rules, places);
        let verdict = report.outcome.as_ref().map(|accepted| accepted.rule.as_str());
        let end = format!("{}{}", revocation(report.revocation.as_ref()), conclusion(verdict, "accepted"));
        Self { user: attempt.user.clone(), lines, end }
    }

    /// Of claims without a token.
    #[must_use]
    pub fn of_claims(
        decision: &ClaimsDecision,
        attempt: &Attempt,
        settings: &LoginSettings,
        places: &SettingPlaces,
    ) -> Self {
        let rules = of_rules(&decision.rules, &settings.rules, &attempt.user, places, is_not_asked);
        let lines = of_all(&decision.checks, rules, places);
        let mut end = String::new();
        let failed =
            lines.iter().any(|line| line.verdict == CheckVerdict::Failed && matches!(line.about, About::Check(_)));
        if failed && !decision.rules.is_empty() {
            end.push_str("! the rules are shown although a check failed: a login would not reach them\n");
        }
        let verdict = decision.verdict.as_deref();
        end.push_str(&dependence(verdict.is_ok(), &decision.depends_on));
        end.push_str(&conclusion(verdict, "would be accepted with a genuine token"));
        end.push_str("The signature was not checked: this says nothing about a token.\n");
        Self { user: attempt.user.clone(), lines, end }
    }

    /// The screen: a mark, the check or rule, the place in the configuration, and what was found. Control characters are replaced.
    #[must_use]
    pub fn screen(&self) -> String {
        let width = self.lines.iter().filter_map(|line| line.place.as_ref()).map(|place| place.chars().count()).max();
        let mut text = String::new();
        for line in &self.lines {
            let mark = match line.verdict {
                CheckVerdict::Passed => "✓",
                CheckVerdict::Failed => "✗",
                CheckVerdict::Noted => " ",
                CheckVerdict::Warned => "!",
                CheckVerdict::NotReached => "-",
            };
            let about = match &line.about {
                About::Check(name) => (*name).to_owned(),
                About::Rule(name) => format!("rule \"{}\"", printable(name)),
                About::More(_) => String::new(),
            };
            let place = width.map(|width| format!("{:<width$} ", line.place.as_deref().unwrap_or_default()));
            let place = place.unwrap_or_default();
            let found = printable(&line.text);
            let _ = writeln!(text, "{}", format!("{mark} {about:<15} {place}{found}").trim_end());
        }
        text + &self.end
    }

    /// The lines for the log, one for each check and rule that was reached:
    /// `check user=alice what=audience verdict=failed config=mytoken.toml:7 found="..."`.
    #[must_use]
    pub fn log_lines(&self) -> Vec<String> {
        let reached = self.lines.iter().filter(|line| line.verdict != CheckVerdict::NotReached);
        let line = |line: &Line| {
            let verdict = match line.verdict {
                CheckVerdict::Passed => "passed",
                CheckVerdict::Failed => "failed",
                CheckVerdict::Warned => "warned",
                CheckVerdict::Noted | CheckVerdict::NotReached => "noted",
            };
            let what = match &line.about {
                About::Check(name) => (*name).to_owned(),
                About::Rule(name) | About::More(name) => escape_field(&format!("rule:{name}")),
            };
            let place = escape_field(line.place.as_deref().and_then(|place| place.split(' ').next()).unwrap_or("-"));
            let (user, found) = (escape_field(&self.user), quote(&line.text));
            format!("check user={user} what={what} verdict={verdict} config={place} found={found}")
        };
        reached.map(line).collect()
    }
}

fn revocation(result: Option<&RevocationResult>) -> String {
    match result {
        None => String::new(),
        Some(RevocationResult::Revoked) => {
            format!("✓ {:<15} the mytoken of the transfer code was revoked: no session gets it\n", "revocation")
        }
        Some(RevocationResult::Failed { reason }) => {
            format!("✗ {:<15} the mytoken of the transfer code is still valid: {}\n", "revocation", printable(reason))
        }
    }
}

/// The words in front of a conclusion that other rules could change.
fn dependence(is_accepted: bool, rules: &[String]) -> String {
    if rules.is_empty() {
        return String::new();
    }
    let names: Vec<String> = rules.iter().map(|rule| format!("rule \"{}\"", printable(rule))).collect();
    let could = if is_accepted { "could refuse the login" } else { "could give the account" };
    format!("undecided: depends on what was not asked and {could}: {}\notherwise ", names.join(", "))
}

fn conclusion(verdict: Result<&str, &Refusal>, accepted: &str) -> String {
    let refusal = match verdict {
        Ok(rule) => return format!("{accepted}: rule \"{}\" (PAM_SUCCESS)\n", printable(rule)),
        Err(refusal) => refusal,
    };
    let mut text = format!("refused: {} ({}): {refusal}\n", refusal.reason(), refusal.class().pam());
    if let Some(detail) = refusal.detail() {
        let _ = writeln!(text, "  {}", printable(&detail));
    }
    text
}

fn printable(text: &str) -> String {
    mytoken_wire::printable(text, TEXT_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{RuleOutcome, RuleResult};

    #[test]
    fn values_that_a_rule_cannot_use_are_shown_below_it() {
        let mut report = Report::new();
        let skipped = vec!["entitlement \"a\u{1b}[2J\": it does not begin with \"urn:\"".to_owned()];
        report.rules = vec![RuleResult { rule: "vo".to_owned(), outcome: RuleOutcome::AsksTooLittle, skipped }];
        let attempt = Attempt { service: "sshd".into(), user: "root".into(), rhost: None, host: "login".into() };
        let explanation = Explanation::of(&report, &attempt, &LoginSettings::default(), &SettingPlaces::default());
        let text = explanation.screen();
        let lines: Vec<&str> = text.lines().skip_while(|line| !line.contains("rule")).collect();
        assert!(
            lines[0].starts_with("\u{2717} rule \"vo\"       asks for too little to give a system account"),
            "{text}"
        );
        assert!(lines[1].starts_with("                  not used: entitlement \"a"), "{text}");
        assert!(lines[1].ends_with("it does not begin with \"urn:\"") && !text.contains('\u{1b}'), "{text}");
        let logged = explanation.log_lines();
        assert_eq!(logged.len(), 2, "{logged:?}");
        assert!(
            logged[0].starts_with("check user=root what=rule:vo verdict=failed config=- found=\"asks"),
            "{logged:?}"
        );
        assert!(
            logged[1]
                .ends_with(r#"found="not used: entitlement \x22a\x1b[2J\x22: it does not begin with \x22urn:\x22""#),
            "{logged:?}"
        );
    }
}
