// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins on a host with two mytoken servers: each token goes to its own server, and nothing to the other one.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::support::{MYTOKEN_HEADER, NOW, NotAsked, TestKeys, access_token, issuer, mytoken};
use mytoken::config::FileTrust;
use mytoken::restrictions::Clause;
use mytoken::server::{AccessTokenRequest, Granted, GrantedKind};
use mytoken::{Deadline, Secret};
use mytoken_login::link::{LinkOwner, LinkRequest, LinkService, PollAnswer, StartedLink};
use mytoken_login::{
    AccountDatabase, AccountLookupFailed, Attempt, ConfiguredServer, Conversation, ConversationEnded, ExchangeSettings,
    Explanation, LoginContext, LoginSettings, Maps, Refusal, Report, SettingPlaces, TokenService, authenticate,
};
use mytoken_wire::clock::FixedClock;
use serde_json::{Value, json};
use zeroize::Zeroizing;

const FIRST: &str = "https://first.example.org";
const SECOND: &str = "https://second.example.org";

const TWO_SERVERS: &str = r#"
[[exchange]]
server = "first"
accept = ["mytoken", "short_token"]
scope = "openid one"
audience = "https://one"
[[exchange]]
server = "second"
accept = ["mytoken", "transfer_code"]
scope = "openid two"
audience = "https://two"
comment = "at two, from {rhost}"
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

/// A server that accepts everything. It notes its requests.
struct Server<'a> {
    url: &'static str,
    /// Who issued the mytokens of its codes.
    redeems: &'static str,
    requests: &'a RefCell<Vec<String>>,
}

impl Server<'_> {
    fn note(&self, request: &str) {
        self.requests.borrow_mut().push(format!("{}: {request}", self.url.trim_start_matches("https://")));
    }
}

impl TokenService for Server<'_> {
    fn redeem(&self, _: &Secret, _: Deadline) -> Result<Secret, Refusal> {
        self.note("redeem");
        Ok(Secret::new(mytoken(MYTOKEN_HEADER, self.redeems, &json!({}))))
    }

    fn exchange(&self, request: &AccessTokenRequest<'_>, _: bool, _: Deadline) -> Result<Secret, Refusal> {
        self.note(&format!("exchange {} for {} ({})", request.scope, request.audience, request.comment));
        Ok(Secret::new(access_token(&json!({}))))
    }

    fn revoke(&self, _: &Secret, _: Deadline) -> Result<(), Refusal> {
        self.note("revoke");
        Ok(())
    }
}

/// A person who confirms each link, and takes two seconds for everything.
struct Links<'a> {
    /// Who issued the mytokens of the links.
    redeems: &'static str,
    requests: &'a RefCell<Vec<String>>,
    asked: RefCell<Option<LinkRequest>>,
    time: Cell<u64>,
}

impl LinkService for Links<'_> {
    fn start(
        &self,
        request: &LinkRequest,
        exchange: &ExchangeSettings,
        _: &LinkOwner<'_>,
        _: Deadline,
    ) -> Result<StartedLink, Refusal> {
        self.requests.borrow_mut().push(format!("{}.example.org: link for {}", exchange.server, request.clause.scope));
        self.asked.replace(Some(request.clone()));
        let (expires_in, interval) = (Duration::from_secs(300), Duration::from_secs(1));
        Ok(StartedLink { link: Secret::new("https://mt.example.org/c/LinkCode"), expires_in, interval })
    }

    fn poll(&self, _: Deadline) -> Result<PollAnswer, Refusal> {
        let asked = self.asked.borrow().clone().unwrap();
        Ok(PollAnswer::Granted(Box::new(Granted {
            mytoken: Secret::new(mytoken(MYTOKEN_HEADER, self.redeems, &json!({}))),
            kind: GrantedKind::Token,
            restrictions: vec![Clause { hosts: vec!["192.0.2.1".into()], ..asked.clause }],
            capabilities: asked.capabilities,
            rotation: None,
            expires_at: None,
            code_expires_at: None,
            mom_id: String::new(),
        })))
    }

    fn abandon(&self, _: Deadline) {
        self.requests.borrow_mut().push("abandon".to_owned());
    }

    fn forget(&self) {}

    fn elapsed(&self) -> Duration {
        self.time.set(self.time.get() + 2);
        Duration::from_secs(self.time.get())
    }

    fn sleep(&self, _: Duration) {}

    fn origin(&self) -> String {
        "192.0.2.7".to_owned()
    }
}

