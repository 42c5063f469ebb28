// SPDX-License-Identifier: MIT OR Apache-2.0
//! With `replay = "jti"` an access token logs in once on a host.

use std::path::Path;
use std::time::Instant;

use crate::support::{MYTOKEN_HEADER, NOW, NotAsked, TestKeys, access_token, issuer, mytoken};
use mytoken::config::IssuerSettings;
use mytoken::private_files::Owner;
use mytoken::server::AccessTokenRequest;
use mytoken::{Deadline, Secret};
use mytoken_login::replay::{ACCOUNT_LIMIT, Now, TokenName, TokenUse, UsedTokenMemory, UsedTokens, UsedTokensFiles};
use mytoken_login::validation::{PresentedToken, Validator};
use mytoken_login::{
    AccountDatabase, AccountLookupFailed, Attempt, ConfiguredServer, Conversation, ConversationEnded, Explanation,
    LoginContext, LoginSettings, Maps, Refusal, Report, Setting, SettingPlaces, Subject, TokenService, authenticate,
    examine,
};
use mytoken_wire::clock::{FixedClock, uptime};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use zeroize::Zeroizing;

const SERVER: &str = "https://mytoken.testbed";

const ONCE: &str = r#"
[login]
replay = "jti"
[exchange]
server = "testbed"
[[rule]]
name = "hpc"
issuer = "op"
template = "{preferred_username}"
"#;

struct Accounts;

impl AccountDatabase for Accounts {
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
        Ok([("alice", 2_001), ("bob", 2_002)].into_iter().find(|known| known.0 == name).map(|(_, uid)| (uid, uid)))
    }
}

struct User(String);

impl Conversation for User {
    fn ask(&mut self, _: &str) -> Result<Zeroizing<Vec<u8>>, ConversationEnded> {
        Ok(Zeroizing::new(self.0.clone().into_bytes()))
    }

    fn show(&mut self, _: &str) {}
}

/// A server that issues the same access token each time.
struct SameToken(String);

impl TokenService for SameToken {
    fn redeem(&self, _: &Secret, _: Deadline) -> Result<Secret, Refusal> {
        panic!("there are no codes here")
    }

    fn exchange(&self, _: &AccessTokenRequest<'_>, _: bool, _: Deadline) -> Result<Secret, Refusal> {
        Ok(Secret::new(self.0.as_str()))
    }

    fn revoke(&self, _: &Secret, _: Deadline) -> Result<(), Refusal> {
        panic!("there is nothing to revoke")
    }
}

/// A provider that knows whose a token is, and not until when.
struct Endless;

impl Validator for Endless {
    fn validate(&self, _: PresentedToken<'_>, _: &IssuerSettings, _: Deadline) -> Result<Map<String, Value>, Refusal> {
        let Value::Object(claims) = json!({"sub": "s-1", "preferred_username": "alice"}) else { panic!() };
        Ok(claims)
    }
}

/// One host.
struct Host {
    directory: TempDir,
    settings: String,
    issuer: &'static str,
}

impl Host {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), settings: ONCE.to_owned(), issuer: "" }
    }

    /// What logins by this way have used: `login` for ssh, `login-local` for su.
    fn files(&self, own: &str, other: &str) -> UsedTokensFiles {
        let path = |name: &str| self.directory.path().join("mytoken").join(name);
        UsedTokensFiles::new(&path(own), &path(other), Owner::current())
    }

    fn over_ssh(&self) -> UsedTokensFiles {
        self.files("login", "login-local")
    }

    fn by_su(&self) -> UsedTokensFiles {
        self.files("login-local", "login")
    }

    fn with_context<T>(
        &self,
        files: Option<&UsedTokensFiles>,
        now: u64,
        run: impl FnOnce(&LoginContext<'_>) -> T,
    ) -> T {
        let settings: LoginSettings = toml::from_str(&self.settings).unwrap();
        let tokens = SameToken(access_token(&json!({"jti": "of the server"})));
        run(&LoginContext {
            settings: &settings,
            issuers: &[issuer(self.issuer)],
            servers: &[ConfiguredServer { name: "testbed", url: SERVER, tokens: &tokens }],
            accounts: &Accounts,
            maps: &Maps::default(),
            mappers: &NotAsked,
            keys: &TestKeys::default(),
            userinfo: &Endless,
            introspection: &NotAsked,
            link: None,
            used_tokens: files.map(|files| files as &dyn UsedTokenMemory),
            clock: &FixedClock(now),
            began: Instant::now(),
        })
    }

    fn log_in_by(&self, files: Option<&UsedTokensFiles>, user: &str, token: &str, now: u64) -> Result<(), String> {
        let log_in = |context: &LoginContext<'_>| authenticate(&attempt(user), context, &mut User(token.to_owned()));
        result(&self.with_context(files, now, log_in))
    }

    fn log_in(&self, user: &str, token: &str) -> Result<(), String> {
        self.log_in_by(Some(&self.over_ssh()), user, token, NOW)
    }
}

