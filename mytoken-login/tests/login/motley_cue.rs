// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions to motley_cue, whatever it answers.

mod later_rules;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::fake::{Fake, Reply, Request};
use mytoken::config::{FileTrust, Shared};
use mytoken::http::{HttpSettings, LazyClient, Roots};
use mytoken::private_files::Owner;
use mytoken::{Deadline, Secret};
use mytoken_login::budget::{Allowance, BudgetSettings, Ledger, LedgerFile};
use mytoken_login::mapper::{Asked, Given, HostMappers, Mappers, MotleyCueRequests};
use mytoken_login::{
    Identity, LocalAccount, LoginResources, LoginSettings, MapperSettings, Mapping, MotleyCueSettings, OnOutage,
    Refusal, RefusalClass, Remote, ServiceState,
};
use serde_json::json;

const TOKEN: &str = "the.access.token";

/// motley_cue with one answer to questions about accounts, and the host that asks.
struct MotleyCue {
    server: Fake,
    answer: Arc<Mutex<Reply>>,
    dir: tempfile::TempDir,
    budget: BudgetSettings,
    on_outage: OnOutage,
}

/// What the host asks with.
#[derive(Clone, Copy)]
enum With {
    /// The access token that the user entered.
    Entered,
    /// An access token that this login got for an entered mytoken.
    Exchanged,
    /// An access token that this login got for a mytoken that the person confirmed in a browser. Nothing was entered.
    ByLink,
    OneTimePassword,
}

impl MotleyCue {
    fn new(answer: Reply) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        let played = Arc::clone(&answer);
        let server = Fake::plain(move |request| match request.path.as_str() {
            "/info" => Reply::json(200, &json!({"supported_OPs": []})),
            path if path.starts_with("/verify_user?") => played.lock().unwrap().clone(),
            _ => Reply::new(404, "text/plain", ""),
        });
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("roots"), crate::fake::authority("127.0.0.1", false).0).unwrap();
        Self { server, answer, dir, budget: BudgetSettings::default(), on_outage: OnOutage::Refuse }
    }

    fn ledger_file(&self) -> LedgerFile {
        LedgerFile::new(&self.dir.path().join("mytoken/login"), Owner::current())
    }

    fn ledger(&self) -> Ledger {
        self.ledger_file().read(&self.budget).unwrap().0
    }

    /// A login of its own, as `name`, in this connection.
    fn log_in(&self, with: With, name: &str, connection: &str, time: Duration) -> Result<Given, Refusal> {
        let roots = Roots::File(Path::new(self.dir.path()).join("roots"));
        let http_settings = HttpSettings { roots, loopback_http: true, ..HttpSettings::default() };
        let http = LazyClient::new(&http_settings);
        let ledger = self.ledger_file();
        let remote = Remote::of(None, Some("192.0.2.1"));
        let allowance = Allowance::new(Some(&ledger), &self.budget, remote, Some(connection));
        let requests = MotleyCueRequests::new(&http, &allowance);
        let mappers = HostMappers::new(FileTrust::user(nix::unistd::geteuid().as_raw()), &requests);
        let url = mytoken::urls::ServerUrl::parse(&self.server.url(""), true).unwrap();
        let settings = MotleyCueSettings { url, otp: true, on_outage: self.on_outage };
        let account = LocalAccount { name: name.to_owned(), uid: 2_001, gid: 2_001, system: false };
        let identity = alice();
        let access_token = Secret::new(TOKEN);
        let deadline = Deadline::after(time);
        if matches!(with, With::Exchanged) {
            allowance.record_sent(&Secret::new("the.my.token"));
        }
        let given = match with {
            With::OneTimePassword => mappers.redeem(&settings, &account, &Secret::new("0a".repeat(64)), deadline),
            With::Entered | With::Exchanged | With::ByLink => {
                let (account, access_token) = (&account, &access_token);
                let entered = matches!(with, With::Entered);
                let asked = Asked { identity: &identity, account, access_token, entered, service: "sshd", rhost: None };
                mappers.mapper(&MapperSettings::MotleyCue(settings)).gives(&asked, deadline)
            }
        };
        match &given {
            Ok(Given::Account) => allowance.refund(deadline),
            Ok(Given::Nothing(_)) => {
                let refusal = Refusal::NotMapped { account: name.to_owned(), maps_to: None };
                allowance.record_refusal(&refusal, deadline);
            }
            Err(refusal) => allowance.record_refusal(refusal, deadline),
        }
        given
    }

    fn entered(&self, name: &str) -> Result<Given, Refusal> {
        self.log_in(With::Entered, name, "connection", Duration::from_secs(60))
    }

    fn questions(&self) -> Vec<Request> {
        self.server.requests().into_iter().filter(|request| request.path.starts_with("/verify_user")).collect()
    }
}

