// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys from a provider: how often it is asked, what is believed, and what is used while it does not answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../../mytoken/tests/fake/mod.rs"]
mod fake;
mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake::{Fake, Reply};
use mytoken::Deadline;
use mytoken::cache::DiskCache;
use mytoken::config::IssuerSettings;
use mytoken::files::Owner;
use mytoken::http::{HttpSettings, LazyClient, Roots};
use mytoken_login::oidc::{KeyFreshness, KeySet, KeySource, KeysUnavailable, ProviderKeys};
use mytoken_wire::clock::FixedClock;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

/// A provider that plays well until it is told otherwise, and a cache of the test's own.
struct Stage {
    server: Fake,
    mood: Arc<Mutex<&'static str>>,
    issuer: IssuerSettings,
    dir: tempfile::TempDir,
    roots: tempfile::NamedTempFile,
}

fn answer(mood: &str, path: &str, url: &str) -> Reply {
    let discovery = |issuer: &str, jwks: &str| Reply::json(200, &json!({"issuer": issuer, "jwks_uri": jwks}));
    match (mood, path) {
        ("hangs up", _) => Reply::hang_up(),
        ("500", _) | ("500 for keys", "/jwks") => Reply::new(500, "text/html", "<html>"),
        ("silent", _) => Reply { silence: Duration::from_secs(30), ..Reply::new(200, "text/plain", "") },
        ("slow", "/jwks") => Reply { silence: Duration::from_millis(1_500), ..Reply::json(200, &support::keys().jwks) },
        ("another issuer", "/.well-known/openid-configuration") => {
            discovery("https://evil.example", &format!("{url}/jwks"))
        }
        ("keys elsewhere", "/.well-known/openid-configuration") => discovery(url, "http://192.0.2.1/jwks"),
        (_, "/.well-known/openid-configuration") => discovery(url, &format!("{url}/jwks")),
        ("redirects", "/jwks") => Reply::new(302, "text/plain", "").header("Location", &format!("{url}/other")),
        ("no keys", "/jwks") => Reply::json(200, &json!({"keys": []})),
        ("no JSON", "/jwks") => Reply::new(200, "application/json", "<html>"),
        ("huge", "/jwks") => Reply::new(200, "application/json", "x".repeat(300 * 1024)),
        (_, "/jwks" | "/other") => Reply::json(200, &support::keys().jwks),
        _ => Reply::new(404, "text/plain", ""),
    }
}

impl Stage {
    fn new() -> Self {
        let mood = Arc::new(Mutex::new("well"));
        let played = Arc::clone(&mood);
        let server = Fake::plain(move |request| {
            let host = request.header("host").unwrap_or_default().to_owned();
            answer(*played.lock().unwrap(), &request.path, &format!("http://{host}"))
        });
        let mut issuer = support::issuer("");
        issuer.url = server.url("");
        let roots = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(roots.path(), fake::authority("127.0.0.1", false).0).unwrap();
        Self { server, mood, issuer, dir: tempfile::tempdir().unwrap(), roots }
    }

    fn is(&self, mood: &'static str) -> &Self {
        *self.mood.lock().unwrap() = mood;
        self
    }