/// A login with this answer and these settings: its report, and the requests that it sent.
fn log_in_as(user: &str, answer: &str, settings: &str, redeems: &'static str) -> (Report, Vec<String>) {
    let settings: LoginSettings = toml::from_str(settings).unwrap();
    let requests = RefCell::default();
    let (first, second) =
        (Server { url: FIRST, redeems, requests: &requests }, Server { url: SECOND, redeems, requests: &requests });
    let links = Links { redeems, requests: &requests, asked: RefCell::default(), time: Cell::default() };
    let context = LoginContext {
        settings: &settings,
        issuers: &[issuer("")],
        servers: &[
            ConfiguredServer { name: "first", url: FIRST, tokens: &first },
            ConfiguredServer { name: "second", url: SECOND, tokens: &second },
        ],
        accounts: &Accounts,
        maps: &Maps::default(),
        mappers: &NotAsked,
        keys: &TestKeys::default(),
        userinfo: &NotAsked,
        introspection: &NotAsked,
        link: Some(&links),
        used_tokens: None,
        clock: &FixedClock(NOW),
        began: Instant::now(),
    };
    let report = authenticate(&attempt(user), &context, &mut User(answer.to_owned()));
    (report, requests.into_inner())
}

fn attempt(user: &str) -> Attempt {
    Attempt { service: "sshd".into(), user: user.into(), rhost: Some("192.0.2.7".into()), host: "login".into() }
}

/// The lines of the explanation of a login with this answer, with single blanks.
fn explained(answer: &str, settings: &str, redeems: &'static str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("login.toml"), settings).unwrap();
    let places = SettingPlaces::read(dir.path(), FileTrust::user(nix::unistd::geteuid().as_raw()), &[]);
    let (report, _) = log_in_as("alice", answer, settings, redeems);
    let explanation = Explanation::of(&report, &attempt("alice"), &toml::from_str(settings).unwrap(), &places);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    explanation.screen().lines().map(words).collect()
}

fn log_in(answer: &str, settings: &str) -> (Result<String, &'static str>, Vec<String>) {
    let (report, requests) = log_in_as("alice", answer, settings, SECOND);
    let server = |report: Report| {
        let accepted = report.outcome.map_err(|refusal| refusal.reason())?;
        Ok(accepted
            .credential
            .and_then(|credential| credential.renewal)
            .map(|renewal| format!("{} {}", renewal.server, renewal.scope))
            .unwrap_or_default())
    };
    (server(report), requests)
}

fn mytoken_of(server: &str, changes: &Value) -> String {
    mytoken(MYTOKEN_HEADER, server, changes)
}

#[test]
fn each_token_goes_to_its_own_server() {
    let short = "aBcDeFgH".repeat(8);
    for (answer, server, requests) in [
        (
            mytoken_of(FIRST, &json!({})),
            "first openid one",
            &["first.example.org: exchange openid one for https://one (sshd alice@login)"][..],
        ),
        (
            mytoken_of(SECOND, &json!({})),
            "second openid two",
            &["second.example.org: exchange openid two for https://two (at two, from 192.0.2.7)"],
        ),
        (short, "first openid one", &["first.example.org: exchange openid one for https://one (sshd alice@login)"]),
        (
            "AbCdEfGh".to_owned(),
            "second openid two",
            &[
                "second.example.org: redeem",
                "second.example.org: exchange openid two for https://two (at two, from 192.0.2.7)",
            ],
        ),
        (access_token(&json!({})), "", &[]),
    ] {
        let (outcome, sent) = log_in(&answer, TWO_SERVERS);
        assert_eq!(
            (outcome.as_deref(), sent.as_slice()),
            (Ok(server), requests.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>().as_slice()),
            "{answer}"
        );
    }
}

#[test]
fn what_no_server_accepts_is_sent_nowhere() {
    let only_codes = TWO_SERVERS.replace("\"mytoken\", ", "");
    let first_only = TWO_SERVERS.replacen("\"mytoken\", ", "", 1);
    let rotating = json!({"rotation": {"on_AT": true}});
    for (answer, settings, reason) in [
        (mytoken_of("https://third.example.org", &json!({})), TWO_SERVERS, "foreign_server"),
        (mytoken_of("https://first.example.org.evil.example", &json!({})), TWO_SERVERS, "foreign_server"),
        (mytoken_of(FIRST, &json!({})), &only_codes, "kind_not_accepted"),
        (mytoken_of(FIRST, &json!({})), &first_only, "kind_not_accepted"),
        // Both servers' rotating mytokens.
        (mytoken_of(FIRST, &rotating), TWO_SERVERS, "rotating"),
        (mytoken_of(SECOND, &rotating), TWO_SERVERS, "rotating"),
        // A file that was not checked.
        ("AbCdEfGh".to_owned(), &TWO_SERVERS.replace("short_token", "transfer_code"), "configuration"),
    ] {
        assert_eq!(log_in(&answer, settings), (Err(reason), Vec::new()), "{answer}");
    }
}

