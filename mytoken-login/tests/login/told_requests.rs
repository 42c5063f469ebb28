// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent of the host hears of each request that a login sends, and the login waits for nothing.

use std::io::Read as _;
use std::os::unix::net::UnixListener;

use crate::fake::Reply;
use crate::fake::mytoken_server::{MytokenServer, access_token, mytoken, roots, soon};
use mytoken::http::{HttpSettings, LazyClient};
use mytoken::private_files::Owner;
use mytoken::server::AccessTokenRequest;
use mytoken::{Secret, SystemClock};
use mytoken_login::budget::{AgentNotes, Allowance, BudgetSettings, LedgerFile};
use mytoken_login::{Refusal, Remote, ServerTokens, TokenService};
use serde_json::{Value, json};

/// Refuses transfer codes, and exchanges mytokens.
fn server() -> MytokenServer {
    MytokenServer::with_handler(|request| {
        if request.json()["grant_type"] == "mytoken" {
            let token = access_token(&json!({"exp": 1_900_000_000}));
            let granted = json!({"access_token": token.expose(), "expires_in": 3600, "scope": "storage.read", "audience": ["https://se.example.org"]});
            Reply::json(200, &granted)
        } else {
            Reply::json(401, &json!({"error": "invalid_token", "error_description": "Bad polling or transfer code"}))
        }
    })
}

/// What one login does, with an agent that hears of it. `server` is the one of `act`.
fn login(server: &MytokenServer, agent: &AgentNotes, act: impl FnOnce(&ServerTokens<'_>, &Allowance<'_>)) {
    let directory = tempfile::tempdir().unwrap();
    let http = HttpSettings { roots: roots(), loopback_http: true, ..HttpSettings::default() };
    let (http, ledger) =
        (LazyClient::new(&http), LedgerFile::new(&directory.path().join("mytoken/login"), Owner::current()));
    let settings = BudgetSettings { per_address: 3, ..BudgetSettings::default() };
    let remote = Remote::of(None, Some("192.0.2.1"));
    let allowance = Allowance::new(Some(&ledger), &settings, remote, None).telling(Some(agent));
    act(&ServerTokens::new(server.url(), &http, None, &SystemClock, &allowance), &allowance);
}

fn guess(tokens: &ServerTokens<'_>) -> Refusal {
    tokens.redeem(&Secret::new("AbCdEfGh"), soon()).unwrap_err()
}

fn present(tokens: &ServerTokens<'_>) {
    let mytoken = mytoken(json!({}));
    let (scope, audience) = ("storage.read", "https://se.example.org");
    tokens.exchange(&AccessTokenRequest { mytoken: &mytoken, scope, audience, comment: "" }, false, soon()).unwrap();
}

/// What was told so far. Nobody has answered.
fn told(listener: &UnixListener) -> Vec<Value> {
    listener.set_nonblocking(true).unwrap();
    let mut told = Vec::new();
    while let Ok((mut stream, _)) = listener.accept() {
        stream.set_nonblocking(false).unwrap();
        let mut line = String::new();
        stream.read_to_string(&mut line).unwrap();
        told.push(serde_json::from_str(&line).unwrap());
    }
    told
}

#[test]
fn each_request_is_told_once_and_again_with_its_user_when_the_login_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let (listener, agent) = (UnixListener::bind(&socket).unwrap(), AgentNotes::new(socket));
    let server = server();
    let note = |sent: u32, login: Value| json!({"v": 1, "call": "permit", "server": server.url().to_string(), "sent": sent, "login": login});
    let unverified = || note(1, json!({"unverified": {}}));

    login(&server, &agent, |tokens, _| {
        assert_eq!(guess(tokens).reason(), "code_unknown");
        assert_eq!(told(&listener), [unverified()]);
        // The server does not know it, so nothing is left to revoke.
        tokens.revoke(&mytoken(json!({})), soon()).unwrap();
        assert_eq!(told(&listener), [unverified()], "a revocation, too");
        guess(tokens);
        assert_eq!(told(&listener), [unverified()]);
        assert_eq!(guess(tokens).reason(), "budget_address");
        assert_eq!(told(&listener), [] as [Value; 0], "what is not sent is not told");
    });
    login(&server, &agent, |tokens, allowance| {
        guess(tokens);
        present(tokens);
        assert_eq!(told(&listener), [unverified(), unverified()]);
        assert!(allowance.accept(4711, soon()));
        assert_eq!(told(&listener), [note(2, json!({"accepted": {"uid": 4711}}))]);
    });
}

#[test]
fn a_login_goes_on_without_an_agent() {
    let directory = tempfile::tempdir().unwrap();
    let agent = AgentNotes::new(directory.path().join("agent.sock"));
    login(&server(), &agent, |tokens, allowance| {
        present(tokens);
        assert!(!allowance.accept(4711, soon()), "the session has to tell it");
    });
}

#[test]
fn an_agent_that_was_away_hears_of_the_requests_when_the_login_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let (server, agent) = (server(), AgentNotes::new(socket.clone()));
    let note = |sent: u32, login: Value| json!({"v": 1, "call": "permit", "server": server.url().to_string(), "sent": sent, "login": login});
    login(&server, &agent, |tokens, allowance| {
        guess(tokens);
        present(tokens);
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(allowance.accept(4711, soon()));
        let (missed, accepted) = (note(2, json!({"unverified": {}})), note(2, json!({"accepted": {"uid": 4711}})));
        assert_eq!(told(&listener), [missed, accepted]);
        assert!(allowance.accept(4711, soon()));
        assert_eq!(told(&listener), [] as [Value; 0], "once");
    });
}
