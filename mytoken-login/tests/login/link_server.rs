// SPDX-License-Identifier: MIT OR Apache-2.0
//! A login with a link at a mytoken server: what is asked for, what is counted, and what is left for the agent.

use std::path::Path;
use std::time::Instant;

use crate::fake::Reply;
use crate::fake::mytoken_server::{MytokenServer, NOW, mytoken, roots, soon};
use mytoken::cache::DiskCache;
use mytoken::capabilities::Capabilities;
use mytoken::http::{HttpSettings, LazyClient};
use mytoken::private_files::Owner;
use mytoken::restrictions::Clause;
use mytoken_login::budget::{Allowance, BudgetSettings, LedgerFile};
use mytoken_login::handover::{Abandoned, Handover};
use mytoken_login::link::{LinkOwner, LinkRecords, LinkRequest, LinkServer, LinkService, PollAnswer};
use mytoken_login::{ExchangeSettings, Refusal, Remote, ServerTokens};
use mytoken_wire::clock::FixedClock;
use serde_json::{Value, json};

fn started() -> Reply {
    let answer = json!({"consent_uri": "https://mt.example.org/c/AbCdEfGh", "polling_code": "Zm9vYmFy", "expires_in": 300, "interval": 5});
    Reply::json(200, &answer)
}

fn pending() -> Reply {
    Reply::json(428, &json!({"error": "authorization_pending"}))
}

fn request() -> LinkRequest {
    LinkRequest {
        issuer: "https://op.example.org".into(),
        capabilities: Capabilities::parse("AT").unwrap(),
        // The server's time of day counts, and it has none here.
        clause: Clause { exp: Some(4_000_000_000), hosts: vec!["this".into()], ..Clause::default() },
        name: "ssh session alice@login from 192.0.2.7".into(),
        application_name: "ssh login at login".into(),
    }
}

/// The records in the directory, as JSON.
fn records(directory: &Path) -> Vec<Value> {
    let Ok(accounts) = std::fs::read_dir(directory) else { return Vec::new() };
    let files = accounts.flat_map(|account| std::fs::read_dir(account.unwrap().path()).unwrap());
    files.map(|file| serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap()).collect()
}

