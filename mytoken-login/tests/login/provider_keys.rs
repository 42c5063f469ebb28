// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys of an issuer: how often they are requested, which answers are used, and what is used while the issuer does not answer.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::fake::{Fake, Reply};
use mytoken::Deadline;
use mytoken::cache::DiskCache;
use mytoken::config::IssuerSettings;
use mytoken::http::{HttpSettings, LazyClient, Roots};
use mytoken::private_files::Owner;
use mytoken_login::oidc::{KeyFreshness, KeySet, KeySource, KeysUnavailable, ProviderKeys};
use mytoken_wire::clock::FixedClock;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

/// An issuer with adjustable behaviour, and a cache of its own.
struct TestIssuer {
    server: Fake,
    mood: Arc<Mutex<&'static str>>,
    issuer: IssuerSettings,
    dir: tempfile::TempDir,
    roots: tempfile::NamedTempFile,
}

/// Time for a login that must not run out of time, on a busy machine too.
const LONG: Duration = Duration::from_secs(60);

fn answer(mood: &str, path: &str, url: &str) -> Reply {
    let discovery = |issuer: &str, jwks: &str| Reply::json(200, &json!({"issuer": issuer, "jwks_uri": jwks}));
    match (mood, path) {
        ("hangs up", _) => Reply::hang_up(),
        ("500", _) | ("500 for keys", "/jwks") => Reply::new(500, "text/html", "<html>"),
        ("silent", _) => Reply { silence: Duration::from_secs(30), ..Reply::new(200, "text/plain", "") },
        ("slow", "/jwks") => {
            Reply { silence: Duration::from_millis(1_500), ..Reply::json(200, &crate::support::keys().jwks) }
        }
        ("another issuer", "/.well-known/openid-configuration") => {
            discovery("https://evil.example", &format!("{url}/jwks"))
        }
        ("keys elsewhere", "/.well-known/openid-configuration") => discovery(url, "http://192.0.2.1/jwks"),
        ("keys at another name", "/.well-known/openid-configuration") => {
            discovery(url, &format!("{}/jwks", url.replace("127.0.0.1", "localhost")))
        }
        (_, "/.well-known/openid-configuration") => discovery(url, &format!("{url}/jwks")),
        ("redirects", "/jwks") => Reply::new(302, "text/plain", "").header("Location", &format!("{url}/other")),
        ("no keys", "/jwks") => Reply::json(200, &json!({"keys": []})),
        ("no JSON", "/jwks") => Reply::new(200, "application/json", "<html>"),
        ("huge", "/jwks") => Reply::new(200, "application/json", "x".repeat(300 * 1024)),
        (_, "/jwks" | "/other") => Reply::json(200, &crate::support::keys().jwks),
        _ => Reply::new(404, "text/plain", ""),
    }
}

impl TestIssuer {
    fn new() -> Self {
        // Generated here: it takes a second, on a busy machine more than a login waits for an answer.
        crate::support::keys();
        let mood = Arc::new(Mutex::new("well"));
        let played = Arc::clone(&mood);
        let server = Fake::plain(move |request| {
            let host = request.header("host").unwrap_or_default().to_owned();
            let mood = || *played.lock().unwrap();
            let begun = Instant::now();
            while mood() == "no answer yet" && begun.elapsed() < LONG {
                std::thread::sleep(Duration::from_millis(5));
            }
            answer(mood(), &request.path, &format!("http://{host}"))
        });
        let mut issuer = crate::support::issuer("");
        issuer.url = server.url("");
        let roots = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(roots.path(), crate::fake::authority("127.0.0.1", false).0).unwrap();
        Self { server, mood, issuer, dir: tempfile::tempdir().unwrap(), roots }
    }

    fn set_mood(&self, mood: &'static str) -> &Self {
        *self.mood.lock().unwrap() = mood;
        self
    }

    /// The keys that a new process gets at this time.
    fn keys(&self, seconds: u64, freshness: KeyFreshness) -> Result<KeySet, KeysUnavailable> {
        let cache = DiskCache::new(&self.dir.path().join("cache"), Owner::current());
        self.keys_with(Some(&cache), seconds, freshness)
    }

