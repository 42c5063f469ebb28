// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log page of the administrator guide and the fail2ban filter, against the product and against lines of a real host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mytoken::token::NotAToken;
use mytoken_login::link::{Busy, LinkRefusal};
use mytoken_login::oidc::Rejection;
use mytoken_login::{
    Attempt, Checks, KeyLogin, KeyLogins, Limit, Refusal, Report, RevocationResult, ServiceState, StepDurations,
    failure_line,
};
use mytoken_wire::chunks::ChunkFault;
use regex_lite::Regex;
use serde_json::Value;

const PAGE: &str = "docs/admin/logs.md";
const FILTER: &str = "packaging/fail2ban/mytoken.conf";
const LINES: &str = "packaging/fail2ban/mytoken.log";

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap()
}

/// The words after `reason=` in a source, in its order.
fn reasons_of(file: &str) -> Vec<String> {
    let text = read(file);
    let body = text.split_once("fn reason(&self)").unwrap().1.split_once("\n    }\n").unwrap().0.to_owned();
    let word = Regex::new("=> \"([a-z_]+)\"").unwrap();
    word.captures_iter(&body).map(|found| found[1].to_owned()).collect()
}

/// The words of the refusals of logins with a key, without those that logins with a token have, too.
fn reasons_of_keys() -> BTreeSet<String> {
    let reasons = reasons_of("mytoken-login/src/key_logins.rs");
    assert!(reasons.len() > 2, "{reasons:?}");
    reasons.into_iter().collect()
}

/// The words after `reason=` of all refusals of logins with a token, in the order of the source.
fn reasons() -> BTreeSet<String> {
    let of = reasons_of;
    let refusals = of("mytoken-login/src/refusal/log.rs");
    assert!(refusals.len() > 25, "{refusals:?}");
    let rejections = of("mytoken-login/src/oidc/rejection.rs");
    assert!(rejections.len() > 12, "{rejections:?}");
    let links = of("mytoken-login/src/link/refusal.rs");
    assert!(links.len() > 3, "{links:?}");
    refusals.into_iter().chain(rejections).chain(links).collect()
}

/// The table of the page: reason, and whether fail2ban counts it.
fn documented() -> BTreeMap<String, bool> {
    let row = Regex::new(r"^\| `([a-z_]+)` \| .* \| (yes|no) \|$").unwrap();
    let found = |line: &str| row.captures(line).map(|found| (found[1].to_owned(), &found[2] == "yes"));
    read(PAGE).lines().filter_map(found).collect()
}

/// The filter's expression, with what fail2ban puts in for its names.
fn filter() -> Regex {
    let text = read(FILTER);
    let setting = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
        line.unwrap_or_else(|| panic!("no {name} in {FILTER}")).to_owned()
    };
    let prefix = format!(r"\w{{3}} [ \d]\d [\d:]{{8}} (?:\S+\s+)?(?:{})(?:\[\d+\])?:?\s+", setting("_daemon"));
    let expression = setting("failregex")
        .replace("%(__prefix_line)s", &prefix)
        .replace("%(_reason)s", &setting("_reason"))
        .replace("<ADDR>", "(?P<host>[0-9a-fA-F.:]+)");
    Regex::new(&expression).unwrap()
}

/// A log line as syslog writes it.
fn logged(text: &str) -> String {
    format!("Nov 26 10:00:07 login sshd[347]: pam_mytoken(sshd:auth): {text}")
}

fn report(outcome: Refusal) -> Report {
    Report {
        outcome: Err(outcome),
        uid: Some(2001),
        identity: None,
        skew: None,
        token: None,
        by_link: false,
        checks: Checks::default(),
        rules: Vec::new(),
        revocation: None,
        answered: Some(Instant::now()),
        deadline: None,
        durations: StepDurations { exchange: Duration::ZERO, verify: Duration::ZERO, map: Duration::ZERO },
    }
}

fn attempt(user: &str) -> Attempt {
    Attempt { service: "sshd".into(), user: user.into(), rhost: Some("2001:db8::7".into()), host: "login".into() }
}

