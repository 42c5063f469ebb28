// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins as scripts: `tests/login/*.toml`. A script has runs, the expected prompts with their answers, and the expected messages, log
//! lines and requests. Nothing else may happen.

mod link;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::answers::{code_refused, exchange_error, mapper_answer, revocation_error};
use crate::script::{Case, Prompt};
use crate::support::{NOW, TestKeys, access_token, issuer};
use crate::texts::{ACCOUNTS, MAP, SERVER, TRANSFER_CODE, cases, fill, mytoken, secret_parts, texts};
use mytoken::config::IssuerSettings;
use mytoken::server::AccessTokenRequest;
use mytoken::{Deadline, Secret};
use mytoken_login::mapper::{Asked as Question, Given, Mapper, Mappers};
use mytoken_login::oidc::{KeyFreshness, KeySet, KeySource, KeysUnavailable, Rejection};
use mytoken_login::validation::{PresentedToken, Validator};
use mytoken_login::{
    AccountDatabase, AccountLookupFailed, Attempt, ConfiguredServer, Conversation, ConversationEnded, Explanation,
    Level, LocalAccount, LoginContext, LoginSettings, MapperSettings, Maps, MotleyCueSettings, Refusal, SettingPlaces,
    TokenService, authenticate, remaining_fail_delay,
};
use mytoken_wire::clock::FixedClock;
use regex_lite::Regex;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

struct ScriptRun {
    case: Case,
    texts: BTreeMap<String, String>,
    prompts: RefCell<VecDeque<Prompt>>,
    messages: RefCell<Vec<String>>,
    requests: RefCell<Vec<String>>,
    code_used: RefCell<bool>,
    link: link::State,
    keys: TestKeys,
}

impl ScriptRun {
    fn new(case: Case) -> Self {
        let texts = texts(&case);
        let keys = TestKeys { unavailable: case.options.keys_unavailable, ..TestKeys::default() };
        let prompts = RefCell::new(case.prompt.clone().into());
        let link = link::State::of(&case);
        Self {
            case,
            texts,
            prompts,
            messages: RefCell::default(),
            requests: RefCell::default(),
            code_used: RefCell::new(false),
            link,
            keys,
        }
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
        self.0.link.pass(link::PERSON);
        Ok(Zeroizing::new(fill(&self.0.texts, &next.answer).into_bytes()))
    }

    fn show(&mut self, text: &str) {
        self.0.messages.borrow_mut().push(text.to_owned());
    }
}

impl TokenService for ScriptRun {
    fn redeem(&self, code: &Secret, _: Deadline) -> Result<Secret, Refusal> {
        self.requests.borrow_mut().push("POST mytoken_endpoint transfer_code".into());
        if code.expose() != TRANSFER_CODE || self.code_used.replace(true) {
            return Err(code_refused(SERVER).into());
        }
        Ok(Secret::new(mytoken(&self.case.server.mytoken)))
    }

    fn exchange(&self, request: &AccessTokenRequest<'_>, redeemed: bool, _: Deadline) -> Result<Secret, Refusal> {
        assert_eq!(redeemed, *self.code_used.borrow());
        self.requests.borrow_mut().push("POST access_token_endpoint".into());
        assert_eq!((request.scope, request.audience), ("openid profile", "https://testbed"));
        assert!(!request.mytoken.is_empty());
        match self.case.server.answers.as_deref() {
            None if self.case.server.opaque => Ok(Secret::new(crate::script::OPAQUE_TOKEN)),
            None => {
                let changes = serde_json::to_value(&self.case.server.access_token).unwrap();
                Ok(Secret::new(access_token(&changes)))
            }
            Some(name) => Err(exchange_error(name, SERVER).unwrap_or_else(|| panic!("unknown answer {name}")).into()),
        }
    }