/// Runs `login` with a host and this server. Afterwards no login waits. Returns what the agent finds then.
fn with_login(
    server: &MytokenServer,
    budget: &BudgetSettings,
    login: impl FnOnce(&LinkServer<'_>, &Path, &LedgerFile),
) -> Vec<Abandoned> {
    let directory = tempfile::tempdir().unwrap();
    let http = HttpSettings { roots: roots(), loopback_http: true, ..HttpSettings::default() };
    let (http, clock) = (LazyClient::new(&http), FixedClock(NOW));
    let cache = DiskCache::new(&directory.path().join("cache"), Owner::current());
    let ledger = LedgerFile::new(&directory.path().join("mytoken/login"), Owner::current());
    let place = directory.path().join("mytoken/handover");
    let handover = Handover::new(&place, Owner::current());
    let allowance = Allowance::new(Some(&ledger), budget, Remote::of(None, Some("192.0.2.7")), Some("a 1"));
    let tokens = ServerTokens::new(server.url(), &http, Some(&cache), &clock, &allowance);
    let kept = LinkRecords { records: Some(&handover), clock: &clock };
    let link = LinkServer::new(&tokens, &allowance, kept, "192.0.2.7".into(), Instant::now());
    login(&link, &place, &ledger);
    drop(link);
    assert!(ledger.read(budget).unwrap().0.links.is_empty(), "a login still waits");
    let (left, problems) = handover.abandoned(&clock);
    assert!(problems.is_empty() && left.len() == records(&place).len(), "{problems:?}");
    left
}

/// Whether the agent finds something while the login goes on. A clock that jumps does not end it.
fn is_found(place: &Path) -> bool {
    let handover = Handover::new(place, Owner::current());
    [NOW, NOW + 3_601, 0].into_iter().any(|now| !handover.abandoned(&FixedClock(now)).0.is_empty())
}

fn start(link: &LinkServer<'_>) -> Result<(), Refusal> {
    let exchange: ExchangeSettings = toml::from_str("server = 'testbed'").unwrap();
    let owner = LinkOwner { service: "sshd", account: "alice" };
    let started = link.start(&request(), &exchange, &owner, soon())?;
    assert_eq!((started.link.expose(), started.interval.as_secs()), ("https://mt.example.org/c/AbCdEfGh", 5));
    Ok(())
}

#[test]
fn what_a_login_has_made_is_kept_for_revocation_until_it_is_forgotten() {
    let own = mytoken(json!({}));
    let granted = json!({"mytoken": own.expose(), "mytoken_type": "token", "capabilities": ["AT"]});
    let server = MytokenServer::with_replies(vec![started(), pending(), Reply::json(200, &granted)]);
    let left = with_login(&server, &BudgetSettings::default(), |link, place, ledger| {
        start(link).unwrap();
        let sent = server.requests()[0].json();
        assert_eq!(sent["name"], "ssh session alice@login from 192.0.2.7");
        assert_eq!((&sent["restrictions"][0]["hosts"][0], &sent["capabilities"]), (&json!("this"), &json!(["AT"])));
        assert!(!ledger.read(&BudgetSettings::default()).unwrap().0.links.is_empty(), "it waits");
        // The record is nobody's: strangers must not spend what the agent has for the account.
        let [code] = &records(place)[..] else { panic!("{:?}", records(place)) };
        assert_eq!((&code["renewal"]["mytoken"], &code["uid"]), (&json!("Zm9vYmFy"), &json!(65_534)));

        assert!(!is_found(place), "its process runs");
        assert!(matches!(link.poll(soon()), Ok(PollAnswer::Pending)));
        assert!(matches!(link.poll(soon()), Ok(PollAnswer::Granted(_))));
        let [whole] = &records(place)[..] else { panic!("{:?}", records(place)) };
        assert_eq!(whole["renewal"]["mytoken"], own.expose(), "the code is used up");
        assert!(!is_found(place), "its process runs");
        assert!(ledger.read(&BudgetSettings::default()).unwrap().0.links.is_empty(), "it waits no longer");
        link.forget();
        assert_eq!(records(place), Vec::<Value>::new());
        assert_eq!(server.requests().len(), 3);
    });
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_mytoken_that_no_session_got_and_nobody_revoked_is_the_agents_when_the_login_is_over() {
    let own = mytoken(json!({}));
    let granted = json!({"mytoken": own.expose(), "mytoken_type": "token", "capabilities": ["AT"]});
    let server = MytokenServer::with_replies(vec![started(), Reply::json(200, &granted)]);
    let left = with_login(&server, &BudgetSettings::default(), |link, _, _| {
        start(link).unwrap();
        assert!(matches!(link.poll(soon()), Ok(PollAnswer::Granted(_))));
    });
    // The process of this test runs on, as that of a program which logs many people in.
    assert_eq!((left.len(), left[0].renewal.mytoken.expose()), (1, own.expose()));
    assert!(left[0].is_proven(), "a person has confirmed it");
    assert_ne!(left[0].until(), Some(NOW + 300), "it has an end of its own");
}

#[test]
fn a_link_that_is_given_up_is_revoked_or_left_for_the_agent() {
    let server = MytokenServer::with_replies(vec![started(), Reply::json(204, &json!({}))]);
    with_login(&server, &BudgetSettings::default(), |link, place, _| {
        start(link).unwrap();
        link.abandon(soon());
        assert_eq!(server.requests()[1].json()["token"], "Zm9vYmFy");
        assert_eq!(records(place), Vec::<Value>::new());
    });
    // The code has expired: the agent has nothing to revoke.
    let over = Reply::json(401, &json!({"error": "invalid_token"}));
    let server = MytokenServer::with_replies(vec![started(), over]);
    with_login(&server, &BudgetSettings::default(), |link, place, _| {
        start(link).unwrap();
        link.abandon(soon());
        assert_eq!((server.requests().len(), records(place).len()), (2, 0));
    });
    let server = MytokenServer::with_replies(vec![started(), Reply::json(500, &json!({}))]);
    let left = with_login(&server, &BudgetSettings::default(), |link, place, _| {
        start(link).unwrap();
        link.abandon(soon());
        assert_eq!(records(place).len(), 1);
        assert!(!is_found(place), "the login is not over");
    });
    assert_eq!((left.len(), left[0].renewal.mytoken.expose(), left[0].verified), (1, "Zm9vYmFy", false));
    // Nobody can use it after that, so it costs no request.
    assert_eq!((left[0].until(), left[0].is_proven()), (Some(NOW + 300), false));
}

#[test]
fn each_request_is_counted_before_it_is_sent() {
    let server = MytokenServer::with_replies(vec![started(), pending()]);
    let budget = BudgetSettings { per_address: 3, ..BudgetSettings::default() };
    with_login(&server, &budget, |link, _, _| {
        start(link).unwrap();
        for _ in 0..2 {
            assert!(matches!(link.poll(soon()), Ok(PollAnswer::Pending)));
        }
        assert!(matches!(link.poll(soon()), Err(Refusal::TooManyRequests { .. })));
        assert_eq!(server.requests().len(), 3);
    });
    let server = MytokenServer::with_replies(vec![started()]);
    let nothing = BudgetSettings { per_address: 0, ..BudgetSettings::default() };
    with_login(&server, &nothing, |link, place, _| {
        assert!(matches!(start(link), Err(Refusal::TooManyRequests { .. })));
        assert_eq!((server.requests().len(), records(place).len()), (0, 0));
    });
}

#[test]
fn the_answers_to_a_poll_are_told_apart() {
    let answer = |status, error: &str| Reply::json(status, &json!({"error": error}));
    for (reply, expected) in [
        (answer(401, "access_denied"), "Ok(Declined)"),
        (answer(401, "expired_token"), "Ok(Over)"),
        (answer(401, "invalid_token"), "Ok(Over)"),
        (answer(500, "internal_server_error"), "Err(Unavailable"),
        (Reply { status: 429, ..pending() }, "Err(TooManyRequests"),
    ] {
        let server = MytokenServer::with_replies(vec![started(), reply]);
        with_login(&server, &BudgetSettings::default(), |link, _, _| {
            start(link).unwrap();
            let answer = format!("{:?}", link.poll(soon()));
            assert!(answer.starts_with(expected), "{answer} instead of {expected}");
        });
    }
}
