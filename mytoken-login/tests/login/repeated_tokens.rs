// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client that sends the same token at each prompt of a connection.

use crate::fake::Reply;
use crate::fake::mytoken_server::{MytokenServer, access_token, mytoken, roots, soon};
use mytoken::cache::DiskCache;
use mytoken::http::{HttpSettings, LazyClient};
use mytoken::private_files::Owner;
use mytoken::server::AccessTokenRequest;
use mytoken::{Secret, SystemClock};
use mytoken_login::budget::{Allowance, BudgetSettings, LedgerFile};
use mytoken_login::{Refusal, RefusalClass, Remote, ServerTokens, TokenService};
use serde_json::json;

/// A host, and what becomes of a login after its exchange.
struct LoginHost {
    directory: tempfile::TempDir,
    settings: BudgetSettings,
}

impl LoginHost {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), settings: BudgetSettings::default() }
    }

    fn ledger_file(&self) -> LedgerFile {
        LedgerFile::new(&self.directory.path().join("mytoken/login"), Owner::current())
    }

    /// One attempt in `connection`, in a process of its own. After the exchange the rules say `verdict`.
    fn attempt(
        &self,
        server: &MytokenServer,
        connection: Option<&str>,
        entered: &Secret,
        verdict: Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let http = HttpSettings { roots: roots(), loopback_http: true, ..HttpSettings::default() };
        let cache = DiskCache::new(&self.directory.path().join("cache"), Owner::current());
        let (http, ledger) = (LazyClient::new(&http), self.ledger_file());
        let remote = Remote::of(None, Some("192.0.2.1"));
        let allowance = Allowance::new(Some(&ledger), &self.settings, remote, connection);
        let tokens = ServerTokens::new(server.url(), &http, Some(&cache), &SystemClock, &allowance);
        let exchanged = if entered.expose().len() == 8 {
            tokens.redeem(entered, soon()).map(drop)
        } else {
            let (scope, audience) = ("storage.read", "https://se.example.org");
            let request = AccessTokenRequest { mytoken: entered, scope, audience, comment: "" };
            tokens.exchange(&request, false, soon()).map(drop)
        };
        let outcome = exchanged.and(verdict);
        match &outcome {
            Ok(()) => allowance.refund(soon()),
            Err(refusal) => allowance.record_refusal(refusal, soon()),
        }
        outcome
    }
}

fn good() -> Reply {
    let token = access_token(&json!({"exp": 1_900_000_000}));
    let granted = json!({"access_token": token.expose(), "expires_in": 3600, "scope": "storage.read", "audience": ["https://se.example.org"]});
    Reply::json(200, &granted)
}

fn not_mapped() -> Result<(), Refusal> {
    Err(Refusal::NotMapped { account: "bob".to_owned(), maps_to: None })
}

#[test]
fn three_prompts_with_the_same_token_cost_one_exchange() {
    let (host, server) = (LoginHost::new(), MytokenServer::with_replies(vec![good()]));
    let token = mytoken(json!({}));
    let answers: Vec<Refusal> =
        (0..3).map(|_| host.attempt(&server, Some("a 1"), &token, not_mapped()).unwrap_err()).collect();
    assert_eq!(answers.iter().map(Refusal::reason).collect::<Vec<_>>(), ["not_mapped", "repeated", "repeated"]);
    assert_eq!((answers[1].class(), server.requests().len()), (RefusalClass::Rejected, 1));
    let (ledger, _) = host.ledger_file().read(&host.settings).unwrap();
    assert_eq!(ledger.by_remote(), [("192.0.2.1", 1)], "what is not sent is not counted");
    // Another token, another connection, and logins that have none.
    let other = mytoken(json!({"name": "other"}));
    for (connection, token) in [(Some("a 1"), &other), (Some("a 2"), &token), (None, &token), (None, &token)] {
        let before = server.requests().len();
        let refusal = host.attempt(&server, connection, token, not_mapped()).unwrap_err();
        assert_eq!((refusal.reason(), server.requests().len()), ("not_mapped", before + 1), "{connection:?}");
    }
    let file = std::fs::read_to_string(host.directory.path().join("mytoken/login/ledger")).unwrap();
    assert!(file.contains("refused_tokens") && !file.contains(token.expose()), "{file}");
}

#[test]
fn a_code_that_the_server_does_not_know_is_sent_once() {
    let unknown = json!({"error": "invalid_token", "error_description": "Bad polling or transfer code"});
    let (host, server) = (LoginHost::new(), MytokenServer::with_replies(vec![Reply::json(401, &unknown)]));
    let code = Secret::new("AbCdEfGh");
    let reason = || host.attempt(&server, Some("a 1"), &code, Ok(())).unwrap_err().reason();
    assert_eq!([reason(), reason(), reason()], ["code_unknown", "repeated", "repeated"]);
    assert_eq!(server.requests().len(), 1);
}

/// Another module of the stack may refuse the login afterwards, for a mistyped second factor.
#[test]
fn a_token_of_an_accepted_login_is_accepted_again_in_its_connection() {
    let (host, server) = (LoginHost::new(), MytokenServer::with_replies(vec![good()]));
    for _ in 0..3 {
        host.attempt(&server, Some("a 1"), &mytoken(json!({})), Ok(())).unwrap();
    }
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_token_that_was_not_sent_is_not_repeated() {
    let (mut host, server) = (LoginHost::new(), MytokenServer::with_replies(vec![good()]));
    let token = mytoken(json!({}));
    host.settings.per_address = 0;
    let refusal = host.attempt(&server, Some("a 1"), &token, Ok(())).unwrap_err();
    assert_eq!((refusal.reason(), server.requests().len()), ("budget_address", 0));
    host.settings.per_address = 5;
    host.attempt(&server, Some("a 1"), &token, Ok(())).unwrap();
}
