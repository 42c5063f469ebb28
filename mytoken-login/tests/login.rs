// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins as scripts: `tests/login/*.toml`. A script has runs, the prompts that they must ask with their answers, what the person
//! is told, what is logged, and what goes over the network. What is not in the script must not happen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mytoken::config::IssuerSettings;
use mytoken::http::HttpError;
use mytoken::server::ServerError;
use mytoken::{Deadline, Error, Secret};
use mytoken_login::oidc::{Fresh, KeySet, KeySource};
use mytoken_login::{
    Accounts, Attempt, ConfiguredServer, Conversation, Exchanged, Gone, Level, LoginSettings, Maps, Refusal,
    TokenService, Wanted, World, authenticate, hold,
};
use mytoken_wire::clock::FixedClock;
use regex_lite::Regex;
use serde::Deserialize;
use serde_json::{Value, json};
use sha3::{Digest as _, Sha3_256};
use support::{Algorithm, NOW, Source, access_token, claims, issuer, sign};
use zeroize::Zeroizing;

const MYTOKEN_HEADER: &str = r#"{"alg":"ES512","typ":"MT+JWT"}"#;
const SERVER: &str = "https://mt.example.org";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Case>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
struct Case {
    about: String,
    options: Options,
    run: Vec<Run>,
    prompt: Vec<Prompt>,
    told: Vec<String>,
    log: Vec<Log>,
    http: Http,
    server: Server,
    tokens: BTreeMap<String, Token>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, default)]
struct Options {
    login: String,
    user: String,
    service: String,
    debug: bool,
    /// Whether the provider's keys must be fetched.
    cold: bool,
    keys_unavailable: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            login: "one-issuer.toml".into(),
            user: "alice".into(),
            service: "sshd".into(),
            debug: false,
            cold: false,
            keys_unavailable: false,
        }
    }
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Run {
    phase: String,
    expect: String,
    /// Of a login that is let in and can be renewed: whether its mytoken was meant for the session.
    #[serde(default)]
    delegated: Option<bool>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Prompt {
    text: String,
    answer: String,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Log {
    level: String,
    matches: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields)]
struct Http {
    requests: Vec<String>,
}

/// How the mytoken server behaves.
#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
struct Server {
    /// A word for what it answers instead of an access token.
    answers: Option<String>,
    /// The same for a revocation.
    revokes: Option<String>,
    /// Claims of the access token it gives.
    access_token: toml::Table,
    /// The mytoken behind the transfer code.
    mytoken: toml::Table,
}

/// A token of the script, by name.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Token {
    #[serde(default)]
    header: Option<String>,
    #[serde(default = "ec")]
    key: String,
    #[serde(default)]
    claims: toml::Table,
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    mytoken: bool,
    /// So many bytes more, in its name.
    #[serde(default)]
    pad: usize,
}

fn ec() -> String {
    "ec".to_owned()
}

/// A mytoken with these changes to its claims. Nobody here checks its signature.
fn mytoken(changes: &toml::Table) -> String {
    mytoken_with(MYTOKEN_HEADER, changes)
}

fn mytoken_with(header: &str, changes: &toml::Table) -> String {
    let mut claims = json!({
        "ver": "0.7", "token_type": "mytoken", "iss": SERVER, "aud": SERVER, "sub": "", "oidc_iss": support::ISSUER,
        "oidc_sub": "somebody else", "seq_no": 1, "iat": NOW, "exp": NOW + 86_400, "jti": "3f2b7c1e-5d4a-4c8e-9a10-77b1c0de4242",
        "capabilities": ["AT", "create_mytoken"],
    });
    claims["sub"] = STANDARD.encode(Sha3_256::digest(format!("somebody else@{}", support::ISSUER))).into();
    for (name, value) in changes {
        claims[name] = serde_json::to_value(value).unwrap();
    }
    let signature = support::b64([7_u8; 132]);
    let parts = [header.to_owned(), claims.to_string()].map(support::b64);
    format!("{}.{}.{signature}", parts[0], parts[1])
}

