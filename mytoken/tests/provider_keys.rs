// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys from a provider: how often it is asked, what is believed, and what is used while it does not answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod fake;
mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::{Fake, Reply};
use mytoken::Deadline;
use mytoken::cache::DiskCache;
use mytoken::clock::FixedClock;
use mytoken::credential::files::Owner;
use mytoken::http::{HttpSettings, LazyClient, Roots};
use mytoken::oidc::{Fresh, IssuerSettings, KeySet, KeySource, ProviderKeys};
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
        ("500", _) => Reply::new(500, "text/html", "<html>"),
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
    fn keys(&self, seconds: u64, fresh: Fresh) -> Result<KeySet, String> {
        let cache = DiskCache::new(&self.dir.path().join("cache"), Owner::current());
        self.keys_with(Some(&cache), seconds, fresh)
    }

    fn keys_with(&self, cache: Option<&DiskCache>, seconds: u64, fresh: Fresh) -> Result<KeySet, String> {
        let settings = HttpSettings {
            roots: Roots::File(self.roots.path().to_owned()),
            loopback_http: true,
            ..HttpSettings::default()
        };
        let (http, clock) = (LazyClient::new(&settings), FixedClock(NOW + seconds));
        ProviderKeys::new(&http, cache, &clock).keys(&self.issuer, fresh, Deadline::after(Duration::from_secs(5)))
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
    let keys = stage.keys(0, Fresh::Enough).unwrap();
    assert_eq!((keys.len(), stage.requests()), (5, 2));
    assert_eq!(stage.keys(3_599, Fresh::Enough).unwrap(), keys);
    assert_eq!(stage.requests(), 2);
    stage.keys(3_600, Fresh::Enough).unwrap();
    assert_eq!(stage.requests(), 4);
}

#[test]
fn invented_keys_cause_one_request_a_minute() {
    let stage = Stage::new();
    stage.keys(0, Fresh::Enough).unwrap();
    for seconds in [0, 1, 59] {
        stage.keys(seconds, Fresh::Unknown).unwrap();
    }
    assert_eq!(stage.requests(), 2);
    stage.keys(60, Fresh::Unknown).unwrap();
    assert_eq!(stage.requests(), 4);
}

#[test]
fn while_the_provider_is_out_the_old_keys_are_used_for_a_day() {
    let stage = Stage::new();
    let keys = stage.keys(0, Fresh::Enough).unwrap();
    for mood in ["hangs up", "500", "redirects", "no keys", "no JSON", "huge", "another issuer"] {
        assert_eq!(stage.is(mood).keys(86_000, Fresh::Enough).unwrap(), keys, "{mood}");
        assert!(stage.keys(86_500, Fresh::Enough).is_err(), "{mood}");
    }
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
        let reason = Stage::new().is(mood).keys(0, Fresh::Enough).unwrap_err();
        assert!(reason.contains(said), "{mood}: {reason}");
    }
}

#[test]
fn who_did_not_answer_is_left_alone_for_a_moment() {
    let stage = Stage::new();
    stage.is("hangs up").keys(0, Fresh::Enough).unwrap_err();
    let connections = stage.server.connections();
    stage.is("well");
    assert!(stage.keys(14, Fresh::Enough).unwrap_err().contains("a moment ago"));
    assert_eq!(stage.server.connections(), connections);
    stage.keys(15, Fresh::Enough).unwrap();
}

#[test]
fn an_answer_that_is_wrong_does_not_shut_the_others_out() {
    let stage = Stage::new();
    stage.is("500").keys(0, Fresh::Enough).unwrap_err();
    stage.is("well").keys(1, Fresh::Enough).unwrap();
}

#[test]
fn a_cache_that_another_wrote_or_of_another_issuer_is_not_used() {
    let stage = Stage::new();
    stage.keys(0, Fresh::Enough).unwrap();
    let file = stage.cached_file();
    let mut cached: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    cached["issuer"] = json!("https://evil.example");
    std::fs::write(&file, cached.to_string()).unwrap();
    stage.keys(1, Fresh::Enough).unwrap();
    assert_eq!(stage.requests(), 4, "keys of another issuer");

    std::fs::write(&file, "not JSON").unwrap();
    stage.keys(2, Fresh::Enough).unwrap();
    assert_eq!(stage.requests(), 6, "a damaged file");

    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    stage.keys(3, Fresh::Enough).unwrap();
    assert_eq!(stage.requests(), 8, "a file that others can write");

    // A clock that was ahead when the keys were fetched.
    let stage = Stage::new();
    stage.keys(100_000, Fresh::Enough).unwrap();
    stage.keys(0, Fresh::Enough).unwrap();
    assert_eq!(stage.requests(), 4, "keys from the future");
}

#[test]
fn without_a_cache_it_works_too() {
    let stage = Stage::new();
    stage.keys_with(None, 0, Fresh::Enough).unwrap();
    stage.keys_with(None, 1, Fresh::Enough).unwrap();
    assert_eq!(stage.requests(), 4);
}
