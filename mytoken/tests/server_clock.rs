// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server's clock, as its answers tell it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod fake;

use std::time::{Duration, UNIX_EPOCH};

use fake::Reply;
use fake::mytoken_server::{MytokenServer, NOW, TestClock, access_token, client, mytoken, no_rotation, soon};
use mytoken::SystemClock;
use mytoken::cache::MemoryCache;
use mytoken::capabilities::Capabilities;
use mytoken::restrictions::Clause;
use mytoken::server::{AccessTokenRequest, Deliver, Server, SubTokenRequest};
use serde_json::{Value, json};

/// The `Date` of a server, by which 310 s more have passed than here.
fn ahead() -> (&'static str, String) {
    ("Date", httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(NOW + 310)))
}

fn about(time: u64, expected: u64) -> bool {
    time.abs_diff(expected) <= 20
}

#[test]
fn the_clock_comes_with_each_answer_and_is_kept_with_the_discovery_document() {
    let (http, cache) = (client(), MemoryCache::default());
    let server = MytokenServer::with_headers(vec![ahead()], Reply::json(500, &json!({})));
    for _ in 0..2 {
        let found = Server::discover_cached(&http, &server.url(), &cache, &SystemClock, soon()).unwrap();
        assert!(about(found.with_clock(&TestClock).now(), NOW + 310));
    }
    assert_eq!(server.discoveries(), if cfg!(target_os = "linux") { 1 } else { 2 });
    // A server without a clock is not asked for it again and again.
    let without = MytokenServer::with_headers(Vec::new(), Reply::json(500, &json!({})));
    for _ in 0..2 {
        let found = Server::discover_cached(&http, &without.url(), &cache, &SystemClock, soon()).unwrap();
        assert_eq!((found.server_clock(), found.with_clock(&TestClock).now()), (None, NOW));
    }
    assert_eq!(without.discoveries(), 1);
}

#[test]
fn the_date_of_a_cache_on_the_way_is_not_the_servers() {
    let http = client();
    let server = MytokenServer::with_headers(vec![ahead(), ("Age", "0".into())], Reply::json(500, &json!({})));
    assert_eq!(server.server(&http).now(), NOW);
    let server = MytokenServer::with_headers(vec![ahead()], Reply::json(500, &json!({})));
    let found = server.server(&http);
    assert_eq!(found.clock_difference().unwrap().split_once(" s ").unwrap().1, "behind the mytoken server's");
}

#[test]
fn a_child_that_would_be_born_expired_is_not_requested() {
    let http = client();
    let server = MytokenServer::with_headers(vec![ahead()], Reply::json(500, &json!({})));
    let found = server.server(&http);
    let parent = mytoken(json!({"exp": NOW + 86_400, "restrictions": [{"exp": NOW + 86_400}]}));
    for (exp, fits) in [(NOW + 300, false), (found.now() + 300, true)] {
        let wanted: Vec<Clause> = serde_json::from_value(json!([{"exp": exp}])).unwrap();
        let request = SubTokenRequest {
            parent: &parent,
            parent_clauses: None,
            wanted: &wanted,
            capabilities: &Capabilities::new(["AT"]).unwrap(),
            name: "",
            deliver: Deliver::Token,
        };
        assert_eq!(found.child_clauses(&request, soon()).is_ok(), fits, "{exp}");
    }
}

#[test]
fn what_an_access_token_has_left_follows_the_servers_clock_and_is_at_most_its_lifetime() {
    let http = client();
    for (claims, dated, left) in [
        (json!({"exp": NOW + 600}), true, 290),
        (json!({"exp": NOW + 600}), false, 600),
        // A server whose clock is behind, or lies, adds nothing to the lifetime.
        (json!({"iat": NOW + 4_000, "exp": NOW + 4_300}), true, 300),
        (json!({"iat": NOW, "exp": NOW + 300}), true, 0),
    ] {
        let answer: Value = json!({"access_token": access_token(&claims), "token_type": "Bearer", "scope": ""});
        let headers = if dated { vec![ahead()] } else { Vec::new() };
        let server = MytokenServer::with_headers(headers, Reply::json(200, &answer));
        let (token, scope) = (mytoken(json!({})), "");
        let request = AccessTokenRequest { mytoken: &token, scope, audience: "", comment: "" };
        let got = server.server(&http).access_token(&request, &mut no_rotation, soon()).unwrap();
        assert!(about(got.expires_in.unwrap(), left), "{claims} {got:?}");
        assert_eq!(got.exp, got.expires_in.map(|left| NOW + left), "for this machine's clock");
    }
}