    fn keys_with(
        &self,
        cache: Option<&DiskCache>,
        seconds: u64,
        freshness: KeyFreshness,
    ) -> Result<KeySet, KeysUnavailable> {
        self.keys_within(LONG, cache, seconds, freshness)
    }

    fn keys_within(
        &self,
        deadline: Duration,
        cache: Option<&DiskCache>,
        seconds: u64,
        freshness: KeyFreshness,
    ) -> Result<KeySet, KeysUnavailable> {
        let settings = HttpSettings {
            roots: Roots::File(self.roots.path().to_owned()),
            loopback_http: true,
            ..HttpSettings::default()
        };
        let (http, clock) = (LazyClient::new(&settings), FixedClock(NOW + seconds));
        ProviderKeys::new(&http, cache, &clock).keys(&self.issuer, freshness, Deadline::after(deadline))
    }

    fn requests(&self) -> usize {
        self.server.requests().len()
    }

    fn cached_file(&self) -> std::path::PathBuf {
        let cache = self.dir.path().join("cache");
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with("jwks-");
        std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).find(|path| name(path)).unwrap()
    }
}

#[test]
fn keys_are_requested_once_an_hour() {
    let issuer = TestIssuer::new();
    let keys = issuer.keys(0, KeyFreshness::Configured).unwrap();
    assert_eq!((keys.len(), issuer.requests()), (5, 2));
    assert_eq!(issuer.keys(3_599, KeyFreshness::Configured).unwrap(), keys);
    assert_eq!(issuer.requests(), 2);
    issuer.keys(3_600, KeyFreshness::Configured).unwrap();
    assert_eq!(issuer.requests(), 4);
}

#[test]
fn unknown_key_ids_cause_one_request_a_minute() {
    let issuer = TestIssuer::new();
    issuer.keys(0, KeyFreshness::Configured).unwrap();
    for seconds in [0, 1, 59] {
        issuer.keys(seconds, KeyFreshness::Newest).unwrap();
    }
    assert_eq!(issuer.requests(), 2);
    issuer.keys(60, KeyFreshness::Newest).unwrap();
    assert_eq!(issuer.requests(), 4);
}

/// The calls of a login with an invented `kid`: it looks for the key, and again for newer keys.
fn log_in_with_invented_key(issuer: &TestIssuer, cache: Option<&DiskCache>, seconds: u64) {
    if issuer.keys_with(cache, seconds, KeyFreshness::Configured).is_ok() {
        let _ = issuer.keys_with(cache, seconds, KeyFreshness::Newest);
    }
}

#[test]
fn a_failing_issuer_gets_one_request_a_minute() {
    for (mood, each) in [("500", 1), ("500 for keys", 2), ("hangs up", 1), ("no keys", 2), ("another issuer", 1)] {
        let issuer = TestIssuer::new();
        let cache = DiskCache::new(&issuer.dir.path().join("cache"), Owner::current());
        issuer.set_mood(mood);
        for seconds in [0, 1, 10, 16, 30, 59] {
            log_in_with_invented_key(&issuer, Some(&cache), seconds);
        }
        assert_eq!(issuer.requests(), each, "{mood}, no keys yet");
        log_in_with_invented_key(&issuer, Some(&cache), 60);
        assert_eq!(issuer.requests(), 2 * each, "{mood}, a minute later");
        issuer.set_mood("well").keys(120, KeyFreshness::Configured).unwrap();
        let before = issuer.requests();
        issuer.set_mood(mood);
        for seconds in [180, 181, 190, 210, 239] {
            log_in_with_invented_key(&issuer, Some(&cache), seconds);
        }
        assert_eq!(issuer.requests(), before + each, "{mood}, with keys");
    }
}

#[test]
fn old_keys_are_used_for_a_day_during_an_outage() {
    let issuer = TestIssuer::new();
    let keys = issuer.keys(0, KeyFreshness::Configured).unwrap();
    for (mood, seconds) in ["hangs up", "500", "redirects", "no keys", "no JSON", "huge", "another issuer"]
        .into_iter()
        .zip((0..).step_by(61))
    {
        assert_eq!(issuer.set_mood(mood).keys(83_000 + seconds, KeyFreshness::Configured).unwrap(), keys, "{mood}");
        assert!(issuer.keys(86_500 + seconds, KeyFreshness::Configured).is_err(), "{mood}");
    }
}

