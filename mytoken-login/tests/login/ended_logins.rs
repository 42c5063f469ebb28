// SPDX-License-Identifier: MIT OR Apache-2.0
//! sshd ends a login whose `LoginGraceTime` is over by a signal (SSH-10). The next login knows what the ended one has met, and a login
//! that ended early stops nobody else. Each ended login is a child process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::fake::Reply;
use crate::fake::mytoken_server::{MytokenServer, access_token, mytoken, roots, soon};
use mytoken::cache::DiskCache;
use mytoken::document::{DocumentError, FetchError, MaxAge, SharedDocument};
use mytoken::http::{HttpSettings, LazyClient};
use mytoken::private_files::Owner;
use mytoken::server::AccessTokenRequest;
use mytoken::urls::ServerUrl;
use mytoken::{Clock, Deadline, Secret, SystemClock};
use mytoken_login::budget::{Allowance, BudgetSettings, Ledger, LedgerFile};
use mytoken_login::{Refusal, RefusalClass, Remote, ServerTokens, TokenService};
use serde_json::json;

/// Time of the child's login. The test ends it much earlier.
const LONG: Duration = Duration::from_secs(60);

/// A clock that shows this time of day.
#[derive(Debug)]
struct LaterClock(u64);

impl Clock for LaterClock {
    fn now(&self) -> u64 {
        self.0
    }
}

/// A host with its ledger and cache.
struct LoginHost {
    directory: tempfile::TempDir,
    settings: BudgetSettings,
}

impl LoginHost {
    fn new() -> Self {
        let settings = BudgetSettings { per_address: 6, ..BudgetSettings::default() };
        Self { directory: tempfile::tempdir().unwrap(), settings }
    }

    fn ledger_file(&self) -> LedgerFile {
        ledger_file(self.directory.path())
    }

    fn ledger(&self) -> Ledger {
        self.ledger_file().read(&self.settings).unwrap().0
    }

    fn exchange(&self, server: ServerUrl, from: &str, mytoken: &Secret, time: Duration) -> Result<(), Refusal> {
        exchange(self.directory.path(), &self.settings, server, from, (mytoken, false), Deadline::after(time))
    }

    /// A login in a process of its own.
    fn child(&self, case: &str, url: &str, from: &str, token: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "ended_logins::child"])
            .env("CASE", case)
            .env("CASE_DIRECTORY", self.directory.path())
            .env("CASE_URL", url)
            .env("CASE_FROM", from)
            .env("CASE_TOKEN", token)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// A login that sshd ends after it has waited long for an answer.
    fn login_that_is_ended(&self, case: &str, server: &MytokenServer, from: &str, token: &Secret) {
        let mut child = self.child(case, server.url().as_str(), from, token.expose());
        wait_until("the record of a long wait", || !self.ledger().waiting.is_empty());
        end(&mut child);
    }
}

fn ledger_file(directory: &Path) -> LedgerFile {
    LedgerFile::new(&directory.join("mytoken/login"), Owner::current())
}

fn cache(directory: &Path) -> DiskCache {
    DiskCache::new(&directory.join("cache"), Owner::current())
}

fn exchange(
    directory: &Path,
    settings: &BudgetSettings,
    server: ServerUrl,
    from: &str,
    (mytoken, redeemed): (&Secret, bool),
    deadline: Deadline,
) -> Result<(), Refusal> {
    let http = HttpSettings { roots: roots(), loopback_http: true, ..HttpSettings::default() };
    let (http, cache, ledger) = (LazyClient::new(&http), cache(directory), ledger_file(directory));
    let allowance = Allowance::new(Some(&ledger), settings, Remote::of(None, Some(from)), None);
    let tokens = ServerTokens::new(server, &http, Some(&cache), &SystemClock, &allowance);
    let request =
        AccessTokenRequest { mytoken, scope: "storage.read", audience: "https://se.example.org", comment: "" };
    tokens.exchange(&request, redeemed, deadline).map(drop)
}

