// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins as scripts: `tests/login/*.toml`. A script has runs, the expected prompts with their answers, and the expected messages, log
//! lines and requests. Nothing else may happen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "login/script.rs"]
mod script;
mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use mytoken::config::IssuerSettings;
use mytoken::http::HttpError;
use mytoken::server::{AccessTokenRequest, ServerError};
use mytoken::{Deadline, Error, Secret};
use mytoken_login::oidc::{KeyFreshness, KeySet, KeySource, KeysUnavailable};
use mytoken_login::{
    AccountDatabase, AccountLookupFailed, Attempt, ConfiguredServer, Conversation, ConversationEnded, Level,
    LoginContext, LoginSettings, Maps, Refusal, TokenService, authenticate, remaining_fail_delay,
};
use mytoken_wire::clock::FixedClock;
use regex_lite::Regex;
use script::{Case, File, Prompt, Token};
use serde_json::{Value, json};
use support::{Algorithm, MYTOKEN_HEADER, NOW, TestKeys, access_token, claims, issuer, sign};
use zeroize::Zeroizing;

const SERVER: &str = "https://mt.example.org";

/// A mytoken of the server of the scripts with these changes to its claims.
fn mytoken(changes: &toml::Table) -> String {
    mytoken_with(MYTOKEN_HEADER, changes)
}

fn mytoken_with(header: &str, changes: &toml::Table) -> String {
    support::mytoken(header, SERVER, &serde_json::to_value(changes).unwrap())
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

struct ScriptRun {
    case: Case,
    texts: BTreeMap<String, String>,
    prompts: RefCell<VecDeque<Prompt>>,
    messages: RefCell<Vec<String>>,
    requests: RefCell<Vec<String>>,
    code_used: RefCell<bool>,
    keys: TestKeys,
}

impl ScriptRun {
    fn new(case: Case) -> Self {
        let mut texts: BTreeMap<String, String> =
            case.tokens.iter().map(|(name, token)| (name.clone(), token.text())).collect();
        texts.insert("access_token".into(), access_token(&json!({})));
        texts.insert("transfer_code".into(), "AbCdEfGh".into());
        texts.insert("short_token".into(), "aBcDeFgH".repeat(8));
        texts.insert("mytoken".into(), mytoken(&toml::Table::new()));
        // What sshd passes on for accounts that must not log in: text of the answer's length, never the answer (SSH-04).
        texts.insert("junk".into(), format!("\u{8}\n\r\u{7f}INCORRECT{}", "\u{8}\n\r\u{7f}INCORRECT".repeat(50)));
        texts.insert("long".into(), "x".repeat(70 * 1024));
        let keys = TestKeys { unavailable: case.options.keys_unavailable, ..TestKeys::default() };
        let prompts = RefCell::new(case.prompt.clone().into());
        Self {
            case,
            texts,
            prompts,
            messages: RefCell::default(),
            requests: RefCell::default(),
            code_used: RefCell::new(false),
            keys,
        }
    }

    /// `${name}` is a token, `${name:N}` its first N bytes, `${name:N:}` the rest, `${name:N:M}` the first M bytes of the rest.
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

struct ScriptedUser<'a>(&'a ScriptRun);

impl Conversation for ScriptedUser<'_> {
    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>, ConversationEnded> {
        let next = self.0.prompts.borrow_mut().pop_front();
        let next = next.unwrap_or_else(|| panic!("{}: an unexpected prompt: {prompt}", self.0.case.about));
        assert_eq!(prompt, next.text, "{}", self.0.case.about);
        if next.answer == "${gone}" {
            return Err(ConversationEnded);
        }
        Ok(Zeroizing::new(self.0.fill(&next.answer).into_bytes()))
    }

    fn show(&mut self, text: &str) {
        self.0.messages.borrow_mut().push(text.to_owned());
    }
}

impl TokenService for ScriptRun {
    fn redeem(&self, code: &Secret, _: Deadline) -> Result<Secret, Refusal> {
        self.requests.borrow_mut().push("POST mytoken_endpoint transfer_code".into());
        if code.expose() != "AbCdEfGh" || self.code_used.replace(true) {
            return Err(Error::Server(ServerError::CodeRefused { server: SERVER.into(), expired: false }).into());
        }
        Ok(Secret::new(mytoken(&self.case.server.mytoken)))
    }

