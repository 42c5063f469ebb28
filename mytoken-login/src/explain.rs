// SPDX-License-Identifier: MIT OR Apache-2.0
//! A report for an administrator's screen: the token, the result of each rule, and the decision.

use std::fmt::Write as _;

use crate::context::Attempt;
use crate::report::{Report, RevocationResult};
use crate::rules::{RuleOutcome, RuleResult};

/// Renders the report. Control characters are replaced.
#[must_use]
pub fn explain(report: &Report, attempt: &Attempt) -> String {
    let mut text = String::new();
    for observation in &report.observations {
        let mark = match observation.about {
            "token" => " ",
            "clock" => "!",
            _ => "✓",
        };
        let _ = writeln!(text, "{mark} {:<15} {}", observation.about, printable(&observation.found));
    }
    if let Some((issuer, sub)) = &report.identity {
        let _ = writeln!(text, "  {:<15} {} at issuer \"{issuer}\"", "identity", printable(sub));
    }
    for RuleResult { rule, outcome, skipped } in &report.rules {
        let mark = match outcome {
            RuleOutcome::Account { .. } => "✓",
            RuleOutcome::NotTried | RuleOutcome::NeedsToken | RuleOutcome::OtherIssuer { .. } => "-",
            _ => "✗",
        };
        let requested = match outcome {
            RuleOutcome::OtherAccount { .. } => format!(", asked for \"{}\"", printable(&attempt.user)),
            _ => String::new(),
        };
        let _ = writeln!(text, "{mark} {:<15} {outcome}{requested}", format!("rule \"{rule}\""));
        for value in skipped {
            let _ = writeln!(text, "  {:<15} not used: {}", "", printable(value));
        }
    }
    match &report.revocation {
        None => {}
        Some(RevocationResult::Revoked) => {
            let _ = writeln!(
                text,
                "✓ {:<15} the mytoken of the transfer code was revoked: no session gets it",
                "revocation"
            );
        }
        Some(RevocationResult::Failed { reason }) => {
            let _ = writeln!(
                text,
                "✗ {:<15} the mytoken of the transfer code is still valid: {}",
                "revocation",
                printable(reason)
            );
        }
    }
    match &report.outcome {
        Ok(accepted) => {
            let _ = writeln!(text, "accepted: rule \"{}\" (PAM_SUCCESS)", accepted.rule);
        }
        Err(refusal) => {
            let _ = writeln!(text, "refused: {} ({}): {refusal}", refusal.reason(), refusal.class().pam());
            if let Some(detail) = refusal.detail() {
                let _ = writeln!(text, "  {}", printable(&detail));
            }
        }
    }
    text
}

fn printable(text: &str) -> String {
    mytoken_wire::printable(text, 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_a_rule_cannot_use_are_shown_below_it() {
        let mut report = Report::new();
        let skipped = vec!["entitlement \"a\u{1b}[2J\": it does not begin with \"urn:\"".to_owned()];
        report.rules = vec![RuleResult { rule: "vo".to_owned(), outcome: RuleOutcome::AsksTooLittle, skipped }];
        let attempt = Attempt { service: "sshd".into(), user: "root".into(), rhost: None, host: "login".into() };
        let text = explain(&report, &attempt);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("\u{2717} rule \"vo\"       asks for too little to give a system account"),
            "{text}"
        );
        assert!(lines[1].starts_with("                  not used: entitlement \"a"), "{text}");
        assert!(lines[1].ends_with("it does not begin with \"urn:\"") && !text.contains('\u{1b}'), "{text}");
    }
}