    fn revoke(&self, token: &Secret, _: Deadline) -> Result<(), Refusal> {
        self.requests.borrow_mut().push("POST revocation_endpoint".into());
        assert_eq!(token.expose(), mytoken(&self.case.server.mytoken), "only the redeemed mytoken is revoked");
        match self.case.server.revokes.as_deref() {
            None => Ok(()),
            Some(name) => Err(revocation_error(name, SERVER).unwrap_or_else(|| panic!("unknown answer {name}")).into()),
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

impl ScriptRun {
    /// Whether the mytoken server was asked for an access token, so that it is not the one that was entered.
    fn has_exchanged(&self) -> bool {
        self.requests.borrow().iter().any(|request| request == "POST access_token_endpoint")
    }
}

/// The mapper of a rule.
struct ScriptedMapper<'a> {
    run: &'a ScriptRun,
    settings: &'a MapperSettings,
}

impl Mappers for ScriptRun {
    fn mapper<'a>(&'a self, settings: &'a MapperSettings) -> Box<dyn Mapper + 'a> {
        Box::new(ScriptedMapper { run: self, settings })
    }

    fn redeem(
        &self,
        settings: &MotleyCueSettings,
        account: &LocalAccount,
        password: &Secret,
        deadline: Deadline,
    ) -> Result<Given, Refusal> {
        self.requests.borrow_mut().push(format!("redeem at {}", settings.url));
        assert_eq!(account.name, self.case.options.user);
        assert!(password.expose() == self.texts["one_time_password"] && deadline.remaining().is_some());
        mapper_answer(&self.case.options.mapper)
    }
}

impl Mapper for ScriptedMapper<'_> {
    fn gives(&self, asked: &Question<'_>, deadline: Deadline) -> Result<Given, Refusal> {
        let options = &self.run.case.options;
        assert_eq!(asked.entered, !self.run.has_exchanged());
        self.run.requests.borrow_mut().push(format!("ask {}", self.settings));
        assert_eq!((asked.account.name.as_str(), asked.service), (options.user.as_str(), options.service.as_str()));
        assert_eq!((asked.identity.sub.as_str(), asked.rhost), ("s-1", Some("192.0.2.7")));
        assert!(!asked.access_token.is_empty() && deadline.remaining().is_some());
        mapper_answer(&options.mapper)
    }
}

/// An endpoint of the provider.
struct Asked<'a> {
    run: &'a ScriptRun,
    endpoint: &'static str,
    answer: &'a Option<toml::Table>,
}

impl Validator for Asked<'_> {
    fn validate(
        &self,
        presented: PresentedToken<'_>,
        _: &IssuerSettings,
        _: Deadline,
    ) -> Result<Map<String, Value>, Refusal> {
        assert!(!presented.token.expose().starts_with('@'), "the mark is not part of the token");
        assert_eq!(presented.entered, !self.run.has_exchanged());
        self.run.requests.borrow_mut().push(self.endpoint.into());
        let answer = self.answer.as_ref().unwrap_or_else(|| panic!("{}: {}", self.run.case.about, self.endpoint));
        let Value::Object(claims) = serde_json::to_value(answer).unwrap() else { panic!("a table is an object") };
        if claims.get("active") == Some(&Value::Bool(false)) { Err(Rejection::Inactive.into()) } else { Ok(claims) }
    }
}

struct TestAccounts;

impl AccountDatabase for TestAccounts {
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
        if name == "broken" {
            return Err(AccountLookupFailed { reason: "NSS does not answer".into() });
        }
        Ok(ACCOUNTS.iter().find(|(known, _)| *known == name).map(|(_, uid)| (*uid, *uid)))
    }
}

