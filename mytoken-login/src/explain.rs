// SPDX-License-Identifier: MIT OR Apache-2.0
//! A report for an administrator's screen: what was found about the token, what each rule said, what follows.

use std::fmt::Write as _;

use super::decision::Finding;
use super::{Attempt, Report, TakenBack};

/// Renders the report. Claims in it are escaped like in the log.
#[must_use]
pub fn explain(report: &Report, attempt: &Attempt) -> String {
    let mut text = String::new();
    for fact in &report.facts {
        let mark = if fact.about == "token" { " " } else { "✓" };
        let _ = writeln!(text, "{mark} {:<15} {}", fact.about, printable(&fact.found));
    }
    if let Some((issuer, sub)) = &report.identity {
        let _ = writeln!(text, "  {:<15} {} at issuer \"{issuer}\"", "identity", printable(sub));
    }
    for step in &report.steps {
        let mark = match step.finding {
            Finding::Gives { .. } => "✓",
            Finding::NotTried | Finding::OtherIssuer { .. } => "-",
            _ => "✗",
        };
        let asked = match step.finding {
            Finding::OtherAccount { .. } => format!(", asked for \"{}\"", printable(&attempt.user)),
            _ => String::new(),
        };
        let _ = writeln!(text, "{mark} {:<15} {}{asked}", format!("rule \"{}\"", step.rule), step.finding);
    }
    match &report.taken_back {
        None => {}
        Some(TakenBack::Revoked) => {
            let _ = writeln!(
                text,
                "✓ {:<15} the mytoken behind the code was revoked: there is no session for it",
                "revocation"
            );
        }
        Some(TakenBack::Alive { reason }) => {
            let _ =
                writeln!(text, "✗ {:<15} the mytoken behind the code lives on: {}", "revocation", printable(reason));
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
    text.chars().take(300).map(|c| if c.is_control() { '?' } else { c }).collect()
}
