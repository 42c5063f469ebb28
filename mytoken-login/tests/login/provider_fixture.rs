// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider that is asked about tokens, and the host that asks.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mytoken::cache::DiskCache;
use mytoken::config::{FileTrust, IssuerSettings};
use mytoken::http::{HttpSettings, LazyClient, Roots};
use mytoken::private_files::Owner;
use mytoken::{Deadline, Secret};
use mytoken_login::budget::{Allowance, BudgetSettings, Ledger, LedgerFile};
use mytoken_login::validation::{Introspection, PresentedToken, ProviderRequests, Userinfo, Validated, Validation};
use mytoken_login::{Refusal, Remote};
use mytoken_wire::clock::FixedClock;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, Request};
use crate::support::{NOW, TestKeys, access_token};

fn ledger_file(host: &Path) -> LedgerFile {
    LedgerFile::new(&host.join("mytoken/login"), Owner::current())
}

/// The provider at this URL, with these lines of `[[issuer]]`.
fn issuer(host: &Path, url: &str, lines: &str) -> IssuerSettings {
    let client = format!("client_id = 'site'\nclient_secret_file = '{}'\n", host.join("secret").display());
    let client = if lines.contains("client_id") { String::new() } else { client };
    let issuer = IssuerSettings { url: url.to_owned(), ..crate::support::issuer(&format!("{client}{lines}")) };
    issuer.validate().unwrap();
    issuer
}

/// A login at the host with this directory, as a process of its own makes it.
pub fn log_in(
    host: &Path,
    url: &str,
    budget: &BudgetSettings,
    lines: &str,
    token: &Secret,
    entered: bool,
    time: Duration,
) -> Result<Validated, Refusal> {
    let roots = Roots::File(host.join("roots"));
    let settings = HttpSettings { roots, loopback_http: true, ..HttpSettings::default() };
    let (http, clock) = (LazyClient::new(&settings), FixedClock(NOW));
    let cache = DiskCache::new(&host.join("cache"), Owner::current());
    let ledger = ledger_file(host);
    let remote = Remote::of(None, Some("192.0.2.1"));
    let allowance = Allowance::new(Some(&ledger), budget, remote, Some("connection"));
    let requests = ProviderRequests::new(&http, Some(&cache), &clock, &allowance);
    let trust = FileTrust::user(nix::unistd::geteuid().as_raw());
    let issuers = [issuer(host, url, lines)];
    let validation = Validation {
        issuers: &issuers,
        keys: &TestKeys::default(),
        userinfo: &Userinfo(&requests),
        introspection: &Introspection::new(&requests, trust),
        clock: &clock,
    };
    let deadline = Deadline::after(time);
    // An opaque token does not say whose it is.
    let issuer = issuers.first().filter(|issuer| issuer.opaque);
    let validated = validation.check(PresentedToken { token, entered, issuer }, deadline);
    match &validated {
        Ok(_) => allowance.refund(deadline),
        Err(refusal) => allowance.record_refusal(refusal, deadline),
    }
    validated
}

/// What a provider answers.
#[derive(Clone)]
pub struct Answers {
    pub userinfo: Reply,
    pub introspection: Reply,
}

/// A provider with its host.
pub struct Provider {
    pub server: Fake,
    answers: Arc<Mutex<Answers>>,
    dir: tempfile::TempDir,
    pub budget: BudgetSettings,
}

impl Provider {
    pub fn new() -> Self {
        // Generated here: an RSA key takes a second.
        crate::support::keys();
        let good = Answers {
            userinfo: Reply::json(200, &json!({"sub": "s-1", "groups": ["hpc"], "scope": "root"})),
            introspection: Reply::json(200, &json!({"active": true, "sub": "s-1", "username": "alice"})),
        };
        let answers = Arc::new(Mutex::new(good));
        let played = Arc::clone(&answers);
        let server = Fake::plain(move |request| {
            let url = format!("http://{}", request.header("host").unwrap_or_default());
            let answers = played.lock().unwrap().clone();
            match request.path.as_str() {
                "/.well-known/openid-configuration" => Reply::json(
                    200,
                    &json!({
                        "issuer": url, "jwks_uri": format!("{url}/jwks"), "userinfo_endpoint": format!("{url}/userinfo"),
                        "introspection_endpoint": format!("{url}/introspect"),
                    }),
                ),
                "/userinfo" => answers.userinfo,
                "/introspect" => answers.introspection,
                _ => Reply::new(404, "text/plain", ""),
            }
        });
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("roots"), crate::fake::authority("127.0.0.1", false).0).unwrap();
        let provider = Self { server, answers, dir, budget: BudgetSettings::default() };
        provider.write_private("secret", "s:cret\n");
        provider
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write_private(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub fn answer(&self, change: impl FnOnce(&mut Answers)) -> &Self {
        change(&mut self.answers.lock().unwrap());
        self
    }

    /// An access token of this provider.
    pub fn token(&self, changes: &Value) -> String {
        let mut all = json!({"iss": self.server.url("")});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        access_token(&all)
    }

    /// A login in a process of its own.
    pub fn login(&self, lines: &str, token: &str, entered: bool, time: Duration) -> Result<Validated, Refusal> {
        log_in(self.dir.path(), &self.server.url(""), &self.budget, lines, &Secret::new(token), entered, time)
    }

    pub fn ledger(&self) -> Ledger {
        ledger_file(self.dir.path()).read(&self.budget).unwrap().0
    }

    pub fn check(&self, lines: &str, token: &str) -> Result<Validated, Refusal> {
        self.login(lines, token, true, Duration::from_secs(60))
    }

    pub fn reason(&self, lines: &str, token: &str) -> &'static str {
        self.check(lines, token).map_or_else(|refusal| refusal.reason(), |_| "accepted")
    }

    /// The requests about tokens.
    pub fn asked(&self) -> Vec<Request> {
        let about_token = |request: &Request| request.path == "/userinfo" || request.path == "/introspect";
        self.server.requests().into_iter().filter(about_token).collect()
    }

    pub fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|request| request.path).collect()
    }
}
