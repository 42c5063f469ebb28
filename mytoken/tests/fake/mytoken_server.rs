// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fake mytoken server that gives prepared answers, and tokens for it.

use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::http::{HttpClient, HttpSettings, Roots};
use mytoken::server::Server;
use mytoken::urls::ServerUrl;
use mytoken::{Clock, Deadline, Error, Secret};
use serde_json::{Value, json};

use super::{Fake, Reply, Request, authority};

/// The time of day in these tests.
pub const NOW: u64 = 1_800_000_000;

#[derive(Debug)]
pub struct TestClock;

impl Clock for TestClock {
    fn now(&self) -> u64 {
        NOW
    }
}

pub struct MytokenServer {
    fake: Fake,
}

impl MytokenServer {
    /// Answers discovery, and all other requests with `replies` in order. The last one is repeated.
    pub fn with_replies(replies: Vec<Reply>) -> Self {
        Self::with_discovery(json!({}), replies)
    }

    /// The same, with these members of the discovery document changed.
    pub fn with_discovery(change: Value, replies: Vec<Reply>) -> Self {
        let mut next = 0;
        Self::with_discovery_and_handler(change, move |_| {
            let reply = replies.get(next).or(replies.last()).cloned().unwrap();
            next += 1;
            reply
        })
    }

    pub fn with_handler(handler: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        Self::with_discovery_and_handler(json!({}), handler)
    }

    /// Adds these headers to every answer, `Date` for example, and answers all requests but discovery with `reply`.
    pub fn with_headers(headers: Vec<(&'static str, String)>, reply: Reply) -> Self {
        let fake = Fake::plain(move |request| {
            let url = format!("http://{}", request.header("host").unwrap_or_default());
            let discovered = request.path.starts_with("/.well-known/");
            let reply = if discovered { Reply::json(200, &discovery(&url)) } else { reply.clone() };
            headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
        });
        Self { fake }
    }

    fn with_discovery_and_handler(change: Value, mut handler: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let fake = Fake::plain(move |request| {
            if request.path.starts_with("/.well-known/") {
                let url = format!("http://{}", request.header("host").unwrap_or_default());
                let mut document = discovery(&url);
                if let (Some(document), Value::Object(change)) = (document.as_object_mut(), change.clone()) {
                    document.extend(change);
                }
                return Reply::json(200, &document);
            }
            handler(request)
        });
        Self { fake }
    }

    pub fn url(&self) -> ServerUrl {
        ServerUrl::parse(&self.fake.url(""), true).unwrap()
    }

    pub fn server<'h>(&self, http: &'h HttpClient) -> Server<'h> {
        Server::discover(http, &self.url(), soon()).unwrap().with_clock(&TestClock)
    }

    /// Answers all requests, even discovery, with `reply`.
    pub fn always(reply: Reply) -> Self {
        Self { fake: Fake::plain(move |_| reply.clone()) }
    }

    /// Answers discovery, and all other requests with `reply`. Waits for `pause` before each answer.
    pub fn slow(pause: impl Fn() -> Duration + Send + 'static, reply: Reply) -> Self {
        let fake = Fake::plain(move |request| {
            let url = format!("http://{}", request.header("host").unwrap_or_default());
            let discovered = request.path.starts_with("/.well-known/");
            let reply = if discovered { Reply::json(200, &discovery(&url)) } else { reply.clone() };
            Reply { silence: pause(), ..reply }
        });
        Self { fake }
    }

    /// Answers the first discovery request correctly, and later ones with `reply`.
    pub fn failing_later_discoveries(
        reply: Reply,
        mut handler: impl FnMut(&Request) -> Reply + Send + 'static,
    ) -> Self {
        let mut discovered = false;
        let fake = Fake::plain(move |request| {
            if !request.path.starts_with("/.well-known/") {
                return handler(request);
            }
            let url = format!("http://{}", request.header("host").unwrap_or_default());
            if std::mem::replace(&mut discovered, true) { reply.clone() } else { Reply::json(200, &discovery(&url)) }
        });
        Self { fake }
    }

    /// Stops the server. Returns its URL, at which nothing listens any more.
    pub fn stop(self) -> ServerUrl {
        self.url()
    }

    /// Number of requests, including discovery.
    pub fn count(&self) -> usize {
        self.fake.requests().len()
    }

    /// The requests except those for discovery.
    pub fn requests(&self) -> Vec<Request> {
        self.fake.requests().into_iter().filter(|request| !request.path.starts_with("/.well-known/")).collect()
    }

    /// Number of requests for the discovery document.
    pub fn discoveries(&self) -> usize {
        self.fake.requests().iter().filter(|request| request.path.starts_with("/.well-known/")).count()
    }
}

pub fn discovery(url: &str) -> Value {
    json!({
        "issuer": url,
        "access_token_endpoint": format!("{url}/access"),
        "mytoken_endpoint": format!("{url}/my"),
        "tokeninfo_endpoint": format!("{url}/info"),
        "revocation_endpoint": format!("{url}/revoke"),
        "token_transfer_endpoint": format!("{url}/transfer"),
        "providers_supported": [
            {"issuer": "https://op.example.org/", "name": "OP", "scopes_supported": ["openid"], "oidc_fed": false}
        ],
        "response_types_supported": ["token", "short_token", "transfer_code"],
        "restriction_claims_supported": ["nbf", "exp", "scope", "audience", "hosts", "usages_AT", "usages_other"],
        "version": "0.10.2"
    })
}

/// A file with certificates that exists until the process ends, because the client reads it only before its first request.
pub fn roots() -> Roots {
    static FILE: OnceLock<tempfile::NamedTempFile> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(authority("127.0.0.1", false).0.as_bytes()).unwrap();
        file
    });
    Roots::File(file.path().into())
}

pub fn client() -> HttpClient {
    let mut roots = tempfile::NamedTempFile::new().unwrap();
    roots.write_all(authority("127.0.0.1", false).0.as_bytes()).unwrap();
    let settings =
        HttpSettings { roots: Roots::File(roots.path().into()), loopback_http: true, ..HttpSettings::default() };
    HttpClient::new(&settings).unwrap()
}

pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

fn jwt(header: &Value, claims: &Value, signature: usize) -> Secret {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    Secret::new(format!(
        "{}.{}.{}",
        part(header.to_string().as_bytes()),
        part(claims.to_string().as_bytes()),
        part(&vec![1; signature])
    ))
}

/// A mytoken with these claims and the usual ones.
pub fn mytoken(claims: Value) -> Secret {
    let mut all = json!({"ver": "0.7", "token_type": "mytoken", "iss": "https://mt.example.org", "oidc_sub": "alice",
        "oidc_iss": "https://op.example.org", "iat": NOW, "nbf": NOW, "seq_no": 1});
    if let (Some(all), Value::Object(claims)) = (all.as_object_mut(), claims) {
        all.extend(claims);
    }
    jwt(&json!({"alg": "ES512", "typ": "MT+JWT"}), &all, 132)
}

pub fn access_token(claims: &Value) -> Secret {
    jwt(&json!({"alg": "RS256", "typ": "at+jwt"}), claims, 256)
}

/// Fails the test if a token rotates.
pub fn no_rotation(_: &Secret) -> Result<(), Error> {
    panic!("there is no successor here")
}