/// The document of the tests: it never comes.
fn document(directory: &Path, deadline: Duration) -> Result<String, DocumentError> {
    let cache = cache(directory);
    let age = MaxAge { fresh: 3_600, stale_if_error: 86_400, stale_while_fetching: true };
    SharedDocument::new("keys", "https://op.example.org", Some(&cache), &SystemClock).get(
        age,
        Deadline::after(deadline),
        |_| {
            std::thread::sleep(LONG);
            Err(FetchError::Unavailable("in time".to_owned()))
        },
    )
}

/// Not a test: a login that is ended.
#[test]
#[ignore = "run by the other tests in a child process"]
fn child() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let directory = PathBuf::from(variable("CASE_DIRECTORY"));
    match variable("CASE").as_str() {
        case @ ("exchange" | "exchange after redemption") => {
            let server = ServerUrl::parse(&variable("CASE_URL"), true).unwrap();
            let (from, token) = (variable("CASE_FROM"), Secret::new(variable("CASE_TOKEN")));
            let settings = BudgetSettings::default();
            let entered = (&token, case != "exchange");
            let _ = exchange(&directory, &settings, server, &from, entered, Deadline::after(LONG));
        }
        "document" => drop(document(&directory, LONG)),
        _ => {}
    }
}

/// The text of all files of the cache.
fn cached(directory: &Path) -> String {
    let files = std::fs::read_dir(directory.join("cache")).into_iter().flatten().flatten();
    files.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default()).collect()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends a process as sshd does: no destructor runs.
fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn good() -> Reply {
    let token = access_token(&json!({"exp": 1_900_000_000}));
    let granted = json!({"access_token": token.expose(), "expires_in": 3600, "scope": "storage.read", "audience": ["https://se.example.org"]});
    Reply::json(200, &granted)
}

#[test]
fn the_next_login_from_any_address_knows_a_silent_server() {
    let silent = Arc::new(AtomicBool::new(false));
    let is_silent = Arc::clone(&silent);
    let pause = move || if is_silent.load(Ordering::SeqCst) { LONG } else { Duration::ZERO };
    let (host, server) = (LoginHost::new(), MytokenServer::slow(pause, good()));
    host.exchange(server.url(), "192.0.2.9", &mytoken(json!({})), LONG).unwrap();
    silent.store(true, Ordering::SeqCst);
    host.login_that_is_ended("exchange", &server, "192.0.2.1", &mytoken(json!({})));
    let begun = Instant::now();
    let refusal = host.exchange(server.url(), "192.0.2.2", &mytoken(json!({})), LONG).unwrap_err();
    assert_eq!(refusal.class(), RefusalClass::Unavailable);
    assert!(refusal.detail().is_some_and(|why| why.contains("did not answer a moment ago")), "{refusal:?}");
    assert!(begun.elapsed() < LONG / 6, "{:?}", begun.elapsed());
    let ledger = host.ledger();
    assert!(ledger.waiting.is_empty(), "the next login has no probe to send: {ledger:?}");
    assert!(
        ledger.backoffs.as_slice().iter().any(|one| one.remote.is_none() && one.provider.is_none()),
        "every address: {ledger:?}"
    );
}

/// A token can make the server wait, and its sender can choose the time at which sshd ends the login.
#[test]
fn an_ended_login_stops_only_its_own_address_while_the_server_answers() {
    let (slow, quick) = (mytoken(json!({"name": "slow"})), mytoken(json!({})));
    let text = slow.expose().to_owned();
    // The fake server has one thread, and is free again soon after the end of the login.
    let pause = |is_slow: bool| Duration::from_millis(if is_slow { 5_000 } else { 0 });
    let server = MytokenServer::with_handler(move |request| Reply {
        silence: pause(request.json()["mytoken"] == text.as_str()),
        ..good()
    });
    let host = LoginHost::new();
    host.exchange(server.url(), "192.0.2.9", &quick, LONG).unwrap();
    host.login_that_is_ended("exchange", &server, "192.0.2.1", &slow);
    std::thread::sleep(Duration::from_secs(3));
    let exchanged = || server.requests().len();
    let before = (exchanged(), server.discoveries());
    host.exchange(server.url(), "192.0.2.2", &quick, LONG).unwrap();
    assert_eq!((exchanged(), server.discoveries()), (before.0 + 1, before.1 + 1), "an exchange after one probe");
    assert_eq!(host.ledger().by_remote(), [("192.0.2.1", 2), ("192.0.2.2", 1), ("192.0.2.9", 1)], "whose the probe is");
    let refusal = host.exchange(server.url(), "192.0.2.1", &quick, LONG).unwrap_err();
    assert_eq!((refusal.class(), exchanged()), (RefusalClass::Unavailable, before.0 + 1));
}