fn alice() -> Identity {
    Identity {
        issuer: "op".into(),
        iss: "https://op.example.org".into(),
        sub: "s-1".into(),
        scopes: Vec::new(),
        claims: json!({"preferred_username": "alice"}).as_object().unwrap().clone(),
    }
}

fn state(state: &str, verified: bool) -> Reply {
    Reply::json(200, &json!({"state": state, "verified": verified}))
}

/// A word for each result.
fn word(given: &Result<Given, Refusal>) -> String {
    match given {
        Ok(Given::Account) => "account".to_owned(),
        Ok(Given::Nothing(reason)) => format!("nothing: {reason}"),
        Err(refusal) => format!("{} {:?}", refusal.reason(), refusal.class()),
    }
}

#[test]
fn only_a_verified_and_deployed_account_is_given() {
    let no_account = |state: &str| format!("nothing: has no account for the identity (state {state})");
    let other = "nothing: says that the account is not the identity's".to_owned();
    for (answer, expected) in [
        (state("deployed", true), "account".to_owned()),
        (state("deployed", false), other.clone()),
        (state("suspended", true), "suspended Forbidden".to_owned()),
        (state("suspended", false), other.clone()),
        (state("limited", true), "limited Forbidden".to_owned()),
        (state("limited", false), other),
        (state("pending", false), "pending Forbidden".to_owned()),
        (state("pending", true), "pending Forbidden".to_owned()),
        (state("not_deployed", false), no_account("not_deployed")),
        (state("not_deployed", true), no_account("not_deployed")),
        (state("rejected", true), no_account("rejected")),
        (state("unknown", false), "not_decided Rejected".to_owned()),
        (state("unknown", true), "not_decided Rejected".to_owned()),
        (state("failed", false), "not_decided Rejected".to_owned()),
        (Reply::json(200, &json!({"state": "deployed", "verified": true, "more": [1]})), "account".to_owned()),
    ] {
        let about = String::from_utf8_lossy(&answer.body).into_owned();
        let motley_cue = MotleyCue::new(answer);
        assert_eq!(word(&motley_cue.entered("alice")), expected, "{about}");
        let [question] = &motley_cue.questions()[..] else { panic!("{:?}", motley_cue.server.requests()) };
        assert_eq!((question.method.as_str(), question.path.as_str()), ("GET", "/verify_user?username=alice"));
        assert_eq!(question.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    }
    assert_eq!(ServiceState::of("deployed"), None);
}

#[test]
fn each_other_answer_gives_nothing() {
    let json = |value| Reply::json(200, &value);
    for (answer, expected) in [
        (Reply::json(401, &json!({"error": "Unauthenticated"})), "not_decided Rejected"),
        (
            Reply::json(403, &json!({"detail": "Forbidden"})),
            "nothing: does not let the identity use the service (status 403)",
        ),
        // What the person can cause by the token is no outage.
        (Reply::json(400, &json!({})), "not_decided Rejected"),
        (Reply::json(413, &json!({})), "not_decided Rejected"),
        (Reply::json(414, &json!({})), "not_decided Rejected"),
        (Reply::json(431, &json!({})), "not_decided Rejected"),
        (Reply::json(404, &json!({"detail": "Not Found"})), "unavailable Unavailable"),
        (Reply::json(500, &json!({"state": "deployed", "verified": true})), "not_decided Rejected"),
        (Reply::json(502, &json!({})), "unavailable Unavailable"),
        (Reply::json(201, &json!({"state": "deployed", "verified": true})), "unavailable Unavailable"),
        (Reply::json(429, &json!({})).header("Retry-After", "7"), "server_limit Rejected"),
        (state("deployed", true).header("Location", "/"), "account"),
        (Reply::new(302, "text/plain", "").header("Location", "https://evil.example/"), "not_decided Rejected"),
        (Reply::new(200, "text/html", "<html>"), "unavailable Unavailable"),
        (json(json!({"state": "deployed"})), "unavailable Unavailable"),
        (json(json!({"verified": true})), "unavailable Unavailable"),
        (json(json!({"state": "deployed", "verified": "true"})), "unavailable Unavailable"),
        (json(json!({"state": ["deployed"], "verified": true})), "unavailable Unavailable"),
        (json(json!({"state": "Deployed", "verified": true})), "unavailable Unavailable"),
        (json(json!([{"state": "deployed", "verified": true}])), "unavailable Unavailable"),
        (
            Reply::new(200, "application/json", r#"{"verified":false,"state":"deployed","verified":true}"#),
            "unavailable Unavailable",
        ),
        // It answers other questions, so this can be the token's fault, too.
        (Reply::new(200, "application/json", "x".repeat(70 * 1024)), "not_decided Rejected"),
        (Reply::hang_up(), "not_decided Rejected"),
    ] {
        let about = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body[..answer.body.len().min(60)]));
        let motley_cue = MotleyCue::new(answer);
        assert_eq!(word(&motley_cue.entered("alice")), expected, "{about}");
        assert_eq!(motley_cue.questions().len(), 1, "{about}: {:?}", motley_cue.server.requests());
    }
}