impl Token {
    fn text(&self) -> String {
        if self.mytoken {
            let header = self.header.as_deref().unwrap_or(MYTOKEN_HEADER);
            let mut claims = self.claims.clone();
            if self.pad > 0 {
                claims.insert("name".into(), "x".repeat(self.pad).into());
            }
            return mytoken_with(header, &claims);
        }
        let mut changes = serde_json::to_value(&self.claims).unwrap();
        for name in &self.without {
            changes[name] = Value::Null;
        }
        // `{now+60}` and `{now-60}` are times.
        for value in changes.as_object_mut().unwrap().values_mut() {
            let offset =
                value.as_str().and_then(|text| text.strip_prefix("{now")?.strip_suffix('}')?.parse::<i64>().ok());
            if let Some(offset) = offset {
                *value = json!(NOW as i64 + offset);
            }
        }
        let Some(header) = &self.header else { return access_token(&changes) };
        let algorithm = match self.key.as_str() {
            "rsa" | "weak" => Algorithm::RS256,
            "ec" => Algorithm::ES256,
            "ed" => Algorithm::EdDSA,
            _ => Algorithm::HS256,
        };
        sign(header, &claims(&changes), &self.key, algorithm)
    }
}

struct Stage {
    case: Case,
    texts: BTreeMap<String, String>,
    prompts: RefCell<VecDeque<Prompt>>,
    told: RefCell<Vec<String>>,
    requests: RefCell<Vec<String>>,
    code_used: RefCell<bool>,
    source: Source,
}

impl Stage {
    fn new(case: Case) -> Self {
        let mut texts: BTreeMap<String, String> =
            case.tokens.iter().map(|(name, token)| (name.clone(), token.text())).collect();
        texts.insert("access_token".into(), access_token(&json!({})));
        texts.insert("transfer_code".into(), "AbCdEfGh".into());
        texts.insert("short_token".into(), "aBcDeFgH".repeat(8));
        texts.insert("mytoken".into(), mytoken(&toml::Table::new()));
        // SSH-04: what sshd hands on for accounts that must not log in, as long as the answer, never the answer.
        texts.insert("junk".into(), format!("\u{8}\n\r\u{7f}INCORRECT{}", "\u{8}\n\r\u{7f}INCORRECT".repeat(50)));
        texts.insert("long".into(), "x".repeat(70 * 1024));
        let source = Source { unavailable: case.options.keys_unavailable, ..Source::default() };
        let prompts = RefCell::new(case.prompt.clone().into());
        Self {
            case,
            texts,
            prompts,
            told: RefCell::default(),
            requests: RefCell::default(),
            code_used: RefCell::new(false),
            source,
        }
    }

    /// `${name}` is a token, `${name:N}` its first N bytes, `${name:N:}` what follows, `${name:N:M}` M bytes of that.
    fn fill(&self, answer: &str) -> String {
        let marks = Regex::new(r"\$\{([a-z_0-9]+)(?::(\d+)(?:(:)(\d*))?)?\}").unwrap();
        marks
            .replace_all(answer, |found: &regex_lite::Captures<'_>| {
                let text = self.texts.get(&found[1]).unwrap_or_else(|| panic!("no token {}", &found[1]));
                let number = |group| found.get(group).and_then(|found| found.as_str().parse::<usize>().ok());
                let at = number(2).unwrap_or(text.len()).min(text.len());
                match found.get(3) {
                    None => text[..at].to_owned(),
                    Some(_) => text[at..].chars().take(number(4).unwrap_or(usize::MAX)).collect(),
                }
            })
            .into_owned()
    }
}

struct Person<'a>(&'a Stage);

impl Conversation for Person<'_> {
    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>, Gone> {
        let next = self.0.prompts.borrow_mut().pop_front();
        let next = next.unwrap_or_else(|| panic!("{}: an unexpected prompt: {prompt}", self.0.case.about));
        assert_eq!(prompt, next.text, "{}", self.0.case.about);
        if next.answer == "${gone}" {
            return Err(Gone);
        }
        Ok(Zeroizing::new(self.0.fill(&next.answer).into_bytes()))
    }

    fn tell(&mut self, text: &str) {
        self.0.told.borrow_mut().push(text.to_owned());
    }
}

