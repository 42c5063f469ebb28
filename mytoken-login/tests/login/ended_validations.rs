// SPDX-License-Identifier: MIT OR Apache-2.0
//! sshd ends a login while it waits for the provider of its token (SSH-10). The next login knows what the ended one has met, and asks
//! nobody. The ended login is a child process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fake::Reply;
use crate::provider_fixture::{Provider, log_in};
use mytoken::Secret;
use mytoken_login::RefusalClass;
use mytoken_login::budget::BudgetSettings;
use serde_json::json;

/// Time of the child's login. The test ends it much earlier.
const LONG: Duration = Duration::from_secs(60);

const INTROSPECTION: &str = "opaque = true\nvalidation = ['introspection']";

/// Each process has keys of its own, so it is no JWT.
const TOKEN: &str = "opaque-access-token-0123456789";

/// Not a test: a login that is ended.
#[test]
#[ignore = "run by the other test in a child process"]
fn child() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let (host, url) = (variable("CASE_DIRECTORY"), variable("CASE_URL"));
    if !url.is_empty() {
        let budget = BudgetSettings::default();
        let _ = log_in(Path::new(&host), &url, &budget, INTROSPECTION, &Secret::new(TOKEN), true, LONG);
    }
}

#[test]
fn the_next_login_knows_a_provider_that_was_silent() {
    let provider = Provider::new();
    let active = json!({"active": true, "sub": "s-1", "aud": "https://testbed"});
    provider.answer(|answers| answers.introspection = Reply::json(200, &active));
    provider.check(INTROSPECTION, TOKEN).unwrap();
    provider.answer(|answers| answers.introspection.silence = LONG);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "ended_validations::child"])
        .env("CASE_DIRECTORY", provider.path(""))
        .env("CASE_URL", provider.server.url(""))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while provider.ledger().waiting.is_empty() {
        assert!(begun.elapsed() < LONG, "no record of a long wait");
        std::thread::sleep(Duration::from_millis(20));
    }
    // As sshd does: no destructor runs.
    child.kill().unwrap();
    child.wait().unwrap();

    let (asked, begun) = (provider.asked().len(), Instant::now());
    let refusal = provider.check(INTROSPECTION, TOKEN).unwrap_err();
    assert_eq!((refusal.reason(), refusal.class()), ("validation_unavailable", RefusalClass::Unavailable));
    assert_eq!(provider.asked().len(), asked, "it was asked again");
    assert!(begun.elapsed() < LONG / 6, "{:?}", begun.elapsed());
    let ledger = provider.ledger();
    assert!(ledger.waiting.is_empty(), "{ledger:?}");
    assert!(ledger.backoffs.as_slice().iter().any(|one| one.remote.is_none()), "every address: {ledger:?}");
}