#[test]
fn a_timeout_counts_as_a_failure() {
    let issuer = TestIssuer::new();
    let cache = DiskCache::new(&issuer.dir.path().join("cache"), Owner::current());
    issuer.set_mood("silent");
    issuer.keys_within(Duration::from_secs(1), Some(&cache), 0, KeyFreshness::Configured).unwrap_err();
    let reason = issuer.keys(1, KeyFreshness::Configured).unwrap_err().reason;
    assert!(reason.contains("did not answer in time") && reason.contains("not asked again"), "{reason}");
    assert_eq!(issuer.requests(), 1);
}

/// Many logins at the same time, on a host that has no keys yet.
#[test]
fn simultaneous_logins_share_one_answer() {
    let issuer = TestIssuer::new();
    issuer.set_mood("slow");
    std::thread::scope(|scope| {
        let logins: Vec<_> = (0..8).map(|_| scope.spawn(|| issuer.keys(0, KeyFreshness::Configured))).collect();
        for login in logins {
            assert_eq!(login.join().unwrap().unwrap().len(), 5);
        }
    });
    assert_eq!(issuer.requests(), 2);
}

#[test]
fn wrong_answers_are_not_used() {
    for (mood, said) in [
        ("another issuer", "another issuer"),
        ("keys elsewhere", "endpoint_hosts = [\"192.0.2.1\"]"),
        ("redirects", "status 302"),
        ("no keys", "no public key"),
        ("no JSON", "not JSON"),
        ("huge", "more than"),
        ("500", "status 500"),
    ] {
        let reason = TestIssuer::new().set_mood(mood).keys(0, KeyFreshness::Configured).unwrap_err().reason;
        assert!(reason.contains(said), "{mood}: {reason}");
    }
}

/// Whoever serves the keys decides who logs in, so another host needs the administrator's word.
#[test]
fn keys_at_another_host_are_used_only_if_it_is_listed() {
    let mut issuer = TestIssuer::new();
    issuer.set_mood("keys at another name");
    let reason = issuer.keys(0, KeyFreshness::Configured).unwrap_err().reason;
    assert!(reason.contains("places jwks_uri at localhost") && issuer.requests() == 1, "{reason}");
    issuer.issuer.endpoint_hosts = vec!["localhost".to_owned()];
    assert_eq!(issuer.keys(60, KeyFreshness::Configured).unwrap().len(), 5);
    issuer.set_mood("keys elsewhere");
    issuer.issuer.endpoint_hosts = vec!["192.0.2.1".to_owned()];
    let reason = issuer.keys_with(None, 0, KeyFreshness::Configured).unwrap_err().reason;
    assert!(reason.contains("plain http"), "a listed host needs https too: {reason}");
}

#[test]
fn a_failed_request_is_repeated_after_a_minute() {
    for mood in ["hangs up", "500"] {
        let issuer = TestIssuer::new();
        issuer.set_mood(mood).keys(0, KeyFreshness::Configured).unwrap_err();
        let connections = issuer.server.connections();
        issuer.set_mood("well");
        assert!(issuer.keys(59, KeyFreshness::Configured).unwrap_err().reason.contains("not asked again"), "{mood}");
        assert_eq!(issuer.server.connections(), connections, "{mood}");
        issuer.keys(60, KeyFreshness::Configured).unwrap();
    }
}

#[test]
fn an_unusable_cache_file_is_ignored() {
    let issuer = TestIssuer::new();
    issuer.keys(0, KeyFreshness::Configured).unwrap();
    let file = issuer.cached_file();
    let mut cached: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    cached["source"] = json!("https://evil.example");
    std::fs::write(&file, cached.to_string()).unwrap();
    issuer.keys(1, KeyFreshness::Configured).unwrap();
    assert_eq!(issuer.requests(), 4, "keys of another issuer");

    std::fs::write(&file, "not JSON").unwrap();
    issuer.keys(2, KeyFreshness::Configured).unwrap();
    assert_eq!(issuer.requests(), 6, "a damaged file");

    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    issuer.keys(3, KeyFreshness::Configured).unwrap();
    assert_eq!(issuer.requests(), 8, "a file that others can write");

    // A clock that was ahead when the keys were fetched.
    let issuer = TestIssuer::new();
    issuer.keys(100_000, KeyFreshness::Configured).unwrap();
    issuer.keys(0, KeyFreshness::Configured).unwrap();
    assert_eq!(issuer.requests(), 4, "keys from the future");
}

