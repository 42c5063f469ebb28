// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pages on providers: each page's configuration decides about logins with claims of the form that its provider issues. The table
//! is `tests/provider_pages.toml`. The mytoken server is a fake that passes on what the provider granted, as MT-09 and MT-29 say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::fake::Reply;
use crate::fake::mytoken_server::MytokenServer;
use crate::support::{Algorithm, MYTOKEN_HEADER, NOW, NotAsked, TestKeys, mytoken, sign};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mytoken::Deadline;
use mytoken::config::{FileTrust, IssuerSettings, Shared};
use mytoken::http::{HttpSettings, LazyClient, Roots};
use mytoken_login::budget::{Allowance, BudgetSettings};
use mytoken_login::oidc::Rejection;
use mytoken_login::validation::{PresentedToken, Validator};
use mytoken_login::{
    AccountDatabase, AccountLookupFailed, Attempt, ConfiguredServer, Conversation, ConversationEnded, LoginContext,
    LoginSettings, MapFile, Maps, Refusal, ServerTokens, authenticate,
};
use mytoken_wire::clock::FixedClock;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha3::{Digest as _, Sha3_256};
use zeroize::Zeroizing;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Name of the page without `.md`.
    page: String,
    about: String,
    /// Words of the page that this case is about.
    says: String,
    /// The claims of the access token, as JSON, without the times.
    claims: String,
    /// `typ` in the header; empty: none.
    #[serde(default = "jwt")]
    typ: String,
    /// What the user enters: `mytoken`, or `access token`.
    #[serde(default = "by_mytoken")]
    by: String,
    /// Whether the access token is no JWT.
    #[serde(default)]
    opaque: bool,
    /// What userinfo answers, as JSON.
    userinfo: Option<String>,
    /// What introspection answers, as JSON.
    introspection: Option<String>,
    /// Scope in the provider's answer, when the claim `scope` does not have it.
    granted: Option<String>,
    #[serde(default = "alice")]
    account: String,
    /// `accept`, or the reason of the refusal.
    expect: String,
    /// Lines of the page's configuration that the page says to replace.
    #[serde(default)]
    replace: BTreeMap<String, String>,
    /// Lines in place of the page's map file.
    map: Option<String>,
}

fn jwt() -> String {
    "JWT".to_owned()
}

fn by_mytoken() -> String {
    "mytoken".to_owned()
}

fn alice() -> String {
    "alice".to_owned()
}

fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/providers")
}

/// The blocks of code of a page whose first line names a file in /etc/mytoken.
fn files(page: &str) -> BTreeMap<String, String> {
    let blocks = page.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    let named = blocks.filter_map(|(_, text)| {
        let name = text.lines().next()?.strip_prefix("# /etc/mytoken/")?;
        Some((name.to_owned(), text.to_owned()))
    });
    named.collect()
}

/// The text with single blanks.
fn flowing(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

impl Case {
    fn access_token(&self) -> String {
        if self.opaque {
            return "Zk3uYw-opaque_access_token-of-one_hundred".to_owned();
        }
        let mut claims: Map<String, Value> =
            serde_json::from_str(&self.claims).unwrap_or_else(|error| panic!("{}: {error}", self.about));
        claims.insert("iat".into(), (NOW - 10).into());
        claims.insert("exp".into(), (NOW + 3_600).into());
        let mut header = json!({"alg": "RS256", "kid": "rsa"});
        if !self.typ.is_empty() {
            header["typ"] = self.typ.clone().into();
        }
        sign(&header.to_string(), &Value::Object(claims).to_string(), "rsa", Algorithm::RS256)
    }

    /// The mytoken server's answer: the provider's token, its scope, and the token's audience.
    fn answer(&self) -> Value {
        let claims: Value = serde_json::from_str(&self.claims).unwrap();
        let scope = self.granted.clone().or(claims["scope"].as_str().map(str::to_owned));
        let audience = match &claims["aud"] {
            Value::String(one) => json!([one]),
            many => many.clone(),
        };
        json!({
            "access_token": self.access_token(), "token_type": "Bearer", "expires_in": 3_600, "scope": scope, "audience": audience,
        })
    }

    /// Loads the page's files, as the product loads them.
    fn load(&self, page: &str) -> (Shared, LoginSettings, Maps) {
        let directory = tempfile::tempdir().unwrap();
        let mut files = files(page);
        for (from, to) in &self.replace {
            let known = files.values().filter(|text| text.contains(from)).count();
            assert_eq!(known, 1, "{}: no line, or several: {from}", self.about);
            for text in files.values_mut() {
                *text = text.replace(from, to);
            }
        }
        let lines = self.map.clone().or(files.remove("users.map"));
        for (name, text) in &files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let trust = FileTrust::user(nix::unistd::geteuid().as_raw());
        let shared = Shared::load(directory.path(), trust).unwrap_or_else(|error| panic!("{}: {error}", self.page));
        let login = LoginSettings::load(directory.path(), trust, &shared)
            .unwrap_or_else(|error| panic!("{}: {error}", self.page));
        let mut maps = Maps::default();
        if let Some(lines) = lines {
            maps.insert(Path::new("/etc/mytoken/users.map"), Ok(MapFile::parse(lines.as_bytes())));
        }
        (shared, login, maps)
    }
}

/// An endpoint with this answer.
struct Answer<'a>(&'a Option<String>);