fn run_script(case: &Case, directory: &Path) {
    let about = case.about.clone();
    assert!(!about.is_empty() && !case.run.is_empty(), "a case needs about and run: {about}");
    let text = std::fs::read_to_string(directory.join("settings").join(&case.options.login)).unwrap();
    let settings: LoginSettings = toml::from_str(&text).unwrap();
    let mut maps = Maps::default();
    let path = Path::new("/etc/mytoken/users.map");
    maps.insert(path, Ok(mytoken_login::MapFile::parse(MAP.as_bytes())));
    let run = ScriptRun::new(case.clone());
    let issuers = [issuer(&case.options.issuer)];
    issuers[0].validate().unwrap();
    let attempt = Attempt {
        service: case.options.service.clone(),
        user: case.options.user.clone(),
        rhost: Some("192.0.2.7".into()),
        host: "login01".into(),
    };
    let context = LoginContext {
        settings: &settings,
        issuers: &issuers,
        servers: &[ConfiguredServer { name: "testbed", url: SERVER, tokens: &run }],
        accounts: &TestAccounts,
        maps: &maps,
        mappers: &run,
        keys: &run,
        userinfo: &Asked { run: &run, endpoint: "GET userinfo_endpoint", answer: &case.provider.userinfo },
        introspection: &Asked {
            run: &run,
            endpoint: "POST introspection_endpoint",
            answer: &case.provider.introspection,
        },
        used_tokens: None,
        link: case.link.is_some().then_some(&run),
        clock: &FixedClock(NOW),
        began: Instant::now(),
    };
    let (mut logged, mut explained) = (Vec::new(), String::new());
    for step in &case.run {
        assert_eq!(step.phase, "authenticate", "{about}");
        let report = authenticate(&attempt, &context, &mut ScriptedUser(&run));
        let code = report.outcome.as_ref().map_or_else(|refusal| refusal.class().pam(), |_| "PAM_SUCCESS");
        let line = report.log_line(&attempt);
        assert_eq!(code, format!("PAM_{}", step.expect), "{about}: {line}");
        if report.level() != Level::Debug || case.options.debug {
            logged.push((report.level().name(), line));
        }
        logged.extend(report.mapper_lines(&attempt).into_iter().map(|(level, line)| (level.name(), line)));
        let explanation = Explanation::of(&report, &attempt, &settings, &SettingPlaces::default());
        explained += &explanation.screen();
        let details = explanation.log_lines();
        assert!(!details.is_empty() || code == "PAM_CONV_ERR", "{about}");
        for line in details {
            assert!(line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{about}: {line}");
            explained += &line;
        }
        let credential = report.outcome.as_ref().ok().and_then(|accepted| accepted.credential.as_ref());
        assert_eq!(credential.is_some(), step.expect == "SUCCESS" && step.record, "{about}: record");
        let renewed = credential.filter(|credential| credential.renewal.is_some());
        let delegated = renewed.map(|credential| credential.delegated);
        assert_eq!(delegated, step.delegated, "{about}: delegated");
        if let Some(credential) = credential {
            assert!(credential.for_session || !run.link.is_left(), "{about}: for this session alone");
            let (exp, leeway) = (credential.exp, issuers[0].leeway.as_secs());
            assert_eq!(credential.good_until, exp + leeway, "{about}: good until");
            assert_eq!(credential.lifetime, exp.saturating_sub(NOW), "{about}: lifetime");
        }
        // A refusal whose time could reveal something is delayed.
        let quick = matches!(step.expect.as_str(), "SUCCESS" | "USER_UNKNOWN" | "CONV_ERR")
            || report.answered.is_none()
            || report.outcome.as_ref().is_err_and(|refusal| refusal.reason() == "empty");
        let delay = remaining_fail_delay(&report, Duration::from_secs(60), Instant::now());
        assert_eq!(delay.is_zero(), quick, "{about}: delayed for {delay:?}");
    }
    assert_eq!(run.link.is_left(), case.link.as_ref().is_some_and(|link| link.left), "{about}: left for the agent");
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
    let shown = format!("{logged:?}{:?}{explained}", run.messages.borrow());
    for (name, part) in secret_parts(&run.texts) {
        assert!(!shown.contains(part), "{about}: {name} is shown: {shown}");
    }
}

#[test]
fn logins_follow_their_scripts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/login");
    let mut failed = Vec::new();
    for case in cases(&directory) {
        let about = case.about.clone();
        if std::panic::catch_unwind(|| run_script(&case, &directory)).is_err() {
            failed.push(about);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