#[test]
fn a_name_cannot_change_the_question() {
    let motley_cue = MotleyCue::new(state("deployed", true));
    assert_eq!(motley_cue.entered("a&username=b@e.org #"), Ok(Given::Account));
    assert_eq!(motley_cue.questions()[0].path, "/verify_user?username=a%26username%3Db%40e.org%20%23");
}

#[test]
fn a_slow_motley_cue_is_an_outage_within_the_deadline() {
    let slow = Reply { silence: Duration::from_secs(8), ..state("deployed", true) };
    let motley_cue = MotleyCue::new(slow);
    let began = Instant::now();
    let given = motley_cue.log_in(With::Entered, "alice", "one", Duration::from_secs(3));
    assert_eq!(given.as_ref().unwrap_err().class(), RefusalClass::Unavailable, "{given:?}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // The next login from this address does not wait for it again.
    let began = Instant::now();
    let given = motley_cue.log_in(With::Entered, "alice", "two", Duration::from_secs(3));
    assert_eq!(given.unwrap_err().reason(), "unavailable");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(motley_cue.questions().len(), 1);
}

#[test]
fn questions_are_counted_like_exchanges() {
    let mut motley_cue = MotleyCue::new(state("deployed", false));
    motley_cue.budget.per_address = 2;
    for (number, expected) in [(0, "nothing"), (1, "nothing"), (2, "budget_address")] {
        let given = motley_cue.log_in(With::Entered, "bob", &number.to_string(), Duration::from_secs(60));
        assert!(word(&given).starts_with(expected), "{number}: {given:?}");
    }
    assert_eq!(motley_cue.questions().len(), 2);
    // An accepted login costs nothing.
    let motley_cue = MotleyCue::new(state("deployed", true));
    assert_eq!(motley_cue.entered("alice"), Ok(Given::Account));
    let mut fresh = MotleyCue::new(state("deployed", true));
    fresh.budget.per_address = 1;
    for number in 0..3 {
        let given = fresh.log_in(With::Entered, "alice", &number.to_string(), Duration::from_secs(60));
        assert_eq!(given, Ok(Given::Account), "{number}");
    }
}

#[test]
fn what_other_people_have_spent_costs_nobody_a_mytoken_that_is_exchanged_already() {
    let mut motley_cue = MotleyCue::new(state("deployed", true));
    motley_cue.budget.per_address = 0;
    for (with, expected) in [
        (With::Entered, "budget_address Rejected"),
        (With::OneTimePassword, "budget_address Rejected"),
        (With::Exchanged, "account"),
        (With::ByLink, "account"),
    ] {
        assert_eq!(word(&motley_cue.log_in(with, "alice", expected, Duration::from_secs(60))), expected);
    }
    assert_eq!(motley_cue.questions().len(), 2);
}

#[test]
fn a_token_is_asked_about_once_in_a_connection() {
    let motley_cue = MotleyCue::new(state("not_deployed", false));
    for (with, again) in [
        (With::Entered, "repeated"),
        (With::OneTimePassword, "repeated"),
        (With::Exchanged, "nothing"),
        (With::ByLink, "nothing"),
    ] {
        let connection = match with {
            With::Entered => "entered",
            With::Exchanged => "exchanged",
            With::ByLink => "link",
            With::OneTimePassword => "otp",
        };
        let log_in = || motley_cue.log_in(with, "alice", connection, Duration::from_secs(60));
        assert!(word(&log_in()).starts_with("nothing"), "{connection}");
        assert!(word(&log_in()).starts_with(again), "{connection}: what was entered is the mytoken");
    }
    let ledger = motley_cue.ledger();
    assert!(ledger.refused_tokens.contains("exchanged", &Secret::new("the.my.token"), mytoken_wire::clock::uptime()));
}

#[test]
fn plain_http_that_the_settings_permit_needs_no_switch_of_mytoken_toml() {
    let motley_cue = MotleyCue::new(state("deployed", true));
    let roots = motley_cue.dir.path().join("roots");
    let shared: Shared = toml::from_str(&format!("[http]\nca_file = '{}'\n", roots.display())).unwrap();
    assert!(!shared.http.allow_loopback_http);
    // As a port below 1024. `LoginSettings::load` would refuse this one.
    let rule = format!("[[rule]]\nname = 'mc'\nissuer = 'op'\nmotley_cue = '{}'\n", motley_cue.server.url(""));
    let settings: LoginSettings = toml::from_str(&rule).unwrap();
    let Mapping::Asked(mapper) = &settings.rules[0].mapping else { panic!("{rule}") };
    let resources = LoginResources::of_administrator();
    let (budget, token, identity) = (BudgetSettings::default(), Secret::new(TOKEN), alice());
    let account = &LocalAccount { name: "alice".to_owned(), uid: 2_001, gid: 2_001, system: false };
    let asked =
        Asked { identity: &identity, account, access_token: &token, entered: true, service: "sshd", rhost: None };
    let given = resources.with_context(&shared, &settings, &resources.allowance(&budget), |context| {
        context.mappers.mapper(mapper).gives(&asked, Deadline::after(Duration::from_secs(60)))
    });
    assert_eq!(given.unwrap(), Ok(Given::Account));
    assert_eq!(motley_cue.questions().len(), 1);
}

#[test]
fn a_one_time_password_is_sent_as_the_bearer() {
    let motley_cue = MotleyCue::new(state("deployed", true));
    let log_in =
        |connection: &str| motley_cue.log_in(With::OneTimePassword, "alice", connection, Duration::from_secs(60));
    assert_eq!(log_in("one"), Ok(Given::Account));
    let bearer = motley_cue.questions()[0].header("authorization").unwrap().to_owned();
    assert_eq!(bearer, format!("Bearer {}", "0a".repeat(64)));
    for (status, expected) in
        [(401, "otp_refused"), (403, "otp_refused"), (431, "not_decided"), (500, "not_decided"), (502, "unavailable")]
    {
        *motley_cue.answer.lock().unwrap() = Reply::json(status, &json!({}));
        let refusal = log_in(&status.to_string()).unwrap_err();
        assert_eq!(refusal.reason(), expected, "{status}");
        assert!(!refusal.to_string().contains("0a0a"));
    }
}
