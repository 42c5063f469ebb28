// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the log line of a login again, for `mytokenctl explain --last`. A line that is not exactly of the module's form is none.

use crate::log_line::escape_field;

/// Longest message that is read, in bytes. A whole line of the module is shorter.
const LIMIT: usize = 4 * 1024;

/// The decision that a log line tells. The texts have no control character: whatever was one is still escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedDecision {
    /// Whether the login was accepted.
    pub accepted: bool,
    /// PAM service.
    pub service: String,
    /// Whether it is about a login without a token (key, password): the account phase decided, by `key_logins` of `[account]`.
    pub without_token: bool,
    /// The account, as the line has it.
    pub user: String,
    /// Where the login came from.
    pub rhost: String,
    /// The word behind `reason=`; empty: the login was accepted.
    pub reason: String,
    /// Name of the issuer, or `-`.
    pub issuer: String,
    /// Subject, or `-`.
    pub sub: String,
    /// Kind and fingerprint of the token, or `-`.
    pub token: String,
    /// Details.
    pub why: Option<String>,
    /// What happened to the mytoken of a used transfer code.
    pub redeemed: Option<String>,
}

impl LoggedDecision {
    /// Reads a message: `pam_mytoken(sshd:auth): refuse user=alice uid=2001 ...`, or that of a login without a token:
    /// `pam_mytoken(sshd:account): refuse user=alice ...`.
    #[must_use]
    pub fn parse(message: &str) -> Option<Self> {
        if message.len() > LIMIT || !message.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return None;
        }
        let (origin, line) = message.strip_prefix("pam_mytoken(")?.split_once("): ")?;
        let (service, phase) = origin.split_once(':')?;
        if service.is_empty() || service.contains([' ', '(', ')']) {
            return None;
        }
        let without_token = match phase {
            "auth" => false,
            "account" => true,
            _ => return None,
        };
        let (verdict, mut rest) = line.split_once(' ')?;
        let accepted = match verdict {
            // The account phase writes only refusals.
            "accept" if !without_token => true,
            "refuse" => false,
            _ => return None,
        };
        let user = field(&mut rest, "user")?;
        field(&mut rest, "uid")?;
        let rhost = field(&mut rest, "rhost")?;
        let reason = if accepted { String::new() } else { field(&mut rest, "reason")? };
        let issuer = field(&mut rest, "issuer")?;
        let sub = field(&mut rest, "sub")?;
        field(&mut rest, "rule")?;
        let token = field(&mut rest, "token")?;
        let why = quoted(rest, " why=");
        let redeemed = if rest.contains(" redeemed=revoked") {
            Some("revoked".to_owned())
        } else {
            quoted(rest, " redeemed=alive:").map(|why| format!("still valid: {why}"))
        };
        let service = service.to_owned();
        Some(Self { accepted, service, without_token, user, rhost, reason, issuer, sub, token, why, redeemed })
    }

    /// Whether it is about this account.
    #[must_use]
    pub fn is_of(&self, account: &str) -> bool {
        self.user == escape_field(account)
    }
}

/// Takes `NAME=VALUE` from the beginning of a line, with the blank behind it.
fn field(rest: &mut &str, name: &str) -> Option<String> {
    let value = rest.strip_prefix(name)?.strip_prefix('=')?;
    let end = value.find(' ').unwrap_or(value.len());
    let (value, after) = value.split_at(end);
    *rest = if name == "token" { after } else { after.strip_prefix(' ')? };
    (!value.is_empty() && !value.contains('=')).then(|| value.to_owned())
}