#[test]
fn without_a_cache_every_call_sends_requests() {
    let issuer = TestIssuer::new();
    issuer.keys_with(None, 0, KeyFreshness::Configured).unwrap();
    issuer.keys_with(None, 1, KeyFreshness::Configured).unwrap();
    assert_eq!(issuer.requests(), 4);
}

/// A cache whose first directory cannot be made because a file has its name, and with this second directory.
fn broken_cache(issuer: &TestIssuer, second: &str) -> DiskCache {
    std::fs::write(issuer.dir.path().join("file"), "").unwrap();
    DiskCache::new(&issuer.dir.path().join("file/cache"), Owner::current()).or(&issuer.dir.path().join(second))
}

#[test]
fn the_second_directory_replaces_an_unusable_first_one() {
    let issuer = TestIssuer::new();
    let cache = broken_cache(&issuer, "run/cache");
    for seconds in [0, 1, 59] {
        log_in_with_invented_key(&issuer, Some(&cache), seconds);
    }
    assert_eq!(issuer.requests(), 2);
    issuer.set_mood("500");
    for seconds in [60, 61, 62, 119] {
        log_in_with_invented_key(&issuer, Some(&cache), seconds);
    }
    assert_eq!(issuer.requests(), 3);
}

#[test]
fn without_a_usable_directory_no_request_is_sent() {
    let issuer = TestIssuer::new();
    let cache = broken_cache(&issuer, "file/run/cache");
    for seconds in [0, 1, 59] {
        let reason = issuer.keys_with(Some(&cache), seconds, KeyFreshness::Configured).unwrap_err().reason;
        assert!(reason.contains("cannot be stored") && reason.contains("file"), "{reason}");
    }
    assert_eq!(issuer.requests(), 0);
}

/// The process that sent the request was killed before it stored the answer.
#[test]
fn an_abandoned_request_is_repeated_by_another_login() {
    let issuer = TestIssuer::new();
    issuer.set_mood("well").keys(0, KeyFreshness::Configured).unwrap();
    let file = issuer.cached_file();
    let mut state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    state["document"] = Value::Null;
    state["attempt"] = json!({"at": NOW + 10, "outcome": "Awaited"});
    std::fs::write(&file, state.to_string()).unwrap();
    let begun = Instant::now();
    let cache = DiskCache::new(&issuer.dir.path().join("cache"), Owner::current());
    let reason =
        issuer.keys_within(Duration::from_millis(300), Some(&cache), 17, KeyFreshness::Configured).unwrap_err().reason;
    assert!(reason.contains("another login") && begun.elapsed() >= Duration::from_millis(300), "{reason}");
    assert_eq!(issuer.requests(), 2);
    issuer.keys(18, KeyFreshness::Configured).unwrap();
    assert_eq!(issuer.requests(), 4);
}

#[test]
fn old_keys_are_used_while_another_login_fetches_new_ones() {
    let issuer = TestIssuer::new();
    let keys = issuer.keys(0, KeyFreshness::Configured).unwrap();
    issuer.set_mood("no answer yet");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| issuer.keys(4_000, KeyFreshness::Configured));
        while issuer.requests() < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(issuer.keys(4_000, KeyFreshness::Configured).unwrap(), keys);
        assert!(!first.is_finished(), "the second login waited for new keys");
        // A token with an unknown key waits for the new keys.
        let unknown_key = scope.spawn(|| issuer.keys(4_000, KeyFreshness::Newest));
        issuer.set_mood("well");
        assert_eq!(unknown_key.join().unwrap().unwrap(), keys);
        first.join().unwrap().unwrap();
    });
    assert_eq!(issuer.requests(), 4);
}