/// The discovery document of a slow server comes later than a second after it was asked for.
#[test]
fn an_ended_login_does_not_make_a_slow_server_a_silent_one() {
    let milliseconds = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&milliseconds);
    let server = MytokenServer::slow(move || Duration::from_millis(read.load(Ordering::SeqCst)), good());
    let host = LoginHost::new();
    host.exchange(server.url(), "192.0.2.9", &mytoken(json!({})), LONG).unwrap();
    milliseconds.store(5_000, Ordering::SeqCst);
    host.login_that_is_ended("exchange", &server, "192.0.2.1", &mytoken(json!({})));
    milliseconds.store(1_500, Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(3));
    let discoveries = server.discoveries();
    host.exchange(server.url(), "192.0.2.2", &mytoken(json!({})), LONG).unwrap();
    assert_eq!(server.discoveries(), discoveries + 1, "the probe");
    assert!(host.ledger().waiting.is_empty());
}

/// The provider may have been about to answer. The holders of its other tokens find out themselves.
#[test]
fn an_ended_login_after_a_redemption_does_not_stop_its_provider_for_others() {
    let (slow, quick) = (mytoken(json!({"name": "slow"})), mytoken(json!({})));
    let text = slow.expose().to_owned();
    let pause = |is_slow: bool| Duration::from_millis(if is_slow { 4_500 } else { 0 });
    let server = MytokenServer::with_handler(move |request| Reply {
        silence: pause(request.json()["mytoken"] == text.as_str()),
        ..good()
    });
    let host = LoginHost::new();
    host.exchange(server.url(), "192.0.2.9", &quick, LONG).unwrap();
    host.login_that_is_ended("exchange after redemption", &server, "192.0.2.1", &slow);
    std::thread::sleep(Duration::from_secs(3));
    host.exchange(server.url(), "192.0.2.2", &quick, LONG).unwrap();
    let ledger = host.ledger();
    let [backoff] = ledger.backoffs.as_slice() else { panic!("{ledger:?}") };
    assert_eq!((backoff.provider.is_some(), backoff.remote.as_deref()), (true, Some("192.0.2.1")));
}

#[test]
fn a_login_that_ends_early_leaves_nothing() {
    let server = MytokenServer::with_handler(|_| Reply { silence: Duration::from_millis(1_500), ..good() });
    let host = LoginHost::new();
    let mut child = host.child("exchange", server.url().as_str(), "192.0.2.1", mytoken(json!({})).expose());
    wait_until("the request", || !server.requests().is_empty());
    end(&mut child);
    std::thread::sleep(Duration::from_secs(2));
    host.exchange(server.url(), "192.0.2.1", &mytoken(json!({})), LONG).unwrap();
    let ledger = host.ledger();
    assert!(ledger.waiting.is_empty() && ledger.backoffs.as_slice().is_empty(), "{ledger:?}");
}