/// The quoted text behind `name`, with the escaped visible characters again.
fn quoted(rest: &str, name: &str) -> Option<String> {
    let (_, after) = rest.split_once(&format!("{name}\""))?;
    let (text, _) = after.split_once('"')?;
    Some(
        [("\\x22", "\""), ("\\x3d", "="), ("\\x5c", "\\")]
            .iter()
            .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain)),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::context::Attempt;
    use crate::oidc::Rejection;
    use crate::refusal::Refusal;
    use crate::report::{Report, RevocationResult};

    fn line(user: &str, refusal: Refusal) -> String {
        let attempt = Attempt {
            service: "sshd".into(),
            user: user.into(),
            rhost: Some("192.0.2.7".into()),
            host: "login".into(),
        };
        let mut report = Report::new();
        report.uid = Some(2_001);
        report.identity = Some(("op".into(), "a b=\"c".into()));
        report.token = Some("at:82912b4c".into());
        report.answered = Some(Instant::now());
        report.outcome = Err(refusal);
        report.revocation = Some(RevocationResult::Failed { reason: "it \"hangs\"".into() });
        format!("pam_mytoken(sshd:auth): {}", report.log_line(&attempt))
    }

    #[test]
    fn what_the_module_writes_is_read_again() {
        let scope = Refusal::Token(Rejection::Scope("compute=\"x\"".into()));
        let read = LoggedDecision::parse(&line("alice", scope)).unwrap();
        assert_eq!((read.accepted, read.service.as_str(), read.rhost.as_str()), (false, "sshd", "192.0.2.7"));
        assert!(!read.without_token);
        assert_eq!((read.reason.as_str(), read.token.as_str()), ("scope_missing", "at:82912b4c"));
        assert_eq!((read.issuer.as_str(), read.sub.as_str()), ("op", r"a\x20b\x3d\x22c"));
        assert_eq!(read.why.as_deref(), Some("compute=\"x\""));
        assert_eq!(read.redeemed.as_deref(), Some("still valid: it \"hangs\""));
        let odd = LoggedDecision::parse(&line("a b\n", Refusal::Rotating)).unwrap();
        assert!(odd.is_of("a b\n") && !odd.is_of("a") && odd.why.is_none());
        let accepted =
            "pam_mytoken(sshd:auth): accept user=alice uid=2001 rhost=- issuer=op sub=s rule=hpc token=tc:1 ms=3";
        assert!(LoggedDecision::parse(accepted).is_some_and(|read| read.accepted && read.is_of("alice")));
    }

    #[test]
    fn a_refused_login_without_a_token_is_read() {
        for reason in ["no_recent_login", "suspended", "limited", "logins_unreadable", "key_logins_invalid"] {
            let line = format!(
                "pam_mytoken(sshd:account): refuse user=alice uid=2001 rhost=192.0.2.7 reason={reason} issuer=- sub=- rule=- token=-"
            );
            let read = LoggedDecision::parse(&line).unwrap();
            assert!(read.without_token && !read.accepted && read.is_of("alice"), "{read:?}");
            assert_eq!((read.reason.as_str(), read.token.as_str(), read.rhost.as_str()), (reason, "-", "192.0.2.7"));
            let why = LoggedDecision::parse(&format!("{line} why=\"it has mode\\x3d0644\"")).unwrap().why;
            assert_eq!(why.as_deref(), Some("it has mode=0644"));
            let accept = line.replace("refuse", "accept").replace(&format!("reason={reason} "), "");
            assert_eq!(LoggedDecision::parse(&accept), None, "this phase accepts nothing");
        }
    }

    #[test]
    fn other_lines_are_none() {
        let good = line("alice", Refusal::Rotating);
        assert!(LoggedDecision::parse(&good).is_some());
        for bad in [
            String::new(),
            format!(" {good}"),
            format!("Invalid user {good}"),
            good.replace("pam_mytoken(", "pam_unix("),
            good.replace("(sshd:auth)", "(:auth)"),
            good.replace("(sshd:auth)", "(a b:auth)"),
            good.replace("(sshd:auth)", "(sshd:session)"),
            good.replace("(sshd:auth)", "(sshd:x:auth)"),
            good.replace("(sshd:auth)", "(sshd)"),
            good.replace("(sshd:auth)", "(sshd:account:auth)"),
            "pam_mytoken(sshd:account): user=alice login without token refused: suspended".to_owned(),
            good.replace(" uid=2001", ""),
            good.replace("reason=rotating ", ""),
            good.replace("rhost=192.0.2.7", "rhost="),
            good.replace("user=alice", "user=alice=x"),
            good.replace("refuse", "refused"),
            good.replace("alice", "al\u{fc}ce"),
            format!("{good}\n"),
            format!("{good}{}", "x".repeat(LIMIT)),
        ] {
            assert_eq!(LoggedDecision::parse(&bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(text in "\\PC{0,80}", at in 0_usize..200) {
            let good = line("alice", Refusal::Rotating);
            let (before, after) = good.split_at(at.min(good.len()));
            let _ = LoggedDecision::parse(&text);
            let _ = LoggedDecision::parse(&format!("{before}{text}{after}"));
        }
    }
}