impl TokenService for Stage {
    fn redeem(&self, code: &Secret, _: Deadline) -> Result<Secret, Refusal> {
        self.requests.borrow_mut().push("POST mytoken_endpoint transfer_code".into());
        if code.expose() != "AbCdEfGh" || self.code_used.replace(true) {
            return Err(Error::Server(ServerError::CodeRefused { server: SERVER.into(), expired: false }).into());
        }
        Ok(Secret::new(mytoken(&self.case.server.mytoken)))
    }

    fn exchange(&self, token: &Secret, vouched: bool, wanted: &Wanted<'_>, _: Deadline) -> Result<Exchanged, Refusal> {
        assert_eq!(vouched, *self.code_used.borrow(), "only what was redeemed is vouched for");
        self.requests.borrow_mut().push("POST access_token_endpoint".into());
        assert_eq!((wanted.scope, wanted.audience), ("openid profile", "https://testbed"));
        assert!(!token.is_empty());
        let server = || SERVER.to_owned();
        let error = match self.case.server.answers.as_deref() {
            None => {
                let changes = serde_json::to_value(&self.case.server.access_token).unwrap();
                return Ok(Exchanged { token: Secret::new(access_token(&changes)) });
            }
            Some("an empty access token") => Error::Server(ServerError::EmptyAccessToken { server: server() }),
            Some("401") => Error::Server(ServerError::TokenRefused { server: server() }),
            Some("403 capability") => {
                Error::Server(ServerError::MissingCapability { server: server(), needed: "AT".into() })
            }
            Some("403 usage") => Error::Server(ServerError::UsageRestricted { server: server() }),
            Some("429") => Error::Server(ServerError::TooManyRequests { server: server(), retry_after: None }),
            Some("429 of the provider") => {
                Error::Server(ServerError::ProviderTooManyRequests { server: server(), retry_after: None })
            }
            Some("500") => Error::Server(ServerError::Failed { server: server(), status: 500 }),
            Some("nothing") => Error::Http(HttpError::TooLate { host: server() }),
            Some("no connection") => {
                Error::Http(HttpError::Unreachable { host: server(), reason: "refused".into(), sent: false })
            }
            Some("a successor") => Error::Server(ServerError::RotatedTokenNotStored { reason: "nowhere".into() }),
            Some("another scope") => {
                Error::Server(ServerError::OtherAccessToken { server: server(), what: "scope (broader)".into() })
            }
            Some("HTML") => {
                Error::Server(ServerError::NotUnderstood { server: server(), status: 200, reason: "not JSON".into() })
            }
            Some(other) => panic!("unknown answer {other}"),
        };
        Err(error.into())
    }

    fn revoke(&self, token: &Secret, _: Deadline) -> Result<(), Refusal> {
        self.requests.borrow_mut().push("POST revocation_endpoint".into());
        assert_eq!(token.expose(), mytoken(&self.case.server.mytoken), "what was redeemed, nothing else");
        match self.case.server.revokes.as_deref() {
            None => Ok(()),
            Some("nothing") => Err(Error::Http(HttpError::TooLate { host: SERVER.into() }).into()),
            Some(other) => panic!("unknown answer {other}"),
        }
    }
}

impl KeySource for Stage {
    fn keys(&self, issuer: &IssuerSettings, fresh: Fresh, deadline: Deadline) -> Result<KeySet, String> {
        if self.case.options.cold || fresh == Fresh::Unknown {
            self.requests.borrow_mut().push("GET jwks_uri".into());
        }
        self.source.keys(issuer, fresh, deadline)
    }
}

struct Machine;

impl Accounts for Machine {
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, String> {
        Ok(match name {
            "alice" => Some((2_001, 2_001)),
            "bob" => Some((2_002, 2_002)),
            "root" => Some((0, 0)),
            "daemon" => Some((1, 1)),
            "backup" => Some((34, 34)),
            "broken" => return Err("NSS does not answer".into()),
            _ => None,
        })
    }
}