    fn exchange(&self, request: &AccessTokenRequest<'_>, redeemed: bool, _: Deadline) -> Result<Secret, Refusal> {
        assert_eq!(redeemed, *self.code_used.borrow());
        self.requests.borrow_mut().push("POST access_token_endpoint".into());
        assert_eq!((request.scope, request.audience), ("openid profile", "https://testbed"));
        assert!(!request.mytoken.is_empty());
        let server = || SERVER.to_owned();
        let error = match self.case.server.answers.as_deref() {
            None => {
                let changes = serde_json::to_value(&self.case.server.access_token).unwrap();
                return Ok(Secret::new(access_token(&changes)));
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
        assert_eq!(token.expose(), mytoken(&self.case.server.mytoken), "only the redeemed mytoken is revoked");
        match self.case.server.revokes.as_deref() {
            None => Ok(()),
            Some("nothing") => Err(Error::Http(HttpError::TooLate { host: SERVER.into() }).into()),
            Some(other) => panic!("unknown answer {other}"),
        }
    }
}

impl KeySource for ScriptRun {
    fn keys(
        &self,
        issuer: &IssuerSettings,
        freshness: KeyFreshness,
        deadline: Deadline,
    ) -> Result<KeySet, KeysUnavailable> {
        if self.case.options.cold || freshness == KeyFreshness::Newest {
            self.requests.borrow_mut().push("GET jwks_uri".into());
        }
        self.keys.keys(issuer, freshness, deadline)
    }
}

struct TestAccounts;

impl AccountDatabase for TestAccounts {
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
        Ok(match name {
            "alice" => Some((2_001, 2_001)),
            "bob" => Some((2_002, 2_002)),
            "root" => Some((0, 0)),
            "daemon" => Some((1, 1)),
            "backup" => Some((34, 34)),
            "broken" => return Err(AccountLookupFailed { reason: "NSS does not answer".into() }),
            _ => None,
        })
    }
}

fn run_script(case: &Case, directory: &Path) {
    let about = case.about.clone();
    assert!(!about.is_empty() && !case.run.is_empty(), "a case needs about and run: {about}");
    let text = std::fs::read_to_string(directory.join("settings").join(&case.options.login)).unwrap();
    let settings: LoginSettings = toml::from_str(&text).unwrap();
    let mut maps = Maps::default();
    let path = Path::new("/etc/mytoken/users.map");
    maps.insert(path, Ok(mytoken_login::MapFile::parse(b"op s-1 backup\nop s-1 root\n")));
    let run = ScriptRun::new(case.clone());
    let issuers = [issuer("")];
    let attempt = Attempt {
        service: case.options.service.clone(),
        user: case.options.user.clone(),
        rhost: Some("192.0.2.7".into()),
        host: "login01".into(),
    };
    let context = LoginContext {
        settings: &settings,
        issuers: &issuers,
        server: Some(ConfiguredServer { url: SERVER, tokens: &run }),
        accounts: &TestAccounts,
        maps: &maps,
        keys: &run,
        clock: &FixedClock(NOW),
        began: Instant::now(),
    };
    let mut logged = Vec::new();
    for step in &case.run {
        assert_eq!(step.phase, "authenticate", "{about}");
        let report = authenticate(&attempt, &context, &mut ScriptedUser(&run));
        let code = report.outcome.as_ref().map_or_else(|refusal| refusal.class().pam(), |_| "PAM_SUCCESS");
        let line = report.log_line(&attempt);
        assert_eq!(code, format!("PAM_{}", step.expect), "{about}: {line}");
        if report.level() != Level::Debug || case.options.debug {
            logged.push((report.level().name(), line));
        }
        let credential = report.outcome.as_ref().ok().map(|accepted| &accepted.credential);
        let renewed = credential.filter(|credential| credential.renewal.is_some());
        let delegated = renewed.map(|credential| credential.delegated);
        assert_eq!(delegated, step.delegated, "{about}: delegated");
        if let Some(credential) = credential {
            let (exp, leeway) = (credential.exp, issuers[0].leeway.as_secs());
            assert_eq!(credential.good_until, exp + leeway, "{about}: good until");
            assert_eq!(credential.lifetime, exp.saturating_sub(NOW), "{about}: lifetime");
        }
        // A refusal whose time could reveal something is delayed.
        let quick = matches!(step.expect.as_str(), "SUCCESS" | "USER_UNKNOWN" | "CONV_ERR" | "SYSTEM_ERR")
            || report.outcome.as_ref().is_err_and(|refusal| refusal.reason() == "empty");
        let delay = remaining_fail_delay(&report, Duration::from_secs(60), Instant::now());
        assert_eq!(delay.is_zero(), quick, "{about}: delayed for {delay:?}");
    }
    assert!(run.prompts.borrow().is_empty(), "{about}: expected prompts did not come");
    assert_eq!(*run.messages.borrow(), case.messages, "{about}: messages");
    assert_eq!(*run.requests.borrow(), case.http.requests, "{about}: requests");
    assert_eq!(logged.len(), case.log.len(), "{about}: {logged:#?}");
    for ((level, line), expected) in logged.iter().zip(&case.log) {
        let pattern = Regex::new(&expected.matches).unwrap();
        assert!(
            *level == expected.level && pattern.is_match(line),
            "{about}: {level} {line}\nexpected {} {}",
            expected.level,
            expected.matches
        );
        assert!(line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{about}: {line}");
    }
    // No text that was entered is shown or logged.
    let shown = format!("{logged:?}{:?}", run.messages.borrow());
    for (name, text) in &run.texts {
        for part in text.split(['.', '\r', '\n']).filter(|part| part.len() >= 8) {
            assert!(!shown.contains(part), "{about}: {name} is shown: {shown}");
        }
    }
}

#[test]
fn logins_follow_their_scripts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/login");
    let (mut count, mut failed) = (0, Vec::new());
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
            if std::panic::catch_unwind(|| run_script(&case, &directory)).is_err() {
                failed.push(about);
            }
            count += 1;
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(count >= 50, "only {count} scripts were found");
}
