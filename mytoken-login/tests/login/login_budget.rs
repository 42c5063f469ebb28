// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests that logins cause at the mytoken server, counted there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::fake::Reply;
use crate::fake::mytoken_server::{MytokenServer, access_token, mytoken, roots, soon};
use mytoken::cache::DiskCache;
use mytoken::http::{HttpSettings, LazyClient};
use mytoken::private_files::Owner;
use mytoken::server::AccessTokenRequest;
use mytoken::urls::ServerUrl;
use mytoken::{Deadline, Secret, SystemClock};
use mytoken_login::budget::{Allowance, Backoff, BackoffReason, BudgetSettings, LedgerFile};
use mytoken_login::{Refusal, RefusalClass, Remote, ServerTokens, TokenService};
use serde_json::json;

/// A request to exchange `mytoken`.
fn exchange(mytoken: &Secret) -> AccessTokenRequest<'_> {
    AccessTokenRequest { mytoken, scope: "storage.read", audience: "https://se.example.org", comment: "" }
}

/// Time of a login: two and a half seconds for the request, one for the probe, and the rest to record the outcome. The fake server has one
/// thread, so it answers the probe only after the request.
const TIME_LIMIT: Duration = Duration::from_secs(4);

/// A host with its ledger and cache.
struct LoginHost {
    http: HttpSettings,
    settings: BudgetSettings,
    ledger: LedgerFile,
    cache: Option<DiskCache>,
    _directory: tempfile::TempDir,
}