impl Validator for Answer<'_> {
    fn validate(
        &self,
        _: PresentedToken<'_>,
        issuer: &IssuerSettings,
        _: Deadline,
    ) -> Result<Map<String, Value>, Refusal> {
        let answer = self.0.as_ref().unwrap_or_else(|| panic!("{} was asked", issuer.url));
        let claims: Map<String, Value> = serde_json::from_str(answer).unwrap();
        if claims.get("active") == Some(&Value::Bool(false)) { Err(Rejection::Inactive.into()) } else { Ok(claims) }
    }
}

/// The claims of a mytoken of this provider that differ.
fn of_provider(issuer: &str) -> Value {
    json!({"oidc_iss": issuer, "sub": STANDARD.encode(Sha3_256::digest(format!("somebody else@{issuer}")))})
}

struct User(String);

impl Conversation for User {
    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>, ConversationEnded> {
        assert_eq!(prompt, "Access Token:");
        Ok(Zeroizing::new(self.0.clone().into_bytes()))
    }

    fn show(&mut self, _: &str) {}
}

struct Accounts;

impl AccountDatabase for Accounts {
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
        Ok([("alice", 2_001), ("bob", 2_002)].into_iter().find(|known| known.0 == name).map(|(_, uid)| (uid, uid)))
    }
}

fn run(case: &Case) {
    let page = fs::read_to_string(pages().join(format!("{}.md", case.page))).unwrap();
    assert!(flowing(&page).contains(&flowing(&case.says)), "{}: the page does not say: {}", case.page, case.says);
    let answer = case.answer();
    let server = MytokenServer::with_handler(move |_| Reply::json(200, &answer));
    let url = server.url();
    let (shared, settings, maps) = case.load(&page);

    let directory = tempfile::tempdir().unwrap();
    let roots = directory.path().join("roots");
    fs::write(&roots, crate::fake::authority("127.0.0.1", false).0).unwrap();
    let http = HttpSettings { roots: Roots::File(roots), loopback_http: true, ..HttpSettings::default() };
    let (http, clock, budget) = (LazyClient::new(&http), FixedClock(NOW), BudgetSettings::default());
    let allowance = Allowance::uncounted(&budget);
    let tokens = ServerTokens::new(url.clone(), &http, None, &clock, &allowance);
    let keys = TestKeys::default();
    let context = LoginContext {
        settings: &settings,
        issuers: &shared.issuers,
        servers: &[ConfiguredServer { name: "mytoken", url: url.as_str(), tokens: &tokens }],
        accounts: &Accounts,
        maps: &maps,
        mappers: &NotAsked,
        keys: &keys,
        userinfo: &Answer(&case.userinfo),
        introspection: &Answer(&case.introspection),
        used_tokens: None,
        link: None,
        clock: &clock,
        began: Instant::now(),
    };
    let entered = match case.by.as_str() {
        "mytoken" => mytoken(MYTOKEN_HEADER, url.as_str(), &of_provider(&shared.issuers[0].url)),
        "access token" => case.access_token(),
        other => panic!("{}: {other}", case.about),
    };
    let attempt = Attempt {
        service: "sshd".into(),
        user: case.account.clone(),
        rhost: Some("192.0.2.7".into()),
        host: "login".into(),
    };
    let report = authenticate(&attempt, &context, &mut User(entered));
    let result = report.outcome.as_ref().map_or_else(|refusal| refusal.reason(), |_| "accept");
    assert_eq!(result, case.expect, "{}: {}: {}", case.page, case.about, report.log_line(&attempt));
    if case.by == "mytoken" {
        let asked = server.requests().first().unwrap().json();
        let exchange = settings.exchanges.first().unwrap();
        let text = |name: &str| asked[name].as_str().unwrap_or_default();
        assert_eq!((text("scope"), text("audience")), (exchange.scope.as_str(), exchange.audience.as_str()));
    }
}

#[test]
fn each_providers_page_decides_as_it_says() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provider_pages.toml")).unwrap();
    let table: Table = toml::from_str(&table).unwrap();
    let mut results: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for case in &table.case {
        run(case);
        results.entry(&case.page).or_default()[usize::from(case.expect == "accept")] += 1;
    }
    let pages = fs::read_dir(pages()).unwrap().map(|entry| entry.unwrap().path());
    for page in pages.filter(|page| !page.ends_with("README.md")) {
        let name = page.file_stem().unwrap().to_str().unwrap();
        let [refused, accepted] = results.get(name).copied().unwrap_or_default();
        assert!(accepted > 0 && refused > 2, "{name}: {accepted} accepted, {refused} refused");
    }
}

#[test]
fn the_files_of_a_page_are_found() {
    let page = "a\n\n```\n# /etc/mytoken/users.map\nop s alice\n```\n\n```\nls\n```\n\n```toml\n# /etc/mytoken/login.toml\nx = 1\n```\n";
    let found = files(page);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["login.toml", "users.map"]);
    assert_eq!(found["users.map"], "# /etc/mytoken/users.map\nop s alice");
    assert_eq!(flowing("a\n b  c"), "a b c");
}
