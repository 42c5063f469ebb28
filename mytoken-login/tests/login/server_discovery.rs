// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often logins request the discovery document of the mytoken server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fake::mytoken_server::{access_token, discovery, mytoken};
use crate::fake::{Fake, Reply};
use mytoken::cache::DiskCache;
use mytoken::http::{HttpSettings, LazyClient, Roots};
use mytoken::private_files::Owner;
use mytoken::server::AccessTokenRequest;
use mytoken::urls::ServerUrl;
use mytoken::{Deadline, Secret};
use mytoken_login::budget::{Allowance, BudgetSettings};
use mytoken_login::{Refusal, RefusalClass, ServerTokens, TokenService};
use mytoken_wire::clock::FixedClock;
use serde_json::json;

const NOW: u64 = 1_800_000_000;

/// Milliseconds for a login that must not run out of time, on a busy machine too.
const LONG: u64 = 60_000;

struct FakeMytokenServer {
    server: Fake,
    mood: Arc<Mutex<&'static str>>,
    dir: tempfile::TempDir,
}

fn answer(mood: &str, path: &str, url: &str) -> Reply {
    match (mood, path) {
        (_, "/access") => Reply::json(200, &json!({"access_token": access_token(&json!({})), "token_type": "Bearer"})),
        ("500", _) => Reply::new(500, "text/html", "<html>"),
        ("429", _) => Reply::new(429, "text/plain", "Too Many Requests").header("Retry-After", "1"),
        ("silent", _) => Reply { silence: Duration::from_secs(30), ..Reply::new(200, "text/plain", "") },
        ("hangs up", _) => Reply::hang_up(),
        ("another", _) => Reply::json(200, &discovery("https://evil.example")),
        _ => Reply::json(200, &discovery(url)),
    }
}

impl FakeMytokenServer {
    fn new(mood: &'static str) -> Self {
        let mood = Arc::new(Mutex::new(mood));
        let played = Arc::clone(&mood);
        let server = Fake::plain(move |request| {
            let url = format!("http://{}", request.header("host").unwrap_or_default());
            answer(*played.lock().unwrap(), &request.path, &url)
        });
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("roots"), crate::fake::authority("127.0.0.1", false).0).unwrap();
        Self { server, mood, dir }
    }

    fn set_mood(&self, mood: &'static str) -> &Self {
        *self.mood.lock().unwrap() = mood;
        self
    }

    /// The result of a login in a new process at this time, with an unverified token.
    fn login(&self, seconds: u64) -> Result<Secret, Refusal> {
        self.login_with(&DiskCache::new(&self.dir.path().join("cache"), Owner::current()), seconds, LONG)
    }

    fn login_with(&self, cache: &DiskCache, seconds: u64, deadline: u64) -> Result<Secret, Refusal> {
        let settings = HttpSettings {
            roots: Roots::File(self.dir.path().join("roots")),
            loopback_http: true,
            ..HttpSettings::default()
        };
        let (http, clock) = (LazyClient::new(&settings), FixedClock(NOW + seconds));
        let url = ServerUrl::parse(&self.server.url(""), true).unwrap();
        let mytoken = mytoken(json!({}));
        let request = AccessTokenRequest { mytoken: &mytoken, scope: "", audience: "", comment: "" };
        let deadline = Deadline::after(Duration::from_millis(deadline));
        // Requests are not counted: the document is fetched at most once a minute in any case.
        let settings = BudgetSettings::default();
        let allowance = Allowance::uncounted(&settings);
        let tokens = ServerTokens::new(url, &http, Some(cache), &clock, &allowance);
        tokens.exchange(&request, false, deadline)
    }

    fn discoveries(&self) -> usize {
        self.server.requests().iter().filter(|request| request.path.starts_with("/.well-known/")).count()
    }
}

#[test]
fn a_failing_server_gets_one_request_a_minute() {
    for (mood, class) in [
        ("500", RefusalClass::Unavailable),
        ("hangs up", RefusalClass::Unavailable),
        ("429", RefusalClass::Rejected), // anybody at the prompt can cause it
        ("another", RefusalClass::Misconfigured),
    ] {
        let server = FakeMytokenServer::new(mood);
        for seconds in [0, 1, 16, 31, 46, 59] {
            assert_eq!(server.login(seconds).unwrap_err().class(), class, "{mood}, second {seconds}");
        }
        assert_eq!(server.discoveries(), 1, "{mood}");
        server.set_mood("well").login(60).unwrap();
        assert_eq!(server.discoveries(), 2, "{mood}");
    }
}

#[test]
fn a_timeout_counts_as_a_failure() {
    let server = FakeMytokenServer::new("silent");
    let cache = DiskCache::new(&server.dir.path().join("cache"), Owner::current());
    assert_eq!(server.login_with(&cache, 0, 1_000).unwrap_err().class(), RefusalClass::Unavailable);
    let refusal = server.login(20).unwrap_err();
    assert_eq!(refusal.class(), RefusalClass::Unavailable);
    assert!(refusal.detail().unwrap().contains("did not answer in time"), "{refusal:?}");
    assert_eq!(server.discoveries(), 1);
}

#[test]
fn an_old_document_is_used_while_there_is_no_newer_one() {
    let server = FakeMytokenServer::new("well");
    server.login(0).unwrap();
    server.set_mood("500");
    for seconds in [3_600, 3_601, 3_659] {
        server.login(seconds).unwrap();
    }
    assert_eq!(server.discoveries(), 2);
    assert_eq!(server.login(86_400).unwrap_err().class(), RefusalClass::Unavailable);
}

#[test]
fn simultaneous_logins_send_one_request() {
    let server = FakeMytokenServer::new("well");
    std::thread::scope(|scope| {
        let logins: Vec<_> = (0..8).map(|_| scope.spawn(|| server.login(0))).collect();
        logins.into_iter().for_each(|login| drop(login.join().unwrap().unwrap()));
    });
    assert_eq!(server.discoveries(), 1);
}

#[test]
fn without_a_usable_directory_no_request_is_sent() {
    let server = FakeMytokenServer::new("well");
    std::fs::write(server.dir.path().join("file"), "").unwrap();
    let below = |path: &str| server.dir.path().join("file").join(path);
    let cache = DiskCache::new(&below("var"), Owner::current()).or(&below("run/cache"));
    let refusal = server.login_with(&cache, 0, LONG).unwrap_err();
    assert_eq!(refusal.class(), RefusalClass::Unavailable);
    assert!(refusal.detail().unwrap().contains("cannot be stored"), "{refusal:?}");
    assert!(server.server.requests().is_empty());

    let second = DiskCache::new(&below("var"), Owner::current()).or(&server.dir.path().join("run/cache"));
    server.login_with(&second, 0, LONG).unwrap();
    server.login_with(&second, 1, LONG).unwrap();
    assert_eq!(server.discoveries(), 1);
}

#[test]
fn the_cache_does_not_hold_the_token() {
    let server = FakeMytokenServer::new("another");
    server.login(0).unwrap_err();
    let files = std::fs::read_dir(server.dir.path().join("cache")).unwrap();
    let texts: Vec<String> = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(texts.len(), 1);
    assert!(!texts[0].contains(Secret::new(mytoken(json!({})).expose()).expose()), "{texts:?}");
}
