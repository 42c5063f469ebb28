// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of what the captures cannot show: faults, overlapping uses, and a server without quirks.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Config, Quirks, Server, Upstream, unix_now};
use crate::http::{Handler, Reply, Request, Response};
use crate::provider::link::{ProviderInfo, TokenEndpoint};

/// A provider that grants everything; with a gate it waits for a signal first.
#[derive(Default)]
struct GenerousProvider {
    gate: Mutex<Option<Gate>>,
}

/// Each request announces itself and waits for a signal.
#[derive(Clone)]
struct Gate {
    arrived: SyncSender<()>,
    signals: Arc<Mutex<Receiver<()>>>,
}

impl TokenEndpoint for GenerousProvider {
    fn token(&self, form: &[(String, String)]) -> Result<Response, String> {
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.arrived.send(()).unwrap();
            gate.signals.lock().unwrap().recv().unwrap();
        }
        let scope = form.iter().find(|(key, _)| key == "scope").map(|(_, scope)| scope.clone());
        Ok(Response::json(
            200,
            &json!({"access_token": "opaque", "token_type": "Bearer", "expires_in": 60, "scope": scope,
                    "refresh_token": "refresh", "id_token": "e30.eyJzdWIiOiJhbGljZSJ9."}),
        ))
    }

    fn revoke(&self, _form: &[(String, String)]) -> Result<Response, String> {
        Ok(Response::empty(200))
    }
}

struct TestServer {
    server: Arc<Server>,
    provider: Arc<GenerousProvider>,
}

impl TestServer {
    fn new(quirks: Quirks) -> Self {
        let provider = Arc::new(GenerousProvider::default());
        let info = ProviderInfo {
            issuer: "https://op.test".into(),
            authorization_endpoint: "https://op.test/authorize".into(),
            client_id: "mytoken".into(),
            scopes: vec!["openid".into(), "a".into()],
        };
        let upstream = Upstream { name: "OP".into(), info, link: Arc::clone(&provider) as _ };
        let config = Config { quirks, ..Config::captured("https://mt.test", vec![upstream]) };
        Self { server: Arc::new(Server::new(config).unwrap()), provider }
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        send(&self.server, method, path, body)
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send("POST", path, body).unwrap()
    }

    fn fault(&self, name: &str, args: &Value) {
        self.server.set_fault(name, args).unwrap();
    }

    /// Gets a first token.
    fn login(&self, mut request: Value) -> String {
        request["oidc_issuer"] = json!("https://op.test");
        let mut start = request.clone();
        start["grant_type"] = json!("oidc_flow");
        let (_, started) = self.post("/api/v0/token/my", &start);
        let consent = started["consent_uri"].as_str().unwrap().strip_prefix("https://mt.test").unwrap().to_owned();
        let (_, consented) = self.post(&consent, &request);
        let (_, state) = consented["authorization_uri"].as_str().unwrap().split_once("&state=").unwrap();
        let (status, _) = self.send("GET", &format!("/redirect?code=x&state={state}"), &Value::Null).unwrap();
        assert_eq!(status, 303);
        let poll = json!({"grant_type": "polling_code", "polling_code": started["polling_code"]});
        self.post("/api/v0/token/my", &poll).1["mytoken"].as_str().unwrap().to_owned()
    }

    fn access_token(&self, mytoken: &str) -> (u16, Value) {
        self.post("/api/v0/token/access", &json!({"grant_type": "mytoken", "mytoken": mytoken}))
    }

    fn introspect(&self, mytoken: &str) -> (u16, Value) {
        self.post("/api/v0/tokeninfo", &json!({"action": "introspect", "mytoken": mytoken}))
    }
}

fn send(server: &Server, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    send_text(server, method, path, if body.is_null() { String::new() } else { body.to_string() })
}