#[test]
fn the_server_that_redeemed_a_code_revokes_its_mytoken() {
    let (report, requests) = log_in_as("bob", "AbCdEfGh", TWO_SERVERS, SECOND);
    assert_eq!(report.outcome.unwrap_err().reason(), "not_mapped");
    assert_eq!(requests.last().unwrap(), "second.example.org: revoke");
    // A mytoken of another server is not used, and revoked where it came from.
    let (report, requests) = log_in_as("alice", "AbCdEfGh", TWO_SERVERS, FIRST);
    assert_eq!(report.outcome.unwrap_err().reason(), "foreign_server");
    assert_eq!(requests, ["second.example.org: redeem", "second.example.org: revoke"]);
}

#[test]
fn a_login_with_a_link_is_at_its_server_from_begin_to_end() {
    let settings = TWO_SERVERS.replace("\"transfer_code\"", "\"transfer_code\", \"link\"");
    let link = "second.example.org: link for openid two".to_owned();
    let exchange = "second.example.org: exchange openid two for https://two (at two, from 192.0.2.7)".to_owned();
    let revoke = "second.example.org: revoke".to_owned();
    assert_eq!(log_in("", &settings), (Ok("second openid two".to_owned()), vec![link.clone(), exchange.clone()]));
    let (report, requests) = log_in_as("bob", "", &settings, SECOND);
    assert_eq!(report.outcome.unwrap_err().reason(), "not_mapped");
    assert_eq!(requests, [link.clone(), exchange, revoke.clone()]);
    // A mytoken of another server is not used, and revoked where it came from.
    let (report, requests) = log_in_as("alice", "", &settings, FIRST);
    assert_eq!((report.outcome.unwrap_err().reason(), requests), ("foreign_server", vec![link, revoke]));
    // No server, or two in a file that was not checked: nobody gets a link.
    for none in [TWO_SERVERS, &settings.replace("\"short_token\"", "\"short_token\", \"link\"")] {
        assert_eq!(log_in("", none), (Err("empty"), Vec::new()));
    }
}

#[test]
fn the_explanation_names_the_server_and_its_line() {
    let first_only = TWO_SERVERS.replacen("\"mytoken\", ", "", 1);
    for (answer, settings, line) in [
        (
            mytoken_of(SECOND, &json!({})),
            TWO_SERVERS,
            "\u{2713} exchange login.toml:8 mytoken server \"second\" gave an access token",
        ),
        (
            mytoken_of(SECOND, &json!({"rotation": {"on_AT": true}})),
            TWO_SERVERS,
            "\u{2717} exchange login.toml:8 mytoken server \"second\": this mytoken rotates",
        ),
        (
            mytoken_of("https://third.example.org", &json!({})),
            TWO_SERVERS,
            "\u{2717} exchange login.toml:2 this mytoken was issued by a mytoken server that is not accepted",
        ),
        (mytoken_of(FIRST, &json!({})), &first_only, "\u{2717} exchange login.toml:4 a mytoken is not accepted here"),
        (access_token(&json!({})), TWO_SERVERS, "\u{2713} issuer "),
    ] {
        let lines = explained(&answer, settings, SECOND);
        assert!(lines[2].starts_with(line), "{line}\n{lines:#?}");
    }
}

#[test]
fn a_link_is_a_check_before_the_exchange() {
    let settings = TWO_SERVERS.replace("\"transfer_code\"", "\"transfer_code\", \"link\"") + "[link]\ntime = \"60s\"\n";
    let lines = explained("", &settings, SECOND);
    let expected = [
        "token confirmed in a browser",
        "\u{2713} link login.toml:17 confirmed in a browser",
        "\u{2713} exchange login.toml:8 mytoken server \"second\" gave an access token",
    ];
    assert_eq!(lines[1..4], expected, "{lines:#?}");
    let foreign = explained("", &settings, FIRST);
    assert!(
        foreign[3].starts_with("\u{2717} exchange login.toml:8 mytoken server \"second\": this mytoken was"),
        "{foreign:#?}"
    );
    let late = explained("", &settings.replace("60s", "6s"), SECOND);
    assert_eq!(
        late[2..4],
        [
            "\u{2717} link login.toml:18 the login was not confirmed in the browser in time; connect again",
            "- exchange not reached"
        ],
        "{late:#?}"
    );
}