fn attempt(user: &str) -> Attempt {
    Attempt { service: "sshd".into(), user: user.into(), rhost: None, host: "login".into() }
}

fn result(report: &Report) -> Result<(), String> {
    report.outcome.as_ref().map(|_| ()).map_err(|refusal| refusal.reason().to_owned())
}

fn refused(reason: &str) -> Result<(), String> {
    Err(reason.to_owned())
}

#[test]
fn an_access_token_logs_in_once() {
    let (host, token) = (Host::new(), |jti: &str| access_token(&json!({"jti": jti})));
    let one = token("one");
    assert_eq!(host.log_in("alice", &one), Ok(()));
    assert_eq!(host.log_in("alice", &one), refused("replayed"));
    // The same id, signed again.
    assert_eq!(host.log_in("alice", &token("one")), refused("replayed"));
    assert_eq!(host.log_in("alice", &token("two")), Ok(()));
    let off = Host { settings: ONCE.replace("jti", "off"), ..Host::new() };
    assert_eq!([(), ()].map(|()| off.log_in("alice", &one)), [Ok(()), Ok(())]);
    assert!(!off.directory.path().join("mytoken").exists(), "nothing is recorded");
}

#[test]
fn a_token_without_an_id_logs_in_once() {
    let host = Host::new();
    let (one, other) = (access_token(&json!({})), access_token(&json!({})));
    assert!(one != other && one.rsplit_once('.').unwrap().0 == other.rsplit_once('.').unwrap().0);
    assert_eq!(host.log_in("alice", &one), Ok(()));
    assert_eq!(host.log_in("alice", &one), refused("replayed"));
    assert_eq!(host.log_in("alice", &other), refused("replayed"), "the same token with another signature");
    assert_eq!(host.log_in("alice", &access_token(&json!({"iat": NOW - 59}))), Ok(()));
    for no_id in [json!({"jti": ""}), json!({"jti": 7})] {
        let token = access_token(&no_id);
        assert_eq!(host.log_in("alice", &token), Ok(()));
        assert_eq!(host.log_in("alice", &token), refused("replayed"), "{no_id}");
    }
}

#[test]
fn an_opaque_token_without_an_end_logs_in_once_a_day() {
    let lines = "opaque = true\nvalidation = ['userinfo']\nrequire_audience = false\nopaque_lifetime = '1m'";
    let host = Host { issuer: lines, ..Host::new() };
    let log_in = |now| host.log_in_by(Some(&host.over_ssh()), "alice", "opaque-access-token-0123456789", now);
    assert_eq!(log_in(NOW), Ok(()));
    for later in [1, 7_200, 86_000] {
        assert_eq!(log_in(NOW + later), refused("replayed"), "{later}");
    }
}

#[test]
fn a_refused_login_uses_no_token() {
    let (host, token) = (Host::new(), access_token(&json!({"jti": "one"})));
    assert_eq!(host.log_in("bob", &token), refused("not_mapped"));
    assert_eq!(host.log_in("carol", &token), refused("user_unknown"));
    assert_eq!(host.log_in("alice", &token), Ok(()));
}

#[test]
fn a_mytoken_logs_in_as_often_as_its_server_permits() {
    let (host, mytoken) = (Host::new(), mytoken(MYTOKEN_HEADER, SERVER, &json!({})));
    assert_eq!([(), ()].map(|()| host.log_in("alice", &mytoken)), [Ok(()), Ok(())]);
}

#[test]
fn logins_by_other_ways_share_the_memory() {
    let (host, token) = (Host::new(), |jti: &str| access_token(&json!({"jti": jti})));
    assert_eq!(host.log_in("alice", &token("one")), Ok(()));
    assert_eq!(host.log_in_by(Some(&host.by_su()), "alice", &token("one"), NOW), refused("replayed"));
    assert_eq!(host.log_in_by(Some(&host.by_su()), "alice", &token("two"), NOW), Ok(()));
    assert_eq!(host.log_in("alice", &token("two")), refused("replayed"));
}