    /// What a process of its own gets at this time.
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
        self.keys_within(Duration::from_secs(5), cache, seconds, freshness)
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
fn the_provider_is_asked_once_an_hour() {
    let stage = Stage::new();
    let keys = stage.keys(0, KeyFreshness::Configured).unwrap();
    assert_eq!((keys.len(), stage.requests()), (5, 2));
    assert_eq!(stage.keys(3_599, KeyFreshness::Configured).unwrap(), keys);
    assert_eq!(stage.requests(), 2);
    stage.keys(3_600, KeyFreshness::Configured).unwrap();
    assert_eq!(stage.requests(), 4);
}

#[test]
fn invented_keys_cause_one_request_a_minute() {
    let stage = Stage::new();
    stage.keys(0, KeyFreshness::Configured).unwrap();
    for seconds in [0, 1, 59] {
        stage.keys(seconds, KeyFreshness::Newest).unwrap();
    }
    assert_eq!(stage.requests(), 2);
    stage.keys(60, KeyFreshness::Newest).unwrap();
    assert_eq!(stage.requests(), 4);
}

/// What a token with an invented `kid` makes a login do: look for the key, and once more when it is not there.
fn invented(stage: &Stage, cache: Option<&DiskCache>, seconds: u64) {
    if stage.keys_with(cache, seconds, KeyFreshness::Configured).is_ok() {
        let _ = stage.keys_with(cache, seconds, KeyFreshness::Newest);
    }
}

#[test]
fn a_provider_that_fails_is_asked_once_a_minute_however_many_tokens_come() {
    for (mood, each) in [("500", 1), ("500 for keys", 2), ("hangs up", 1), ("no keys", 2), ("another issuer", 1)] {
        let stage = Stage::new();
        let cache = DiskCache::new(&stage.dir.path().join("cache"), Owner::current());
        stage.is(mood);
        for seconds in [0, 1, 10, 16, 30, 59] {
            invented(&stage, Some(&cache), seconds);
        }
        assert_eq!(stage.requests(), each, "{mood}, no keys yet");
        invented(&stage, Some(&cache), 60);
        assert_eq!(stage.requests(), 2 * each, "{mood}, a minute later");
        stage.is("well").keys(120, KeyFreshness::Configured).unwrap();
        let before = stage.requests();
        stage.is(mood);
        for seconds in [180, 181, 190, 210, 239] {
            invented(&stage, Some(&cache), seconds);
        }
        assert_eq!(stage.requests(), before + each, "{mood}, with keys");
    }
}

#[test]
fn while_the_provider_is_out_the_old_keys_are_used_for_a_day() {
    let stage = Stage::new();
    let keys = stage.keys(0, KeyFreshness::Configured).unwrap();
    for (mood, seconds) in ["hangs up", "500", "redirects", "no keys", "no JSON", "huge", "another issuer"]
        .into_iter()
        .zip((0..).step_by(61))
    {
        assert_eq!(stage.is(mood).keys(83_000 + seconds, KeyFreshness::Configured).unwrap(), keys, "{mood}");
        assert!(stage.keys(86_500 + seconds, KeyFreshness::Configured).is_err(), "{mood}");
    }
}

#[test]
fn a_time_out_is_remembered_like_a_failure() {
    let stage = Stage::new();
    let cache = DiskCache::new(&stage.dir.path().join("cache"), Owner::current());
    stage.is("silent");
    stage.keys_within(Duration::from_millis(300), Some(&cache), 0, KeyFreshness::Configured).unwrap_err();
    let begun = Instant::now();
    stage.keys(1, KeyFreshness::Configured).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3), "the next login waited for {:?}", begun.elapsed());
    assert_eq!(stage.requests(), 1);
}

/// A course of people whose tokens come in the same moment, on a host that has no keys yet.
#[test]
fn logins_in_the_same_moment_share_one_answer() {
    let stage = Stage::new();
    stage.is("slow");
    std::thread::scope(|scope| {
        let logins: Vec<_> = (0..8).map(|_| scope.spawn(|| stage.keys(0, KeyFreshness::Configured))).collect();
        for login in logins {
            assert_eq!(login.join().unwrap().unwrap().len(), 5);
        }
    });
    assert_eq!(stage.requests(), 2);
}

#[test]
fn what_is_not_the_providers_is_not_believed() {
    for (mood, said) in [
        ("another issuer", "another issuer"),
        ("keys elsewhere", "plain http"),
        ("redirects", "status 302"),
        ("no keys", "no public key"),
        ("no JSON", "not JSON"),
        ("huge", "more than"),
        ("500", "status 500"),
    ] {
        let reason = Stage::new().is(mood).keys(0, KeyFreshness::Configured).unwrap_err().reason;
        assert!(reason.contains(said), "{mood}: {reason}");
    }
}

#[test]
fn what_failed_may_be_there_a_minute_later() {
    for mood in ["hangs up", "500"] {
        let stage = Stage::new();
        stage.is(mood).keys(0, KeyFreshness::Configured).unwrap_err();
        let connections = stage.server.connections();
        stage.is("well");
        assert!(stage.keys(59, KeyFreshness::Configured).unwrap_err().reason.contains("not asked again"), "{mood}");
        assert_eq!(stage.server.connections(), connections, "{mood}");
        stage.keys(60, KeyFreshness::Configured).unwrap();
    }
}