fn send_text(server: &Server, method: &str, path: &str, body: String) -> Option<(u16, Value)> {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query.to_owned())));
    let request = Request {
        method: method.into(),
        path: path.into(),
        query,
        headers: vec![("Content-Type".into(), "application/json".into())],
        body: body.into(),
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    match server.handle(&request) {
        Reply::Answer(answer) | Reply::Late(answer, _) | Reply::Drip(answer, _) => {
            Some((answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null)))
        }
        Reply::Close => None,
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[test]
fn a_dropped_answer_loses_the_successor() {
    let test = TestServer::new(Quirks::default());
    let first = test.login(json!({"capabilities": ["AT", "tokeninfo"], "rotation": {"on_AT": true}}));
    test.fault("drop-after-commit", &json!({"endpoint": "access_token", "times": 1}));
    let ask = json!({"grant_type": "mytoken", "mytoken": first});
    assert_eq!(test.send("POST", "/api/v0/token/access", &ask), None);
    assert_eq!(test.access_token(&first).0, 401);
    let statuses: Vec<Value> =
        test.server.journal().iter().rev().take(2).map(|entry| entry["status"].clone()).collect();
    assert_eq!(statuses, [json!(401), json!(null)]);
}

#[test]
fn an_outage_changes_nothing() {
    let test = TestServer::new(Quirks::default());
    let first = test.login(json!({"capabilities": ["AT"], "rotation": {"on_AT": true}}));
    test.fault("outage", &json!({"times": 1}));
    assert_eq!(test.send("POST", "/api/v0/token/access", &json!({"mytoken": first})), None);
    assert_eq!(test.access_token(&first).0, 200);
}

#[test]
fn an_empty_access_token_is_counted_and_rotates() {
    let test = TestServer::new(Quirks::default());
    let request =
        json!({"capabilities": ["AT", "tokeninfo"], "rotation": {"on_AT": true}, "restrictions": [{"usages_AT": 5}]});
    let first = test.login(request);
    test.fault("empty-access-token", &json!({"times": 1}));
    let (status, answer) = test.access_token(&first);
    assert_eq!((status, answer["access_token"].as_str()), (200, Some("")));
    let second = text(&answer, "/token_update/mytoken");
    let (_, answer) = test.introspect(&second);
    assert_eq!(answer.pointer("/token/restrictions/0/usages_AT_done"), Some(&json!(1)));
    assert_eq!(text(&test.access_token(&second).1, "/access_token"), "opaque");
}

#[test]
fn the_fault_broader_child_gives_a_child_all_of_its_parents_rights() {
    let test = TestServer::new(Quirks::default());
    let parent = test.login(json!({"capabilities": ["AT", "create_mytoken"]}));
    let request =
        json!({"grant_type": "mytoken", "mytoken": parent, "capabilities": ["AT"], "restrictions": [{"usages_AT": 1}]});
    test.fault("broader-child", &json!({"times": 1}));
    let (_, broader) = test.post("/api/v0/token/my", &request);
    assert_eq!((&broader["capabilities"], broader.get("restrictions")), (&json!(["AT", "create_mytoken"]), None));
    let (_, asked) = test.post("/api/v0/token/my", &request);
    assert_eq!((&asked["capabilities"], &asked["restrictions"]), (&json!(["AT"]), &json!([{"usages_AT": 1}])));
}

#[test]
fn a_skewed_clock_refuses_valid_tokens() {
    let test = TestServer::new(Quirks::default());
    let token = test.login(json!({"capabilities": ["AT"], "restrictions": [{"exp": unix_now() + 100}]}));
    test.fault("clock-skew", &json!({"seconds": -3600}));
    assert_eq!(text(&test.access_token(&token).1, "/error_description"), "Token used before issued");
    test.fault("clock-skew", &json!({"seconds": 3600}));
    assert!(text(&test.access_token(&token).1, "/error_description").starts_with("token is expired by "));
    test.fault("clear", &json!({}));
    assert_eq!(test.access_token(&token).0, 200);
}

#[test]
fn overlapping_uses_all_succeed_and_the_last_successor_wins() {
    let test = TestServer::new(Quirks::default());
    let token = test.login(
        json!({"capabilities": ["AT", "tokeninfo"], "rotation": {"on_AT": true}, "restrictions": [{"usages_AT": 3}]}),
    );
    let (arrived, arrivals) = sync_channel(2);
    let (go, signals) = sync_channel(2);
    *test.provider.gate.lock().unwrap() = Some(Gate { arrived, signals: Arc::new(Mutex::new(signals)) });
    let uses: Vec<_> = (0..2)
        .map(|_| {
            let (server, ask) = (Arc::clone(&test.server), json!({"grant_type": "mytoken", "mytoken": token}));
            std::thread::spawn(move || send(&server, "POST", "/api/v0/token/access", &ask).unwrap())
        })
        .collect();
    // Both requests have passed all checks before either is answered.
    arrivals.recv().unwrap();
    arrivals.recv().unwrap();
    go.send(()).unwrap();
    go.send(()).unwrap();
    let answers: Vec<(u16, Value)> = uses.into_iter().map(|one| one.join().unwrap()).collect();
    *test.provider.gate.lock().unwrap() = None;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let successors: Vec<String> = answers.iter().map(|(_, answer)| text(answer, "/token_update/mytoken")).collect();
    assert_ne!(successors[0], successors[1]);
    let introspected: Vec<(u16, Value)> = successors.iter().map(|token| test.introspect(token)).collect();
    assert!(introspected.iter().all(|(status, _)| *status == 200), "{introspected:?}");
    assert_eq!(introspected[0].1.pointer("/token/restrictions/0/usages_AT_done"), Some(&json!(2)));
    // Which successor stays valid is chance. The other gets 500, or 401 after the valid one has rotated again.
    let after: Vec<u16> = successors
        .iter()
        .map(|token| test.post("/api/v0/token/access", &json!({"grant_type": "mytoken", "mytoken": token})).0)
        .collect();
    assert!(matches!(after.as_slice(), [200, 401] | [500, 200]), "{after:?}");
}

#[test]
fn without_quirks_requests_are_obeyed_and_dropped_clauses_are_errors() {
    let test = TestServer::new(Quirks::NONE);
    let token = test.login(json!({"capabilities": ["AT", "create_mytoken", "tokeninfo"]}));
    let ask = json!({"grant_type": "mytoken", "mytoken": token, "scope": "a"});
    assert_eq!(text(&test.post("/api/v0/token/access", &ask).1, "/scope"), "a offline_access");
    let narrow = json!({"grant_type": "mytoken", "mytoken": token, "restrictions": [{"exp": unix_now() + 50}]});
    let (_, parent) = test.post("/api/v0/token/my", &narrow);
    let wider = json!({"grant_type": "mytoken", "mytoken": parent["mytoken"], "error_on_restrictions": true,
                       "restrictions": [{"exp": unix_now() + 500}]});
    assert_eq!(test.post("/api/v0/token/my", &wider).0, 400);
    let short =
        json!({"grant_type": "mytoken", "mytoken": token, "response_type": "short_token", "rotation": {"on_AT": true}});
    let short = text(&test.post("/api/v0/token/my", &short).1, "/mytoken");
    let (status, rotated) = test.access_token(&short);
    assert_eq!((status, text(&rotated, "/token_update/mytoken_type")), (200, "short_token".into()));
    assert_eq!(test.access_token(&short).0, 401);
    assert_eq!(test.access_token(&text(&rotated, "/token_update/mytoken")).0, 200);
    let (_, answer) = test.introspect(&token);
    let itself = json!({"token": token, "mom_id": answer["mom_id"]});
    assert_eq!(test.send("POST", "/api/v0/token/revoke", &itself).unwrap().0, 204);
    assert_eq!(test.introspect(&token).0, 401);
}

#[test]
fn equal_clauses_of_a_child_are_compared_by_their_text() {
    let clauses = |quirks, written: &str| {
        let test = TestServer::new(quirks);
        let parent = test.login(json!({"capabilities": ["AT", "create_mytoken"]}));
        let request = format!(r#"{{"grant_type": "mytoken", "mytoken": "{parent}", "restrictions": [{written}]}}"#);
        let (status, child) = send_text(&test.server, "POST", "/api/v0/token/my", request).unwrap();
        assert_eq!(status, 200, "{child}");
        child["restrictions"].as_array().unwrap().len()
    };
    assert_eq!(clauses(Quirks::default(), r#"{"scope": "a"}, {"scope": "a"}"#), 2);
    assert_eq!(clauses(Quirks::default(), r#"{"scope":"a"},{"scope":"a"}"#), 1);
    assert_eq!(clauses(Quirks::NONE, r#"{"scope": "a"}, {"scope": "a"}"#), 1);
}

#[test]
fn the_journal_has_no_secrets() {
    let test = TestServer::new(Quirks::default());
    let token = test.login(json!({"capabilities": ["AT"]}));
    test.access_token(&token);
    let written = json!(test.server.journal()).to_string();
    assert!(!written.contains(&token) && !written.contains("state"));
    let consents = test.server.journal().iter().filter(|entry| entry["path"] == "/c/*").count();
    assert_eq!(consents, 1, "{written}");
    let last = test.server.journal().pop().unwrap();
    assert_eq!(
        (&last["endpoint"], &last["grant_type"], &last["status"]),
        (&json!("access_token"), &json!("mytoken"), &json!(200))
    );
}

#[test]
fn extreme_numbers_cause_no_overflow() {
    let test = TestServer::new(Quirks::default());
    let parent = test.login(json!({"capabilities": ["AT", "create_mytoken"]}));
    let child = |parent: &str, clauses: Value| {
        let request = json!({"grant_type": "mytoken", "mytoken": parent, "restrictions": clauses,
                          "rotation": {"lifetime": i64::MAX, "on_AT": true}});
        let (status, answer) = test.post("/api/v0/token/my", &request);
        assert_eq!(status, 200, "{answer}");
        text(&answer, "/mytoken")
    };
    for clause in [json!({"exp": i64::MIN}), json!({"exp": i64::MAX, "nbf": i64::MAX}), json!({"usages_AT": i64::MIN})]
    {
        let token = child(&parent, json!([clause]));
        let (status, answer) = test.access_token(&token);
        assert!(matches!(status, 401 | 403), "{clause} {answer}");
    }
    let few = child(&parent, json!([{"usages_AT": i64::MAX}]));
    child(&few, json!([{"usages_AT": i64::MIN}, {"usages_AT": i64::MIN}]));
}