/// The names of a line's fields, in their order.
fn fields(line: &str) -> Vec<String> {
    let named = Regex::new(r#" ([a-z]+)=(?:[a-z]+:)?(?:"[^"]*"|\S+)"#).unwrap();
    named.captures_iter(line).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_reason_is_explained_and_counted_as_the_page_says() {
    let (mut reasons, documented) = (reasons(), documented());
    reasons.extend(reasons_of_keys());
    assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), reasons, "{PAGE} against the product");
    let filter = filter();
    for (reason, is_counted) in documented {
        let line =
            logged(&format!("refuse user=a uid=- rhost=192.0.2.7 reason={reason} issuer=- sub=- rule=- token=-"));
        assert_eq!(filter.is_match(&line), is_counted, "{FILTER} against {PAGE}: {reason}");
    }
}

#[test]
fn a_refused_key_is_no_guess() {
    for reason in reasons_of_keys() {
        assert_eq!(documented().get(&reason), Some(&false), "{reason}");
    }
    let needed = KeyLogins::MotleyCue;
    let line = KeyLogin::NotRecent { accepted: None, needed }.log_line("alice", Some(2001), Some("192.0.2.7")).unwrap();
    let token = report(Refusal::CodeUnknown).log_line(&attempt("alice"));
    assert!(fields(&token).starts_with(&fields(&line)), "{line}\n{token}");
    let page = read(PAGE);
    assert!(
        page.contains("pam_mytoken(sshd:account): refuse user=alice uid=2001 rhost=192.0.2.10 reason=no_recent_login")
    );
}

#[test]
fn the_filter_reads_what_the_product_writes() {
    let filter = filter();
    let line = logged(&report(Refusal::CodeUnknown).log_line(&attempt("alice")));
    assert_eq!(&filter.captures(&line).unwrap()["host"], "2001:db8::7", "{line}");
    let hostile = attempt("x uid=- rhost=198.51.100.9 reason=code_unknown issuer=");
    let line = logged(&report(Refusal::CodeUnknown).log_line(&hostile));
    assert_eq!(&filter.captures(&line).unwrap()["host"], "2001:db8::7", "{line}");
    let line = logged(&report(Refusal::Unavailable("x".into())).log_line(&attempt("alice")));
    assert!(!filter.is_match(&line), "{line}");
}

#[test]
fn the_failure_line_is_for_the_refusals_that_fail2ban_counts() {
    let refusals = [
        Refusal::NotHandled("x"),
        Refusal::Empty,
        Refusal::UserUnknown,
        Refusal::Opaque,
        Refusal::OpaqueIssuer,
        Refusal::OpaqueExchange { provider: None },
        Refusal::KindNotAccepted("a mytoken"),
        Refusal::ForeignServer,
        Refusal::Rotating,
        Refusal::NoAccessTokens,
        Refusal::CodeUnknown,
        Refusal::Repeated,
        Refusal::Replayed,
        Refusal::MytokenRefused,
        Refusal::Restricted,
        Refusal::ExchangeRefused("x".into()),
        Refusal::DeadlinePassed,
        Refusal::Unavailable("x".into()),
        Refusal::ProviderUnavailable,
        Refusal::NotMapped { account: "a".into(), maps_to: None },
        Refusal::Requirement("x".into()),
        Refusal::Configuration("x".into()),
        Refusal::Conversation,
        Refusal::System("x".into()),
    ];
    let garbage = [NotAToken::TooLong, NotAToken::Cut, NotAToken::TooShort, NotAToken::BrokenJwt, NotAToken::SshdJunk];
    let rejections = [
        Rejection::Malformed,
        Rejection::IssuerUnknown,
        Rejection::Algorithm,
        Rejection::Critical,
        Rejection::WrongKind("x"),
        Rejection::KeyUnknown,
        Rejection::KeyUnfit,
        Rejection::Signature,
        Rejection::Expired,
        Rejection::NotYetValid,
        Rejection::TooOld,
        Rejection::Claim("sub"),
        Rejection::Audience,
        Rejection::Scope("x".into()),
        Rejection::Inactive,
        Rejection::ClaimsDiffer("sub"),
        Rejection::ValidationRefused("x".into()),
        Rejection::ValidationUnavailable("x".into()),
        Rejection::KeysUnavailable("x".into()),
    ];
    let limits = [Limit::Address, Limit::Host, Limit::Server, Limit::Provider, Limit::UsedByAccount, Limit::UsedOnHost];
    let links = [
        LinkRefusal::Busy(Busy::Host),
        LinkRefusal::Declined,
        LinkRefusal::NotConfirmed,
        LinkRefusal::AnswerLost,
        LinkRefusal::Broader("x".into()),
    ];
    let all = refusals
        .into_iter()
        .chain(garbage.map(Refusal::Garbage))
        .chain(rejections.map(Refusal::Token))
        .chain(limits.map(|limit| Refusal::TooManyRequests { wait: 1, limit }))
        .chain(links.map(Refusal::Link))
        .chain([ServiceState::Suspended, ServiceState::Limited, ServiceState::Pending].map(Refusal::NotActive))
        .chain([Refusal::OneTimePasswordRefused("x".into()), Refusal::NotDecided("x".into())])
        .chain([Refusal::Chunks(ChunkFault::Order)]);
    let (documented, mut seen) = (documented(), BTreeSet::new());
    for refusal in all {
        assert_eq!(Some(&refusal.is_guess()), documented.get(refusal.reason()), "{PAGE}: {}", refusal.reason());
        seen.insert(refusal.reason());
    }
    let seen: BTreeSet<String> = seen.into_iter().map(str::to_owned).collect();
    assert_eq!(seen, reasons(), "every reason is tried here");
    // The filter does not count this line, too.
    let line = logged(&failure_line(&attempt("alice"), (0, 0), Some("ssh"), None));
    assert!(!filter().is_match(&line), "{line}");
}

