// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log line of a login: one line without secrets. No claim can forge a field or a line.

use crate::context::Attempt;
use crate::refusal::Level;
use crate::report::{Report, RevocationResult};
use crate::rules::{RuleOutcome, RuleResult};

/// Longest value of a field, in characters.
const VALUE_LIMIT: usize = 128;

/// Longest quoted text, in characters.
const TEXT_LIMIT: usize = 300;

impl Report {
    /// The log line: `refuse user=bob uid=1002 rhost=192.0.2.7 reason=not_mapped issuer=egi sub=... rule=- token=at:3fa9c1d2 ms=21 (...)`.
    #[must_use]
    pub fn log_line(&self, attempt: &Attempt) -> String {
        let uid = self.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string());
        let rhost = escape_field(attempt.rhost.as_deref().unwrap_or("-"));
        let who = format!("user={} uid={uid} rhost={rhost}", escape_field(&attempt.user));
        let (issuer, sub) = self.identity.as_ref().map_or(("-", "-"), |(issuer, sub)| (issuer.as_str(), sub.as_str()));
        let whose = format!("issuer={} sub={}", escape_field(issuer), escape_field(sub));
        let token = self.token.as_deref().unwrap_or("-");
        let durations = self.answered.map(|answered| {
            let ms = |duration: std::time::Duration| duration.as_millis();
            let (exchange, verify, map) =
                (ms(self.durations.exchange), ms(self.durations.verify), ms(self.durations.map));
            format!(" ms={} (exchange {exchange}, verify {verify}, map {map})", ms(answered.elapsed()))
        });
        let skew = self.skew.map(|skew| format!(" skew={skew}")).unwrap_or_default();
        let durations = format!("{}{skew}", durations.unwrap_or_default());
        match &self.outcome {
            Ok(accepted) => {
                format!("accept {who} {whose} rule={} token={token}{durations}", escape_field(&accepted.rule))
            }
            Err(refusal) => {
                let why = refusal.detail().map(|detail| format!(" why={}", quote(&detail))).unwrap_or_default();
                let redeemed = match &self.revocation {
                    None => String::new(),
                    Some(RevocationResult::Revoked) => " redeemed=revoked".to_owned(),
                    Some(RevocationResult::Failed { reason }) => format!(" redeemed=alive:{}", quote(reason)),
                };
                format!(
                    "refuse {who} reason={} {whose} rule=- token={token}{durations}{why}{redeemed}",
                    refusal.reason()
                )
            }
        }
    }
}

impl Report {
    /// Lines about the mappers of a login, with their levels: those without an answer, and, if the login is refused, why the others did not
    /// give the account. `mapper user=bob rule=own why="..."`.
    #[must_use]
    pub fn mapper_lines(&self, attempt: &Attempt) -> Vec<(Level, String)> {
        let refusal = self.outcome.as_ref().err();
        let told = self.rules.iter().filter_map(|result| match &result.outcome {
            RuleOutcome::NotGiven { .. } if refusal.is_some() => Some((Level::Notice, result)),
            // What the login is refused with is in its own line.
            RuleOutcome::NoAnswer { refusal: own, .. } if refusal != Some(own) => Some((Level::Error, result)),
            _ => None,
        });
        told.map(|(level, RuleResult { rule, outcome, .. })| {
            let (user, rule) = (escape_field(&attempt.user), escape_field(rule));
            (level, format!("mapper user={user} rule={rule} why={}", quote(&outcome.to_string().replace('"', "'"))))
        })
        .collect()
    }
}

/// Escapes the value of a field. Blanks and characters that could end the field or the line are written as `\xNN`; a long value is cut.
#[must_use]
pub fn escape_field(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { escape(text, VALUE_LIMIT, |byte| byte.is_ascii_graphic()) }
}

/// Quotes a text: a line has it whole or cut, and nothing in it ends the quotation.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", escape(text, TEXT_LIMIT, |byte| byte.is_ascii_graphic() || byte == b' '))
}

fn escape(text: &str, limit: usize, plain: impl Fn(u8) -> bool) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if escaped.len() >= limit {
            escaped.push_str("...");
            break;
        }
        if plain(byte) && !matches!(byte, b'"' | b'\\' | b'=') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_cannot_forge_a_field_or_a_line() {
        assert_eq!(escape_field("a b\nreason=ok\x1b[2J\u{fc}\"\\"), r"a\x20b\x0areason\x3dok\x1b[2J\xc3\xbc\x22\x5c");
        assert_eq!(escape_field(""), "-");
        assert_eq!(escape_field(&"x".repeat(1_000)).len(), VALUE_LIMIT + 3);
        assert!(escape_field(&"\n".repeat(1_000)).len() < VALUE_LIMIT + 8);
    }
}