#[test]
fn simultaneous_logins_with_one_token_let_one_in() {
    let (host, token) = (Host::new(), access_token(&json!({"jti": "one"})));
    let accepted: usize = std::thread::scope(|scope| {
        let logins: Vec<_> =
            (0..8).map(|_| scope.spawn(|| usize::from(host.log_in("alice", &token).is_ok()))).collect();
        logins.into_iter().map(|login| login.join().unwrap()).sum()
    });
    assert_eq!(accepted, 1);
}

#[test]
fn a_test_of_a_token_tells_and_uses_nothing() {
    let (host, token) = (Host::new(), access_token(&json!({"jti": "one"})));
    let looking = host.over_ssh().looking_only();
    let explain = || {
        host.with_context(Some(&looking), NOW, |context| {
            examine(&attempt("alice"), &Secret::new(token.as_str()), context)
        })
    };
    let report = explain();
    assert_eq!(result(&report), Ok(()));
    let explained = |report: &Report, user: &str| {
        let settings: LoginSettings = toml::from_str(ONCE).unwrap();
        let places = SettingPlaces::default();
        let screen = Explanation::of(report, &attempt(user), &settings, &places).screen();
        let after_rule = screen.lines().skip_while(|line| !line.contains(" rule ")).nth(1);
        after_rule.unwrap().to_owned()
    };
    let replay = report.checks.find(Subject::Replay).unwrap();
    assert_eq!(explained(&report, "alice"), format!("\u{2713} replay          {}", replay.found));
    assert_eq!(replay.by, Some(Setting::Login(&["login", "replay"])));
    assert!(replay.found.contains("has not logged in") && replay.found.contains("nothing was recorded"), "{replay:?}");
    assert_eq!(host.log_in("alice", &token), Ok(()), "the test did not use it");
    let again = explain();
    assert!(
        explained(&again, "alice").starts_with("\u{2717} replay          this access token has logged in here before")
    );
    assert_eq!(result(&again), refused("replayed"));
    let others = host
        .with_context(Some(&looking), NOW, |context| examine(&attempt("bob"), &Secret::new(token.as_str()), context));
    assert_eq!(explained(&others, "bob"), "- replay          not reached");
}

#[test]
fn a_use_that_cannot_be_recorded_is_refused() {
    let (host, token) = (Host::new(), access_token(&json!({"jti": "one"})));
    assert_eq!(host.log_in_by(None, "alice", &token, NOW), refused("system"));
    assert_eq!(host.log_in("alice", &token), Ok(()));
    let file = host.directory.path().join("mytoken/login/used");
    for damaged in ["", "{}", r#"{"v":2,"uses":[]}"#] {
        std::fs::write(&file, damaged).unwrap();
        let refusal = host.with_context(Some(&host.over_ssh()), NOW, |context| {
            authenticate(&attempt("alice"), context, &mut User(token.clone())).outcome.unwrap_err()
        });
        assert!(refusal.detail().unwrap().contains("it is damaged: remove it"), "{refusal:?}");
        assert_eq!(
            host.log_in_by(Some(&host.by_su()), "alice", &access_token(&json!({"jti": damaged})), NOW),
            refused("system")
        );
    }
}

#[test]
fn a_full_memory_refuses_the_account_that_filled_it() {
    let host = Host::new();
    let mut full = UsedTokens::default();
    for number in 0..ACCOUNT_LIMIT {
        let id = format!("{number}");
        let token = TokenUse { name: TokenName::jti("op", &id), uid: 2_001, until: NOW + 3_600 };
        full.add(token, Now { unix: NOW, uptime: uptime() }).unwrap();
    }
    assert_eq!(host.log_in("alice", &access_token(&json!({"jti": "first"}))), Ok(()));
    write(&host.directory.path().join("mytoken/login/used"), &serde_json::to_vec(&full).unwrap());
    let token = access_token(&json!({"jti": "more"}));
    assert_eq!(host.log_in("alice", &token), refused("used_by_account"));
    let bobs = access_token(&json!({"jti": "more", "preferred_username": "bob"}));
    assert_eq!(host.log_in("bob", &bobs), Ok(()));
}

fn write(file: &Path, bytes: &[u8]) {
    std::fs::write(file, bytes).unwrap();
}
