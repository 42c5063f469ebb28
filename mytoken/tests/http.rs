// SPDX-License-Identifier: MIT OR Apache-2.0
//! The HTTP client with servers that behave badly.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod fake;

use std::io::Write;
use std::time::{Duration, Instant};

use fake::{Fake, Reply, authority};
use mytoken::http::HttpError;
use mytoken::http::{ANSWER_LIMIT, CertificateFault, HttpClient, HttpSettings, RequestLimit, Roots, Traffic};
use mytoken::urls::UrlError;
use mytoken::{Deadline, Error, Secret};

fn file(pem: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(pem.as_bytes()).unwrap();
    file
}

/// A client for plain http to this machine. It trusts an authority that signed no certificate.
fn client() -> HttpClient {
    let roots = file(&authority("127.0.0.1", false).0);
    let settings =
        HttpSettings { roots: Roots::File(roots.path().into()), loopback_http: true, ..HttpSettings::default() };
    HttpClient::new(&settings).unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

#[test]
fn a_redirect_is_returned_and_not_followed() {
    let other = Fake::plain(|_| Reply::new(200, "text/plain", "here"));
    for status in [301, 302, 303, 307, 308] {
        let target = other.url("/elsewhere");
        let fake = Fake::plain(move |_| Reply::new(status, "text/html", "").header("Location", &target));
        let answer = client().post_json(&fake.url("/"), &serde_json::json!({"mytoken": "x"}), soon(), 1024).unwrap();
        assert_eq!(answer.status, status);
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_body_longer_than_the_limit_is_an_error() {
    for length in [None, Some(None), Some(Some(5_000_000_000))] {
        let fake = Fake::plain(move |_| Reply { length, ..Reply::new(200, "text/plain", "x".repeat(101)) });
        let error = client().get(&fake.url("/"), None, soon(), 100).unwrap_err();
        assert!(matches!(error, HttpError::TooLarge { limit: 100, .. }), "{length:?}: {error}");
    }
    let fake = Fake::plain(|_| Reply { length: Some(None), ..Reply::new(200, "text/plain", "x".repeat(100)) });
    assert_eq!(client().get(&fake.url("/"), None, soon(), 100).unwrap().body.len(), 100);
}

#[test]
fn a_slow_or_silent_server_does_not_delay_the_deadline() {
    let slow = [
        ("head", Reply { drip: Some(Duration::from_millis(100)), ..Reply::new(200, "text/plain", "x") }),
        ("all", Reply { silence: Duration::from_secs(5), ..Reply::new(200, "text/plain", "x") }),
    ];
    for (what, reply) in slow {
        let fake = Fake::plain(move |_| reply.clone());
        let begun = Instant::now();
        let error = client().get(&fake.url("/"), None, Deadline::after(Duration::from_millis(600)), 4096).unwrap_err();
        let took = begun.elapsed();
        assert!(matches!(error, HttpError::TooLate { .. }), "{what}: {error}");
        assert!(took < Duration::from_secs(4), "{what}: {took:?}");
    }
}

#[test]
fn an_incomplete_body_is_an_error() {
    let fake = Fake::plain(|_| Reply { length: Some(Some(1000)), ..Reply::new(200, "text/plain", "x") });
    let error = client().get(&fake.url("/"), None, soon(), 4096).unwrap_err();
    assert!(matches!(error, HttpError::Unreachable { sent: true, .. }), "{error}");
}

#[test]
fn reading_a_slow_body_ends_at_the_deadline() {
    let body = "x".repeat(400);
    let fake = Fake::plain(move |_| Reply {
        drip: Some(Duration::from_millis(20)),
        ..Reply::new(200, "text/plain", body.clone())
    });
    let begun = Instant::now();
    let error = client().get(&fake.url("/"), None, Deadline::after(Duration::from_millis(1000)), 4096).unwrap_err();
    let took = begun.elapsed();
    assert!(matches!(error, HttpError::TooLate { .. }), "{error}");
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn nothing_is_sent_after_the_deadline() {
    let fake = Fake::plain(|_| Reply::new(200, "text/plain", ""));
    let error = client().get(&fake.url("/"), None, Deadline::after(Duration::ZERO), 1024).unwrap_err();
    assert!(matches!(error, HttpError::TooLate { .. }), "{error}");
    assert_eq!(fake.connections(), 0);
}

#[test]
fn a_lost_answer_and_a_refused_connection_are_different_errors() {
    let fake = Fake::plain(|_| Reply::hang_up());
    let error = client().get(&fake.url("/"), None, soon(), 1024).unwrap_err();
    assert!(matches!(error, HttpError::Unreachable { sent: true, .. }), "{error:?}");

    let (ca, config) = authority("127.0.0.1", false);
    let (fake, roots) = (Fake::tls(config, |_| Reply::hang_up()), file(&ca));
    let settings = HttpSettings { roots: Roots::File(roots.path().into()), ..HttpSettings::default() };
    let error = HttpClient::new(&settings).unwrap().get(&fake.url("/"), None, soon(), 1024).unwrap_err();
    let HttpError::Unreachable { sent: true, reason, .. } = &error else { panic!("{error:?}") };
    assert_eq!(reason, "the connection was closed before the answer");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client().get(&format!("http://{closed}/"), None, soon(), 1024).unwrap_err();
    assert!(
        matches!(&error, HttpError::Unreachable { sent: false, reason, .. } if reason.contains("refused")),
        "{error:?}"
    );
    assert!(Error::from(error).is_unavailable());
}

#[test]
fn plain_http_is_accepted_only_to_this_machine_and_if_allowed() {
    let fake = Fake::plain(|_| Reply::new(200, "text/plain", ""));
    let roots = file(&authority("127.0.0.1", false).0);
    let strict =
        HttpClient::new(&HttpSettings { roots: Roots::File(roots.path().into()), ..HttpSettings::default() }).unwrap();
    for url in [fake.url("/"), "http://mt.example.org/".into(), "http://192.0.2.1/".into(), "file:///etc/passwd".into()]
    {
        let error = strict.get(&url, None, soon(), 1024).unwrap_err();
        assert!(matches!(error, HttpError::Url(UrlError { .. })), "{url}: {error}");
    }
    for url in ["http://mt.example.org/", "http://192.0.2.1/", "http://user:pw@127.0.0.1/"] {
        let error = client().get(url, None, soon(), 1024).unwrap_err();
        assert!(matches!(error, HttpError::Url(UrlError { .. })), "{url}: {error}");
    }
    assert_eq!(fake.connections(), 0);
    assert_eq!(client().get(&fake.url("/"), None, soon(), 1024).unwrap().status, 200);
}

#[test]
fn only_certificates_of_the_given_authority_are_accepted() {
    let (ours, good) = authority("127.0.0.1", false);
    let (_, foreign) = authority("127.0.0.1", false);
    let (other_ca, other_host) = authority("mt.example.org", false);
    let (old_ca, old) = authority("127.0.0.1", true);
    let cases = [
        ("good", &ours, good, None),
        ("foreign authority", &ours, foreign, Some(CertificateFault::UnknownAuthority)),
        (
            "other host",
            &other_ca,
            other_host,
            Some(CertificateFault::OtherName { presented: vec!["mt.example.org".to_owned()] }),
        ),
        ("expired", &old_ca, old, Some(CertificateFault::Expired)),
    ];
    for (what, ca, config, wanted) in cases {
        let fake = Fake::tls(config, |_| Reply::new(200, "text/plain", "hello"));
        let roots = file(ca);
        let settings = HttpSettings { roots: Roots::File(roots.path().into()), ..HttpSettings::default() };
        let result = HttpClient::new(&settings).unwrap().get(&fake.url("/"), Some(&Secret::new("t")), soon(), 1024);
        match (result, wanted) {
            (Ok(answer), None) => assert_eq!(answer.body.as_slice(), b"hello", "{what}"),
            (Err(HttpError::Certificate { fault, .. }), Some(wanted)) => {
                assert_eq!(fault, wanted, "{what}");
                assert!(!fault.to_string().contains("later"), "waiting does not help: {fault}");
                assert_eq!(fake.requests().len(), 0, "{what}: no request before the certificate is trusted");
            }
            (result, _) => panic!("{what}: {result:?}"),
        }
    }
}

#[test]
fn the_request_limit_and_the_clock_of_a_server_are_read() {
    let told =
        |reset: Option<u64>| Some(RequestLimit { requests: 100, left: 97, reset: reset.map(Duration::from_secs) });
    for (limit, left, reset, expected) in [
        ("100", "97", "240", told(Some(240))),
        ("100", "97", "soon", told(None)),
        ("many", "97", "240", None),
        ("-1", "97", "240", None),
    ] {
        let fake = Fake::plain(move |_| {
            Reply::new(200, "text/plain", "")
                .header("X-RateLimit-Limit", limit)
                .header("X-RateLimit-Remaining", left)
                .header("X-RateLimit-Reset", reset)
                .header("Date", "Thu, 26 Nov 2026 02:00:00 GMT")
        });
        let client = client();
        let head = client.get(&fake.url("/"), None, soon(), 1024).unwrap().head;
        assert_eq!(client.traffic(), Traffic { sent: 1, limit: expected });
        assert_eq!(head.request_limit, expected, "{limit}");
        assert_eq!(head.date, Some(std::time::UNIX_EPOCH + Duration::from_secs(1_795_658_400)));
    }
}

#[test]
fn requests_have_a_user_agent_and_no_cookies() {
    let fake = Fake::plain(|_| {
        Reply::new(200, "Application/JSON; charset=utf-8", "{}").header("Set-Cookie", "mytoken=secret")
    });
    let client = client();
    let answer = client.get(&fake.url("/a"), Some(&Secret::new("tok")), soon(), ANSWER_LIMIT).unwrap();
    assert_eq!(answer.content_type.as_deref(), Some("application/json"));
    assert!(answer.is_json());
    client.post_form(&fake.url("/b"), &[("token", "a&b=c d")], Some(("me", &Secret::new("pw"))), soon(), 1024).unwrap();
    let requests = fake.requests();
    assert_eq!(requests[0].header("authorization"), Some("Bearer tok"));
    assert_eq!(requests[0].header("user-agent"), Some(concat!("mytoken-suite/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(requests[0].header("accept-encoding"), None, "no compression");
    assert_eq!(requests[1].header("cookie"), None, "no cookies");
    assert_eq!(requests[1].header("authorization"), Some("Basic bWU6cHc="));
    assert_eq!(requests[1].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(String::from_utf8_lossy(&requests[1].body), "token=a%26b%3Dc+d");
    // RFC 6749 2.3.1: the colon of a client id does not end it.
    let basic = Some(("https://a", &Secret::new("p:%")));
    client.post_form(&fake.url("/b"), &[], basic, soon(), 1024).unwrap();
    let expected = "Basic aHR0cHMlM0ElMkYlMkZhOnAlM0ElMjU=";
    assert_eq!(fake.requests()[2].header("authorization"), Some(expected), "https%3A%2F%2Fa:p%3A%25");
}

#[test]
fn errors_show_neither_tokens_nor_queries() {
    let secret = Secret::new("hush-hush-token");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let big = Fake::plain(|_| Reply::new(200, "text/plain", "hush-hush-token".repeat(100)));
    let errors = [
        client().get(&format!("http://{closed}/hush-hush-path?code=hush-hush"), Some(&secret), soon(), 64).unwrap_err(),
        client().get(&big.url("/hush-hush?x=hush-hush"), Some(&secret), soon(), 64).unwrap_err(),
        client().get("http://mt.example.org/hush-hush", Some(&secret), soon(), 64).unwrap_err(),
        client().get("https://mt.example.org:port/?hush-hush", Some(&secret), soon(), 64).unwrap_err(),
        client().get("http://127.0.0.1:1/", Some(&Secret::new("hush-hush\n\rtoken\u{7f}")), soon(), 64).unwrap_err(),
    ];
    for error in errors {
        assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
    }
    let answer = client().get(&big.url("/"), None, soon(), ANSWER_LIMIT).unwrap();
    assert!(!format!("{answer:?}").contains("hush"));
}

#[test]
fn a_configured_proxy_is_used_except_for_this_machine() {
    let proxy = Fake::plain(|_| Reply::new(502, "text/plain", "no"));
    let roots = file(&authority("127.0.0.1", false).0);
    let settings = HttpSettings {
        roots: Roots::File(roots.path().into()),
        proxy: Some(proxy.url("")),
        loopback_http: true,
        ..HttpSettings::default()
    };
    let client = HttpClient::new(&settings).unwrap();
    let error = client.get("https://mt.example.org/", None, soon(), 1024).unwrap_err();
    assert!(matches!(error, HttpError::Proxy { .. }) && Error::from(error.clone()).is_unavailable(), "{error}");
    assert_eq!(proxy.requests()[0].method, "CONNECT");
    let direct = Fake::plain(|_| Reply::new(200, "text/plain", ""));
    assert_eq!(client.get(&direct.url("/"), None, soon(), 1024).unwrap().status, 200, "this machine without proxy");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = HttpSettings { proxy: Some(format!("http://user:hush@{closed}")), ..settings.clone() };
    let error = HttpClient::new(&dead).unwrap().get("https://mt.example.org/", None, soon(), 1024).unwrap_err();
    assert!(
        matches!(&error, HttpError::Proxy { proxy, reason, .. } if *proxy == format!("http://{closed}") && reason.contains("refused")),
        "{error:?}"
    );

    let wrong = HttpSettings { proxy: Some("http://user:hush@[".into()), ..settings };
    let error = HttpClient::new(&wrong).unwrap_err();
    assert!(matches!(error, HttpError::Settings { .. }) && !error.to_string().contains("hush"), "{error}");
}