#[test]
fn the_agent_hears_of_the_probe_after_an_ended_login() {
    use std::io::Read as _;
    let server = MytokenServer::with_handler(|_| Reply { silence: LONG, ..good() });
    let host = LoginHost::new();
    let mut child = host.child("exchange", server.url().as_str(), "192.0.2.1", mytoken(json!({})).expose());
    wait_until("the record of a long wait", || !host.ledger().waiting.is_empty());
    end(&mut child);
    let socket = host.directory.path().join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (agent, ledger) = (mytoken_login::budget::AgentNotes::new(socket), host.ledger_file());
    let remote = Remote::of(None, Some("192.0.2.2"));
    let allowance = Allowance::new(Some(&ledger), &host.settings, remote, None).telling(Some(&agent));
    let url = server.url();
    let settled = [(); 2].map(|()| allowance.settle_ended_logins(url.as_str(), soon()));
    assert_eq!(settled, [true, false], "there is one probe");
    let (mut told, mut stream) = (String::new(), listener.accept().unwrap().0);
    stream.read_to_string(&mut told).unwrap();
    let note = json!({"v": 1, "call": "permit", "server": url.to_string(), "sent": 1, "login": {"unverified": {}}});
    assert_eq!(serde_json::from_str::<serde_json::Value>(&told).unwrap(), note);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it is told once");
}

#[test]
fn a_login_that_gets_its_answer_late_leaves_nothing() {
    let server = MytokenServer::with_handler(|_| Reply { silence: Duration::from_secs(4), ..good() });
    let host = LoginHost::new();
    std::thread::scope(|scope| {
        let login = scope.spawn(|| host.exchange(server.url(), "192.0.2.1", &mytoken(json!({})), LONG));
        wait_until("the record of a long wait", || !host.ledger().waiting.is_empty());
        login.join().unwrap().unwrap();
    });
    let ledger = host.ledger();
    assert!(ledger.waiting.is_empty() && ledger.backoffs.as_slice().is_empty(), "{ledger:?}");
}

#[test]
fn a_document_that_an_ended_login_waited_for_is_not_requested_for_some_seconds() {
    let host = LoginHost::new();
    let directory = host.directory.path();
    let mut child = host.child("document", "", "", "");
    wait_until("the attempt", || cached(directory).contains("Awaited"));
    let refused = document(directory, Duration::from_millis(200)).unwrap_err();
    assert_eq!(refused, DocumentError::InProgress, "the process runs");
    wait_until("the record of a long wait", || cached(directory).contains("waiting"));
    let refused = document(directory, Duration::from_millis(200)).unwrap_err();
    assert_eq!(refused, DocumentError::InProgress, "the process still runs");
    end(&mut child);
    let begun = Instant::now();
    let refused = document(directory, soon().remaining().unwrap()).unwrap_err();
    assert!(
        matches!(&refused, DocumentError::Fetch(FetchError::Unavailable(why)) if why.contains("did not answer")),
        "{refused:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let (cache, now) = (cache(directory), SystemClock.now());
    let document = |clock| SharedDocument::new("keys", "https://op.example.org", Some(&cache), clock);
    let failing = document(&SystemClock).failing_for();
    assert!(failing.is_some_and(|seconds| seconds <= 11), "{failing:?}");
    // It may have been about to come: whoever waits at the prompt chooses the end.
    let later = LaterClock(now + 11);
    assert_eq!(document(&later).failing_for(), None);
    let age = MaxAge { fresh: 3_600, stale_if_error: 86_400, stale_while_fetching: true };
    assert_eq!(document(&later).get(age, soon(), |_| Ok("keys".to_owned())), Ok("keys".to_owned()));
}

/// It may have ended a moment after it sent its request, which shows nothing about the server.
#[test]
fn a_document_of_a_login_that_ended_early_has_not_failed() {
    let host = LoginHost::new();
    let directory = host.directory.path();
    let mut child = host.child("document", "", "", "");
    wait_until("the attempt", || cached(directory).contains("Awaited"));
    end(&mut child);
    assert_eq!(document(directory, Duration::from_millis(200)).unwrap_err(), DocumentError::InProgress);
    let cache = cache(directory);
    let document = SharedDocument::new("keys", "https://op.example.org", Some(&cache), &SystemClock);
    assert_eq!(document.failing_for(), None);
}