#[test]
fn a_cache_that_another_wrote_or_of_another_issuer_is_not_used() {
    let stage = Stage::new();
    stage.keys(0, KeyFreshness::Configured).unwrap();
    let file = stage.cached_file();
    let mut cached: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    cached["source"] = json!("https://evil.example");
    std::fs::write(&file, cached.to_string()).unwrap();
    stage.keys(1, KeyFreshness::Configured).unwrap();
    assert_eq!(stage.requests(), 4, "keys of another issuer");

    std::fs::write(&file, "not JSON").unwrap();
    stage.keys(2, KeyFreshness::Configured).unwrap();
    assert_eq!(stage.requests(), 6, "a damaged file");

    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    stage.keys(3, KeyFreshness::Configured).unwrap();
    assert_eq!(stage.requests(), 8, "a file that others can write");

    // A clock that was ahead when the keys were fetched.
    let stage = Stage::new();
    stage.keys(100_000, KeyFreshness::Configured).unwrap();
    stage.keys(0, KeyFreshness::Configured).unwrap();
    assert_eq!(stage.requests(), 4, "keys from the future");
}

#[test]
fn without_a_cache_it_works_too() {
    let stage = Stage::new();
    stage.keys_with(None, 0, KeyFreshness::Configured).unwrap();
    stage.keys_with(None, 1, KeyFreshness::Configured).unwrap();
    assert_eq!(stage.requests(), 4);
}

/// A cache whose first directory cannot be used, for there is a file in the way, and whose second can or cannot either.
fn broken_cache(stage: &Stage, second: &str) -> DiskCache {
    std::fs::write(stage.dir.path().join("file"), "").unwrap();
    DiskCache::new(&stage.dir.path().join("file/cache"), Owner::current()).or(&stage.dir.path().join(second))
}

#[test]
fn without_its_directory_the_memory_is_kept_in_the_second() {
    let stage = Stage::new();
    let cache = broken_cache(&stage, "run/cache");
    for seconds in [0, 1, 59] {
        invented(&stage, Some(&cache), seconds);
    }
    assert_eq!(stage.requests(), 2);
    stage.is("500");
    for seconds in [60, 61, 62, 119] {
        invented(&stage, Some(&cache), seconds);
    }
    assert_eq!(stage.requests(), 3);
}

#[test]
fn without_any_memory_nobody_is_asked() {
    let stage = Stage::new();
    let cache = broken_cache(&stage, "file/run/cache");
    for seconds in [0, 1, 59] {
        let reason = stage.keys_with(Some(&cache), seconds, KeyFreshness::Configured).unwrap_err().reason;
        assert!(reason.contains("cannot be stored") && reason.contains("file"), "{reason}");
    }
    assert_eq!(stage.requests(), 0);
}

/// The process that asked was killed before it could note what came of it.
#[test]
fn an_attempt_that_nobody_ended_is_taken_over() {
    let stage = Stage::new();
    stage.is("well").keys(0, KeyFreshness::Configured).unwrap();
    let file = stage.cached_file();
    let mut state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    state["document"] = Value::Null;
    state["attempt"] = json!({"at": NOW + 10, "outcome": "Awaited"});
    std::fs::write(&file, state.to_string()).unwrap();
    let begun = Instant::now();
    let cache = DiskCache::new(&stage.dir.path().join("cache"), Owner::current());
    let reason =
        stage.keys_within(Duration::from_millis(300), Some(&cache), 17, KeyFreshness::Configured).unwrap_err().reason;
    assert!(reason.contains("another login") && begun.elapsed() >= Duration::from_millis(300), "{reason}");
    assert_eq!(stage.requests(), 2);
    stage.keys(18, KeyFreshness::Configured).unwrap();
    assert_eq!(stage.requests(), 4);
}

#[test]
fn old_keys_do_while_another_login_fetches_new_ones() {
    let stage = Stage::new();
    let keys = stage.keys(0, KeyFreshness::Configured).unwrap();
    stage.is("slow");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| stage.keys(4_000, KeyFreshness::Configured));
        while stage.requests() < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(stage.keys(4_000, KeyFreshness::Configured).unwrap(), keys);
        assert!(!first.is_finished(), "it waited for the new ones");
        // A token with a new key wants the new keys.
        assert_eq!(stage.keys(4_000, KeyFreshness::Newest).unwrap(), keys);
        first.join().unwrap().unwrap();
    });
    assert_eq!(stage.requests(), 4);
}
