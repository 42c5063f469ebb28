// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user's cache of discovery documents, `~/.cache/mytoken`: a submission is one request, not two. Whatever is wrong with the cache,
//! the submission goes on without it.

use std::path::Path;

use mytoken::files::{Directory, Owner};
use mytoken::names::ServerUrl;
use mytoken::server::Discovery;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Seconds that a document is used.
const AGE: u64 = 3600;

const LIMIT: usize = 256 * 1024;

/// The cache.
pub(super) struct Cache {
    directory: Directory,
    me: Owner,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    fetched: u64,
    server: ServerUrl,
    discovery: Discovery,
}

impl Cache {
    pub(super) fn open(home: Option<&Path>) -> Option<Self> {
        // Homes are often reached by a link of the administrator's.
        let home = home?.canonicalize().ok()?;
        let me = Owner::current();
        let home = Directory::open(&home).ok()?;
        // ~/.cache is the user's, with the mode the user likes.
        let above = match home.step(".cache") {
            Ok(above) => above,
            Err(_) => home.make(".cache", me, 0o700).ok()?,
        };
        let directory = above.make("mytoken", me, 0o700).ok()?;
        Some(Self { directory, me })
    }

    pub(super) fn read(&self, url: &ServerUrl, now: u64) -> Option<Discovery> {
        let bytes = self.directory.read(&name(url), self.me, 0o600, LIMIT).ok()??;
        let kept: Kept = serde_json::from_slice(&bytes).ok()?;
        // A document from the future is from a wrong clock.
        let fresh = kept.fetched <= now && now - kept.fetched < AGE;
        (fresh && kept.server == *url).then_some(kept.discovery)
    }

    pub(super) fn write(&self, url: &ServerUrl, now: u64, discovery: &Discovery) {
        let kept = Kept { fetched: now, server: url.clone(), discovery: discovery.clone() };
        if let Ok(bytes) = serde_json::to_vec(&kept) {
            let _ = self.directory.write(&name(url), &bytes, self.me, 0o600);
        }
    }
}

fn name(url: &ServerUrl) -> String {
    let digest = Sha256::digest(url.to_string());
    let hex = mytoken_wire::hex::encode(digest.get(..8).unwrap_or_default());
    format!("discovery-{hex}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (ServerUrl, Discovery) {
        let url = ServerUrl::parse("https://mt.example", false).unwrap();
        let discovery = r#"{"issuer":"https://mt.example","access_token_endpoint":"https://mt.example/at","mytoken_endpoint":"https://mt.example/mt"}"#;
        (url, serde_json::from_str(discovery).unwrap())
    }

    #[test]
    fn a_document_is_used_for_an_hour_and_for_its_server_only() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(home.path())).unwrap();
        let (url, discovery) = sample();
        assert!(cache.read(&url, 1000).is_none());
        cache.write(&url, 1000, &discovery);
        assert_eq!(cache.read(&url, 1000 + AGE - 1), Some(discovery));
        assert!(cache.read(&url, 1000 + AGE).is_none());
        assert!(cache.read(&url, 999).is_none());
        let other = ServerUrl::parse("https://other.example", false).unwrap();
        std::fs::copy(
            home.path().join(".cache/mytoken").join(name(&url)),
            home.path().join(".cache/mytoken").join(name(&other)),
        )
        .unwrap();
        assert!(cache.read(&other, 1001).is_none());
    }

    #[test]
    fn the_users_cache_directory_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".cache");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Cache::open(Some(home.path())).is_some());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(Cache::open(None).is_none());
    }
}