impl LoginHost {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            http: HttpSettings { roots: roots(), loopback_http: true, ..HttpSettings::default() },
            settings: BudgetSettings { per_address: 4, per_host: 15, ..BudgetSettings::default() },
            ledger: LedgerFile::new(&directory.path().join("mytoken/login"), Owner::current()),
            cache: Some(DiskCache::new(&directory.path().join("cache"), Owner::current())),
            _directory: directory,
        }
    }

    /// One login, in a process of its own: its requests, and the refund when it is accepted.
    fn login<T>(
        &self,
        server: &MytokenServer,
        from: &str,
        act: impl FnOnce(&ServerTokens<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.login_at(server.url(), from, act)
    }

    fn login_at<T>(
        &self,
        server: ServerUrl,
        from: &str,
        act: impl FnOnce(&ServerTokens<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let http = LazyClient::new(&self.http);
        let allowance = Allowance::new(Some(&self.ledger), &self.settings, Remote::of(None, Some(from)), None);
        let tokens = ServerTokens::new(server, &http, self.cache.as_ref(), &SystemClock, &allowance);
        act(&tokens).inspect(|_| allowance.refund(soon()))
    }

    fn guess(&self, server: &MytokenServer, from: &str) -> Refusal {
        self.login(server, from, |tokens| tokens.redeem(&Secret::new("AbCdEfGh"), soon())).unwrap_err()
    }

    fn present(&self, server: &MytokenServer, from: &str, mytoken: &Secret, deadline: Deadline) -> Result<(), Refusal> {
        self.present_at(server.url(), from, mytoken, deadline)
    }

    fn present_at(&self, server: ServerUrl, from: &str, mytoken: &Secret, deadline: Deadline) -> Result<(), Refusal> {
        self.login_at(server, from, |tokens| tokens.exchange(&exchange(mytoken), false, deadline)).map(drop)
    }
}

fn good() -> Reply {
    let token = access_token(&json!({"exp": 1_900_000_000}));
    let granted = json!({"access_token": token.expose(), "expires_in": 3600, "scope": "storage.read", "audience": ["https://se.example.org"]});
    Reply::json(200, &granted)
}

fn unknown_code() -> Reply {
    Reply::json(401, &json!({"error": "invalid_token", "error_description": "Bad polling or transfer code"}))
}

#[test]
fn guesses_spend_the_budget_of_their_address_and_then_send_nothing() {
    let (host, server) = (LoginHost::new(), MytokenServer::with_replies(vec![unknown_code()]));
    let reasons: Vec<&str> = (0..20).map(|_| host.guess(&server, "192.0.2.1").reason()).collect();
    assert_eq!(reasons[..4], ["code_unknown"; 4]);
    assert_eq!(reasons[4..], ["budget_address"; 16]);
    assert_eq!((server.requests().len(), server.count()), (4, 5), "and one for discovery");
    assert_eq!(host.guess(&server, "192.0.2.2").reason(), "code_unknown", "another address has its own budget");
    for from in ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:0:ffff::4", "2001:db8::5", "2001:db8:0:1::5"]
    {
        host.guess(&server, from);
    }
    assert_eq!(server.requests().len(), 10, "four from one /64, one from the next");
    let refusal = host.guess(&server, "192.0.2.3");
    assert_eq!((refusal.reason(), refusal.class()), ("budget_host", RefusalClass::Rejected));
    assert_eq!(server.requests().len(), 10);
}

#[test]
fn sixty_accepted_logins_behind_one_address_are_not_refused() {
    let (host, server) = (LoginHost::new(), MytokenServer::with_replies(vec![good()]));
    for person in 0..60 {
        host.present(&server, "192.0.2.1", &mytoken(json!({})), soon()).unwrap_or_else(|why| panic!("{person}: {why}"));
    }
    assert_eq!(server.count(), 61);
}

#[test]
fn a_429_is_remembered_until_its_retry_after_and_no_login_waits_for_it() {
    let limited = Reply::new(429, "text/plain", "Too Many Requests").header("Retry-After", "7");
    for (server, what) in [
        (MytokenServer::with_replies(vec![limited.clone()]), "an answer to a token"),
        (MytokenServer::always(limited.clone()), "an answer to discovery"),
    ] {
        let host = LoginHost::new();
        let begun = Instant::now();
        let refusals: Vec<Refusal> = (0..5).map(|number| host.guess(&server, &format!("192.0.2.{number}"))).collect();
        assert!(begun.elapsed() < Duration::from_secs(7), "{what}: {:?}", begun.elapsed());
        assert!(refusals.iter().all(|refusal| refusal.reason() == "server_limit"), "{what}: {refusals:?}");
        assert!(refusals.iter().all(|refusal| refusal.class() == RefusalClass::Rejected), "{what}: not an outage");
        assert_eq!(refusals[0].to_string(), "too many logins at the moment; try again in 7 s", "{what}");
        let asked = server.requests().iter().filter(|request| request.path == "/my").count();
        assert_eq!((asked, server.count()), (if what.ends_with("token") { (1, 2) } else { (0, 1) }), "{what}");
    }
}

/// Some tokens make the server wait: their provider hangs, or they are short tokens that rotate. Only their holders may wait.
#[test]
fn a_slow_token_causes_a_backoff_for_its_address_only() {
    let (slow, quick) = (mytoken(json!({"name": "slow"})), mytoken(json!({})));
    let text = slow.expose().to_owned();
    let server = MytokenServer::with_handler(move |request| Reply {
        silence: Duration::from_millis(if request.json()["mytoken"] == text.as_str() { 3_100 } else { 0 }),
        ..good()
    });
    let host = LoginHost::new();
    host.present(&server, "192.0.2.9", &quick, soon()).unwrap();
    let deadline = || Deadline::after(TIME_LIMIT);
    assert_eq!(host.present(&server, "192.0.2.1", &slow, deadline()).unwrap_err().class(), RefusalClass::Unavailable);
    let before = server.count();
    assert_eq!(host.present(&server, "192.0.2.1", &slow, deadline()).unwrap_err().class(), RefusalClass::Unavailable);
    assert_eq!(server.count(), before, "the next login from this address sends no request");
    host.present(&server, "192.0.2.2", &quick, soon()).unwrap();
    assert_eq!(host.requests_of_guess(&server, "192.0.2.3"), 1);
}

/// The claims of a mytoken that the server issued are true, so the backoff for its provider applies to every address.
#[test]
fn the_backoff_for_a_silent_provider_applies_to_its_mytokens_only() {
    let (hanging, other) = (mytoken(json!({})), mytoken(json!({"oidc_iss": "https://other.example.org"})));
    let text = hanging.expose().to_owned();
    let server = MytokenServer::with_handler(move |request| Reply {
        silence: Duration::from_millis(if request.json()["mytoken"] == text.as_str() { 3_100 } else { 0 }),
        ..good()
    });
    let host = LoginHost::new();
    let exchange_redeemed = |from: &str, mytoken: &Secret| {
        let deadline = Deadline::after(TIME_LIMIT);
        host.login(&server, from, |tokens| tokens.exchange(&exchange(mytoken), true, deadline)).map(drop)
    };
    exchange_redeemed("192.0.2.9", &other).unwrap();
    assert_eq!(exchange_redeemed("192.0.2.1", &hanging).unwrap_err().class(), RefusalClass::Unavailable);
    let before = server.count();
    assert_eq!(exchange_redeemed("192.0.2.2", &hanging).unwrap_err().class(), RefusalClass::Unavailable);
    assert_eq!(server.count(), before);
    exchange_redeemed("192.0.2.2", &other).unwrap();
}

#[test]
fn the_backoff_for_a_silent_server_applies_to_every_address() {
    let silent = Reply { silence: Duration::from_millis(900), ..good() };
    let server = MytokenServer::always(silent);
    let host = LoginHost::new();
    let login = |from: &str, deadline: Deadline| host.present(&server, from, &mytoken(json!({})), deadline);
    let too_early = Deadline::after(Duration::from_millis(600));
    assert_eq!(login("192.0.2.1", too_early).unwrap_err().class(), RefusalClass::Unavailable);
    // The second login has the time to wait for an answer, but it sends no request.
    assert_eq!(login("192.0.2.2", soon()).unwrap_err().class(), RefusalClass::Unavailable);
    assert_eq!(server.count(), 1);
}

#[test]
fn the_first_login_that_meets_silence_starts_the_backoff() {
    let (slow, silent) = (Duration::from_millis(4_500), Arc::new(AtomicBool::new(false)));
    let is_silent = Arc::clone(&silent);
    let server =
        MytokenServer::slow(move || if is_silent.load(Ordering::SeqCst) { slow } else { Duration::ZERO }, good());
    let host = LoginHost::new();
    let login = |from: &str| {
        let deadline = Deadline::after(Duration::from_secs(3));
        host.present(&server, from, &mytoken(json!({})), deadline)
    };
    host.present(&server, "192.0.2.9", &mytoken(json!({})), soon()).unwrap();
    silent.store(true, Ordering::SeqCst);
    assert_eq!(login("192.0.2.1").unwrap_err().class(), RefusalClass::Unavailable);
    // Discovery got no answer either, so the token is not the cause.
    let refusal = login("192.0.2.2").unwrap_err();
    assert!(refusal.detail().is_some_and(|why| why.contains("did not answer a moment ago")), "{refusal:?}");
}

#[test]
fn the_backoff_for_an_unreachable_server_applies_to_every_address() {
    let (host, server) = (LoginHost::new(), MytokenServer::with_replies(vec![good()]));
    host.present(&server, "192.0.2.9", &mytoken(json!({})), soon()).unwrap();
    let stopped = server.stop();
    let login = |from: &str| host.present_at(stopped.clone(), from, &mytoken(json!({})), soon()).unwrap_err();
    assert_eq!(login("192.0.2.1").class(), RefusalClass::Unavailable);
    let (ledger, _) = host.ledger.read(&host.settings).unwrap();
    assert!(
        ledger.backoffs.as_slice().iter().any(|backoff| backoff.remote.is_none() && backoff.provider.is_none()),
        "{ledger:?}"
    );
    assert!(login("192.0.2.2").detail().is_some_and(|why| why.contains("a moment ago")));
}

#[test]
fn an_answer_ends_the_backoff_that_another_login_started() {
    let host = LoginHost::new();
    let (ledger, settings) = (host.ledger.clone(), host.settings.clone());
    let server = MytokenServer::with_handler(move |request| {
        // Meanwhile another login gets no answer.
        let url = format!("http://{}", request.header("host").unwrap_or_default());
        let backoff =
            |until| Backoff { reason: BackoffReason::Silent, server: url.clone(), provider: None, remote: None, until };
        ledger.change(&settings, soon(), &mut |ledger, now| ledger.backoffs.add(backoff(now + 15))).unwrap();
        good()
    });
    host.present(&server, "192.0.2.1", &mytoken(json!({})), soon()).unwrap();
    assert_eq!(host.ledger.read(&host.settings).unwrap().0.backoffs.as_slice(), []);
}

#[test]
fn a_revocation_does_not_revoke_sub_tokens() {
    let (host, server) = (LoginHost::new(), MytokenServer::with_replies(vec![Reply::new(204, "text/plain", "")]));
    let redeemed = mytoken(json!({}));
    host.login(&server, "192.0.2.1", |tokens| tokens.revoke(&redeemed, soon())).unwrap();
    let body = server.requests()[0].json();
    assert_eq!(body, json!({"token": redeemed.expose(), "recursive": false}));
}

#[test]
fn the_providers_limit_for_an_unverified_token_applies_to_its_address_only() {
    let limited = Reply::json(429, &json!({"error": "oidc_error", "error_description": "slow_down"}));
    let (theirs, mine) = (mytoken(json!({"name": "theirs"})), mytoken(json!({})));
    let text = theirs.expose().to_owned();
    let server =
        MytokenServer::with_handler(
            move |request| {
                if request.json()["mytoken"] == text.as_str() { limited.clone() } else { good() }
            },
        );
    let host = LoginHost::new();
    for _ in 0..2 {
        let refusal = host.present(&server, "192.0.2.1", &theirs, soon()).unwrap_err();
        assert_eq!((refusal.class(), refusal.reason()), (RefusalClass::Rejected, "provider_limit"));
    }
    assert_eq!(server.requests().len(), 1, "remembered");
    host.present(&server, "192.0.2.2", &mine, soon()).unwrap();
}

/// Guesses must not cost another user a redeemed mytoken.
#[test]
fn a_redeemed_mytoken_is_exchanged_and_revoked_even_when_the_budget_is_spent() {
    let redeemed = mytoken(json!({}));
    let answer = json!({"mytoken": redeemed.expose(), "mytoken_type": "token", "capabilities": ["AT"], "mom_id": "x"});
    let server = MytokenServer::with_handler(move |request| match request.path.as_str() {
        "/my" if request.json()["transfer_code"] == "GoodCode" => Reply::json(200, &answer),
        "/my" => unknown_code(),
        "/revoke" => Reply::new(204, "text/plain", ""),
        _ => good(),
    });
    let host = LoginHost::new();
    for _ in 0..3 {
        host.guess(&server, "192.0.2.1");
    }
    let refused: Result<(), Refusal> = host.login(&server, "192.0.2.1", |tokens| {
        let mytoken = tokens.redeem(&Secret::new("GoodCode"), soon())?;
        // Meanwhile a backoff for every address begins.
        let url = server.url().to_string();
        let backoff = |until| Backoff {
            reason: BackoffReason::TooManyRequests,
            server: url.clone(),
            provider: None,
            remote: None,
            until,
        };
        host.ledger.change(&host.settings, soon(), &mut |ledger, now| ledger.backoffs.add(backoff(now + 60))).unwrap();
        tokens.exchange(&exchange(&mytoken), true, soon())?;
        tokens.revoke(&mytoken, soon())?;
        Err(Refusal::MytokenRefused)
    });
    assert_eq!(refused, Err(Refusal::MytokenRefused));
    let (ledger, _) = host.ledger.read(&host.settings).unwrap();
    assert_eq!(ledger.by_remote(), [("192.0.2.1", 6)], "three guesses, a code, an exchange, a revocation");
}

#[test]
fn a_login_after_its_deadline_sends_nothing_and_starts_no_backoff() {
    let (host, server) = (LoginHost::new(), MytokenServer::with_replies(vec![good()]));
    host.present(&server, "192.0.2.9", &mytoken(json!({})), soon()).unwrap();
    let before = server.count();
    let refusal = host.present(&server, "192.0.2.1", &mytoken(json!({})), Deadline::after(Duration::ZERO)).unwrap_err();
    assert_eq!((refusal.class(), server.count()), (RefusalClass::Rejected, before));
    assert_eq!(host.ledger.read(&host.settings).unwrap().0.backoffs.as_slice(), []);
}

#[test]
fn the_probe_of_a_slow_server_is_counted_and_its_429_remembered() {
    let slow = mytoken(json!({}));
    let text = slow.expose().to_owned();
    let limited = Reply::new(429, "text/plain", "Too Many Requests").header("Retry-After", "100000");
    let server = MytokenServer::failing_later_discoveries(limited, move |request| Reply {
        silence: Duration::from_millis(if request.json()["mytoken"] == text.as_str() { 3_100 } else { 0 }),
        ..good()
    });
    let host = LoginHost::new();
    host.present(&server, "192.0.2.9", &mytoken(json!({"name": "quick"})), soon()).unwrap();
    host.present(&server, "192.0.2.1", &slow, Deadline::after(TIME_LIMIT)).unwrap_err();
    let (ledger, now) = host.ledger.read(&host.settings).unwrap();
    assert_eq!(ledger.by_remote(), [("192.0.2.1", 2)]);
    let backoff =
        ledger.backoffs.as_slice().iter().find(|backoff| backoff.reason == BackoffReason::TooManyRequests).unwrap();
    // A backoff lasts at most a quarter of an hour.
    assert!(backoff.remote.is_none() && backoff.until > now + 800 && backoff.until <= now + 900, "{backoff:?}");
}

#[test]
fn an_unusable_discovery_document_is_not_requested_again_at_once() {
    for reply in
        [Reply::json(500, &json!({})), Reply::json(404, &json!({})), Reply::json(200, &json!([])), Reply::hang_up()]
    {
        let (host, server) = (LoginHost::new(), MytokenServer::always(reply));
        let classes: Vec<RefusalClass> =
            (0..6).map(|number| host.guess(&server, &format!("192.0.2.{number}")).class()).collect();
        assert_eq!((classes, server.count()), (vec![RefusalClass::Unavailable; 6], 1));
    }
}

#[test]
fn a_request_that_cannot_be_counted_is_not_sent() {
    let (mut host, server) = (LoginHost::new(), MytokenServer::with_replies(vec![unknown_code()]));
    host.ledger = LedgerFile::new(std::path::Path::new("/proc/mytoken/login"), Owner::current());
    assert_eq!((host.guess(&server, "192.0.2.1").class(), server.count()), (RefusalClass::System, 0));
}

impl LoginHost {
    /// The number of requests that a guess causes after discovery.
    fn requests_of_guess(&self, server: &MytokenServer, from: &str) -> usize {
        let before = server.count();
        let _ = self.login(server, from, |tokens| tokens.redeem(&Secret::new("AbCdEfGh"), soon()));
        server.count() - before
    }
}

#[test]
fn a_login_exchanges_once_whatever_the_answer_is() {
    let settings = HttpSettings { roots: roots(), loopback_http: true, ..HttpSettings::default() };
    let used_up = Reply::json(403, &json!({"error": "usage_restricted"}));
    for failure in [Reply::json(500, &json!({"error": "internal_server_error"})), Reply::hang_up()] {
        let server = MytokenServer::with_replies(vec![failure, used_up.clone()]);
        let http = LazyClient::new(&settings);
        let settings = BudgetSettings::default();
        let allowance = Allowance::uncounted(&settings);
        let tokens = ServerTokens::new(server.url(), &http, None, &SystemClock, &allowance);
        let mytoken = mytoken(json!({}));
        let request = AccessTokenRequest { mytoken: &mytoken, scope: "openid", audience: "", comment: "" };
        let refusal = tokens.exchange(&request, true, soon()).unwrap_err();
        assert_eq!(refusal.class(), RefusalClass::Unavailable, "{refusal:?}");
        assert_eq!(server.requests().len(), 1);
    }
}