fn play(case: &Case, directory: &Path) {
    let about = case.about.clone();
    assert!(!about.is_empty() && !case.run.is_empty(), "a case needs about and run: {about}");
    let text = std::fs::read_to_string(directory.join("settings").join(&case.options.login)).unwrap();
    let settings: LoginSettings = toml::from_str(&text).unwrap();
    let mut maps = Maps::default();
    let path = Path::new("/etc/mytoken/users.map");
    maps.insert(path, Ok(mytoken_login::MapFile::parse(b"op s-1 backup\nop s-1 root\n")));
    let stage = Stage::new(case.clone());
    let issuers = [issuer("")];
    let attempt = Attempt {
        service: case.options.service.clone(),
        user: case.options.user.clone(),
        rhost: Some("192.0.2.7".into()),
        host: "login01".into(),
    };
    let world = World {
        settings: &settings,
        issuers: &issuers,
        server: Some(ConfiguredServer { url: SERVER, tokens: &stage }),
        accounts: &Machine,
        maps: &maps,
        keys: &stage,
        clock: &FixedClock(NOW),
    };
    let mut logged = Vec::new();
    for run in &case.run {
        assert_eq!(run.phase, "authenticate", "{about}");
        let report = authenticate(&attempt, &world, &mut Person(&stage));
        let code = report.outcome.as_ref().map_or_else(|refusal| refusal.class().pam(), |_| "PAM_SUCCESS");
        let line = report.line(&attempt);
        assert_eq!(code, format!("PAM_{}", run.expect), "{about}: {line}");
        if report.level() != Level::Debug || case.options.debug {
            logged.push((report.level().name(), line));
        }
        let credential = report.outcome.as_ref().ok().map(|accepted| &accepted.credential);
        let renewed = credential.filter(|credential| credential.renewal.is_some());
        let delegated = renewed.map(|credential| credential.delegated);
        assert_eq!(delegated, run.delegated, "{about}: delegated");
        if let Some(credential) = credential {
            let (exp, leeway) = (credential.exp, issuers[0].leeway.as_secs());
            assert_eq!(credential.good_until, exp + leeway, "{about}: good until");
            assert_eq!(credential.lifetime, exp.saturating_sub(NOW), "{about}: lifetime");
        }
        // A failure that could tell something by its time is held back.
        let quick = matches!(run.expect.as_str(), "SUCCESS" | "USER_UNKNOWN" | "CONV_ERR" | "SYSTEM_ERR")
            || report.outcome.as_ref().is_err_and(|refusal| refusal.reason() == "empty");
        let held = hold(&report, Duration::from_secs(60), Instant::now());
        assert_eq!(held.is_zero(), quick, "{about}: held back for {held:?}");
    }
    assert!(stage.prompts.borrow().is_empty(), "{about}: prompts that were not asked");
    assert_eq!(*stage.told.borrow(), case.told, "{about}: told");
    assert_eq!(*stage.requests.borrow(), case.http.requests, "{about}: requests");
    assert_eq!(logged.len(), case.log.len(), "{about}: {logged:#?}");
    for ((level, line), wanted) in logged.iter().zip(&case.log) {
        let pattern = Regex::new(&wanted.matches).unwrap();
        assert!(
            *level == wanted.level && pattern.is_match(line),
            "{about}: {level} {line}\nwanted {} {}",
            wanted.level,
            wanted.matches
        );
        assert!(line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{about}: {line}");
    }
    // Nothing that was typed is ever shown.
    let shown = format!("{logged:?}{:?}", stage.told.borrow());
    for (name, text) in &stage.texts {
        for part in text.split(['.', '\r', '\n']).filter(|part| part.len() >= 8) {
            assert!(!shown.contains(part), "{about}: {name} is shown: {shown}");
        }
    }
}

#[test]
fn logins_go_as_their_scripts_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/login");
    let (mut played, mut failed) = (0, Vec::new());
    let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let text = std::fs::read_to_string(path).unwrap();
        let cases = match toml::from_str::<File>(&text) {
            Ok(file) => file.case,
            Err(_) => vec![toml::from_str::<Case>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))],
        };
        for case in cases {
            let about = case.about.clone();
            if std::panic::catch_unwind(|| play(&case, &directory)).is_err() {
                failed.push(about);
            }
            played += 1;
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(played >= 50, "only {played} scripts were found");
}