/// The lines of a real host, each with what the filter must find: the address, or nothing.
fn real_lines() -> Vec<(String, Option<String>)> {
    let text = read(LINES);
    let mut expected = None;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(json) = line.strip_prefix("# failJSON: ") {
            expected = Some(serde_json::from_str::<Value>(json).unwrap());
        } else if !line.starts_with('#') && !line.is_empty() {
            let expected = expected.take().unwrap_or_else(|| panic!("nothing is said about {line}"));
            let host = expected.get("host").and_then(Value::as_str).map(str::to_owned);
            assert_eq!(expected.get("match"), Some(&host.is_some().into()), "{line}");
            found.push((line.to_owned(), host));
        }
    }
    found
}

#[test]
fn the_filter_finds_the_addresses_in_lines_of_a_real_host() {
    let (filter, lines) = (filter(), real_lines());
    let hits = lines.iter().filter(|(_, host)| host.is_some()).count();
    assert!(hits > 5 && lines.len() - hits > 5, "{hits} of {}", lines.len());
    for (line, host) in &lines {
        assert_eq!(filter.captures(line).map(|found| found["host"].to_owned()), *host, "{line}");
    }
}

#[test]
fn fail2ban_itself_finds_the_same() {
    let Ok(found) = Command::new("fail2ban-regex").arg("--version").output() else {
        return crate::skipped::skip("fail2ban is not installed").unwrap();
    };
    assert!(found.status.success(), "{found:?}");
    // The filter includes a file of fail2ban from its own directory.
    let directory = tempfile::tempdir().unwrap();
    let filter = directory.path().join("mytoken.conf");
    fs::copy(path(FILTER), &filter).unwrap();
    symlink("/etc/fail2ban/filter.d/common.conf", directory.path().join("common.conf")).unwrap();
    let lines = real_lines();
    let log = directory.path().join("log");
    fs::write(&log, lines.iter().map(|(line, _)| format!("{line}\n")).collect::<String>()).unwrap();
    let found = Command::new("fail2ban-regex").arg("--print-all-matched").arg(&log).arg(&filter).output().unwrap();
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    let matched: Vec<_> = lines.iter().filter(|(_, host)| host.is_some()).collect();
    let missed = lines.len() - matched.len();
    assert!(text.contains(&format!("{} matched, {missed} missed", matched.len())), "{text}");
    for (line, _) in matched {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn lines_on_the_page_have_the_fields_of_the_products_lines() {
    let mut whole = report(Refusal::NotMapped { account: "bob".into(), maps_to: Some("alice".into()) });
    whole.revocation = Some(RevocationResult::Revoked);
    let product = fields(&whole.log_line(&attempt("bob")));
    let page = read(PAGE);
    let lines: Vec<&str> = page.lines().filter(|line| line.contains("pam_mytoken(sshd:auth): refuse")).collect();
    assert!(lines.len() > 2, "{lines:?}");
    for line in lines {
        let found = fields(line);
        // The last two fields are not in every line.
        assert!(found.len() + 2 >= product.len() && product.starts_with(&found), "{line}\n{found:?} {product:?}");
        let reason = Regex::new("reason=([a-z_]+)").unwrap().captures(line).unwrap()[1].to_owned();
        assert!(documented().contains_key(&reason), "{line}");
    }
}
