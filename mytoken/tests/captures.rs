// SPDX-License-Identifier: MIT OR Apache-2.0
//! The client gets the recorded answers of the real server: each recorded exchange that corresponds to an operation of the client is
//! replayed. `tests/captures/README.md` describes the captures.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod fake;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::mytoken_server::{MytokenServer, NOW, access_token, client, mytoken, soon};
use fake::{Fake, Reply};
use mytoken::InputError;
use mytoken::capabilities::Capabilities;
use mytoken::http::HttpClient;
use mytoken::restrictions::{Clause, within};
use mytoken::server::ServerError;
use mytoken::server::{AccessTokenRequest, Deliver, LoginRequest, PendingLogin, Poll, Server, SubTokenRequest};
use mytoken::urls::{IssuerUrl, ServerUrl};
use mytoken::{Error, Kind, Secret};
use serde_json::{Map, Value, json};

/// A possible original of a captured answer: each pattern is replaced by a value that it matches.
fn real(value: &Value, key: &str, claims: Option<&Value>) -> Value {
    match value {
        Value::Object(members) => {
            members.iter().map(|(key, value)| (key.clone(), real(value, key, claims))).collect::<Map<_, _>>().into()
        }
        Value::Array(list) => list.iter().map(|value| real(value, key, claims)).collect(),
        Value::String(text) => real_text(text, key, claims),
        other => other.clone(),
    }
}

fn real_text(text: &str, key: &str, claims: Option<&Value>) -> Value {
    let (pattern, argument) = text.split_once(':').unwrap_or((text, ""));
    match pattern {
        _ if key == "access_token" && text.starts_with("@jwt") => json!(access_token(&json!({"exp": NOW + 3600}))),
        "@jwt" => json!(mytoken(claims.map(|claims| real(claims, "", None)).unwrap_or(json!({})))),
        "@short" => json!("abcdefghjkmnopqrstuvwxyzABCDEFGHJKLMNOPQRSTUVWXYZabcdefghjkmnopq"),
        "@code" => json!("abcdefgh"),
        "@momid" => json!("A".repeat(86) + "=="),
        "@uuid" => json!("3f2b7c1e-5d4a-4c8e-9a10-77b1c0de4242"),
        "@unix" => json!(NOW.saturating_add_signed(argument.parse::<i64>().unwrap())),
        "@about" => json!(argument.parse::<u64>().unwrap()),
        "@consent_uri" => json!("https://mt.example.org/c/AbCdEfGh"),
        "@contains" => json!(argument),
        "@any" if key == "expires_in" => json!(3600),
        "@opaque" => json!("opaque-access-token-0123456789"),
        _ if key == "mytoken" && text.starts_with('$') => json!(mytoken(json!({}))),
        _ => json!(text.replace("${issuer}", "https://mt.example.org").replace("${op}", "https://op.example.org")),
    }
}

/// One recorded request with its answer.
struct Exchange {
    place: String,
    endpoint: String,
    sent: Value,
    answer: Value,
    reply: Reply,
}

fn exchanges(directory: &Path) -> Vec<Exchange> {
    let mut list = Vec::new();
    for name in ["access-token", "subtoken", "transfer", "revocation", "tokeninfo", "rotation", "login-flow", "faults"]
    {
        let text = std::fs::read_to_string(directory.join(name).with_extension("json")).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        for scenario in file["scenarios"].as_array().unwrap() {
            for step in scenario["steps"].as_array().unwrap() {
                let (request, response) = (&step["request"], &step["response"]);
                let plain = request["headers"].is_null() && request["suffix"].is_null();
                let (Some(endpoint), true, Some(status)) =
                    (request["endpoint"].as_str(), plain && request["json"].is_object(), response["status"].as_u64())
                else {
                    continue;
                };
                let claims = ["mytoken", "token_update.mytoken"].map(|path| step["jwt"].get(path));
                let claims = claims.into_iter().flatten().next().map(|jwt| jwt["claims"].clone());
                let answer = real(&response["json"], "", claims.as_ref());
                let body = match (&answer, response["text"].as_str()) {
                    (Value::Null, None) => String::new(),
                    (Value::Null, Some(text)) => text.to_owned(),
                    (json, _) => json.to_string(),
                };
                list.push(Exchange {
                    place: format!("{name}/{}/{}", scenario["name"], step["name"]),
                    endpoint: endpoint.to_owned(),
                    sent: request["json"].clone(),
                    reply: Reply::new(
                        u16::try_from(status).unwrap(),
                        response["content_type"].as_str().unwrap_or("text/plain"),
                        body,
                    ),
                    answer,
                });
            }
        }
    }
    list
}

/// The kind of error that an error answer must cause.
fn expected_kind(exchange: &Exchange) -> Kind {
    match exchange.reply.status {
        404 | 500.. => Kind::Unavailable,
        _ => Kind::Refused,
    }
}

struct Replayer<'h> {
    http: &'h HttpClient,
    reply: Arc<Mutex<Reply>>,
    server: Server<'h>,
    replayed: BTreeMap<&'static str, usize>,
}

impl Replayer<'_> {
    /// Runs the operation that sends such a request, with the recorded answer. `None`: the client has no such operation.
    fn replay(&mut self, exchange: &Exchange) -> Option<()> {
        *self.reply.lock().unwrap() = exchange.reply.clone();
        let sent = |name: &str| exchange.sent[name].as_str();
        let operation = match (exchange.endpoint.as_str(), sent("grant_type"), sent("action")) {
            ("access_token_endpoint", Some("mytoken"), _) => self.access(exchange)?,
            ("mytoken_endpoint", Some("mytoken"), _) => self.child(exchange)?,
            ("mytoken_endpoint", Some("transfer_code"), _) => {
                sent("transfer_code").filter(|code| !code.trim().is_empty())?;
                self.check(exchange, self.server.redeem(&Secret::new("abcdefgh"), soon()).map(drop));
                "redeem"
            }
            ("mytoken_endpoint", Some("polling_code"), _) => self.poll(exchange),
            ("mytoken_endpoint", Some("oidc_flow"), _) => self.login(exchange),
            ("token_transfer_endpoint", ..) => {
                sent("mytoken").filter(|token| !token.is_empty())?;
                self.check(exchange, self.server.transfer_code(&mytoken(json!({})), soon()).map(drop));
                "transfer_code"
            }
            ("revocation_endpoint", ..) if exchange.sent["mom_id"].is_null() => {
                sent("token").filter(|token| !token.is_empty())?;
                self.check(exchange, self.server.revoke(&mytoken(json!({})), false, soon()));
                "revoke"
            }
            ("tokeninfo_endpoint", _, Some("introspect")) => {
                self.check(exchange, self.server.introspect(&mytoken(json!({})), soon()).map(drop));
                "introspect"
            }
            ("tokeninfo_endpoint", _, Some("event_history")) => {
                let mut kept = 0;
                let result = self.server.history(&mytoken(json!({})), &mut counting(&mut kept), soon());
                self.check(exchange, result.map(drop));
                assert_eq!(kept, usize::from(exchange.answer["token_update"].is_object()), "{}", exchange.place);
                "history"
            }
            _ => return None,
        };
        *self.replayed.entry(operation).or_default() += 1;
        Some(())
    }

    /// Checks that the operation succeeded if the real server did, and failed with the right kind of error if not.
    fn check(&self, exchange: &Exchange, result: Result<(), Error>) {
        match (exchange.reply.status, result) {
            (200 | 204, Ok(())) => {}
            (200 | 204, Err(error)) => panic!("{}: {error}", exchange.place),
            (status, Ok(())) => panic!("{}: {status} passed for a success", exchange.place),
            (_, Err(error)) => assert_eq!(error.kind(), expected_kind(exchange), "{}: {error}", exchange.place),
        }
    }

    fn access(&self, exchange: &Exchange) -> Option<&'static str> {
        exchange.sent["mytoken"].as_str().filter(|token| !token.is_empty())?;
        let token = mytoken(json!({"rotation": {"on_AT": true}}));
        let scope = exchange.sent["scope"].as_str().unwrap_or_default();
        let audience = exchange.sent["audience"].as_str().unwrap_or_default();
        let request = AccessTokenRequest { mytoken: &token, scope, audience, comment: "" };
        let mut kept = 0;
        let result = self.server.access_token(&request, &mut counting(&mut kept), soon());
        let place = &exchange.place;
        assert_eq!(kept, usize::from(exchange.answer["token_update"].is_object()), "{place}: successors stored");
        match result {
            _ if exchange.reply.status != 200 => self.check(exchange, result.map(drop)),
            Ok(got) => assert_eq!(got.token.expose(), exchange.answer["access_token"].as_str().unwrap(), "{place}"),
            Err(Error::Server(ServerError::EmptyAccessToken { .. })) => {
                assert_eq!(exchange.answer["access_token"], "", "{place}");
            }
            // The server may grant something else. Then the answer must differ from the request.
            Err(Error::Server(ServerError::OtherAccessToken { .. })) => {
                let given = (&exchange.answer["scope"], &exchange.answer["audience"]);
                assert!(
                    (!scope.is_empty() && given.0 != scope) || (!audience.is_empty() && *given.1 != json!([audience])),
                    "{place}"
                );
                return Some("access token other than asked for");
            }
            Err(error) => panic!("{place}: {error}"),
        }
        Some("access_token")
    }

    fn child(&self, exchange: &Exchange) -> Option<&'static str> {
        exchange.sent["mytoken"].as_str().filter(|token| !token.is_empty())?;
        let (restrictions, capabilities) = match exchange.reply.status {
            200 => (real(&exchange.sent["restrictions"], "", None), exchange.sent["capabilities"].clone()),
            // Most requests that the server refused were malformed; the client would not send them.
            _ => (json!([{"exp": NOW + 100}]), json!("AT")),
        };
        let wanted: Vec<Clause> = serde_json::from_value(restrictions).ok()?;
        let capabilities: Capabilities = serde_json::from_value(capabilities).ok()?;
        let deliver = match exchange.sent["response_type"].as_str() {
            Some("transfer_code") => Deliver::TransferCode,
            _ => Deliver::Token,
        };
        // With an unrestricted parent the wanted clauses are sent unchanged.
        let parent = mytoken(json!({}));
        let request = SubTokenRequest {
            parent: &parent,
            parent_clauses: Some(&[]),
            wanted: &wanted,
            capabilities: &capabilities,
            name: "",
            deliver,
        };
        let result = self.server.create(&request, &mut counting(&mut 0), soon());
        match result {
            Err(
                Error::Input(InputError::InvalidRequest { .. })
                | Error::Input(InputError::NotNarrower { .. })
                | Error::Server(ServerError::NotOffered { .. }),
            ) => None,
            Ok(granted) => {
                assert_eq!(exchange.reply.status, 200, "{}", exchange.place);
                assert!(within(&granted.restrictions, &wanted), "{}: broader but accepted", exchange.place);
                assert!(granted.capabilities.within(&capabilities), "{}", exchange.place);
                Some("create")
            }
            Err(Error::Server(ServerError::Broader { .. })) => {
                assert_eq!(exchange.reply.status, 200, "{}", exchange.place);
                assert_ne!(
                    (&exchange.answer["restrictions"], &exchange.answer["rotation"]),
                    (&real(&exchange.sent["restrictions"], "", None), &Value::Null),
                    "{}: exactly as requested",
                    exchange.place
                );
                Some("create, broader")
            }
            Err(error) => {
                self.check(exchange, Err(error));
                Some("create, refused")
            }
        }
    }

    fn poll(&self, exchange: &Exchange) -> &'static str {
        let pending = PendingLogin {
            consent_uri: Secret::new("https://mt.example.org/c/AbCdEfGh"),
            polling_code: Secret::new("Zm9vYmFy"),
            expires_in: Duration::from_secs(300),
            interval: Duration::from_secs(5),
        };
        match self.server.poll(&pending, soon()) {
            Ok(Poll::Pending) => {
                assert_eq!(exchange.reply.status, 428, "{}", exchange.place);
                return "poll, pending";
            }
            Ok(Poll::Granted(granted)) => {
                assert_eq!(granted.rotates(), exchange.answer["rotation"]["on_AT"] == true, "{}", exchange.place);
                self.check(exchange, Ok(()));
            }
            Err(error) => self.check(exchange, Err(error)),
        }
        "poll"
    }

    fn login(&self, exchange: &Exchange) -> &'static str {
        let issuer = IssuerUrl::parse("https://op.example.org", false).unwrap();
        let capabilities = Capabilities::parse("AT").unwrap();
        let request = LoginRequest {
            issuer: &issuer,
            capabilities: &capabilities,
            restrictions: &[],
            rotation: None,
            name: "",
            application_name: "",
        };
        let result = self.server.start_login(&request, soon());
        if exchange.sent["client_type"] == "web" || exchange.reply.status == 278 {
            // The answer for web applications has no polling code.
            assert!(result.is_err(), "{}", exchange.place);
            return "start_login, web";
        }
        self.check(exchange, result.map(drop));
        "start_login"
    }
}

fn counting(kept: &mut usize) -> impl FnMut(&Secret) -> Result<(), Error> {
    |successor| {
        assert!(successor.len() > 100);
        *kept += 1;
        Ok(())
    }
}

#[test]
fn captured_answers_are_understood() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures");
    let reply = Arc::new(Mutex::new(Reply::hang_up()));
    let next = Arc::clone(&reply);
    let fake = MytokenServer::with_handler(move |request| {
        let mut reply = next.lock().unwrap().clone();
        if request.path == "/revoke" && request.json()["recursive"] == true {
            reply = Reply::new(204, "text/plain", ""); // the client revokes a broader child
        }
        // The introspected token must belong to this server.
        let own = format!("\"http://{}\"", request.header("host").unwrap());
        let text = String::from_utf8(reply.body).unwrap();
        reply.body = text.replace("\"iss\":\"https://mt.example.org\"", &format!("\"iss\":{own}")).into_bytes();
        reply
    });
    let http = client();
    let mut replayer = Replayer { http: &http, reply, server: fake.server(&http), replayed: BTreeMap::new() };
    let exchanges = exchanges(&directory);
    let skipped = exchanges.iter().filter(|exchange| replayer.replay(exchange).is_none()).count();
    println!("{:#?}, {skipped} without an operation of the client", replayer.replayed);
    let least = [
        ("access_token", 50),
        ("access token other than asked for", 2),
        ("create", 10),
        ("create, broader", 5),
        ("create, refused", 2),
        ("redeem", 10),
        ("poll", 10),
        ("poll, pending", 3),
        ("start_login", 10),
        ("transfer_code", 5),
        ("revoke", 10),
        ("introspect", 10),
        ("history", 3),
    ];
    for (operation, least) in least {
        assert!(replayer.replayed.get(operation).is_some_and(|count| *count >= least), "too few: {operation}");
    }
    discovery(&directory, replayer.http);
}

fn discovery(directory: &Path, http: &HttpClient) {
    let file: Value =
        serde_json::from_str(&std::fs::read_to_string(directory.join("discovery.json")).unwrap()).unwrap();
    let document = file["scenarios"][0]["steps"][0]["response"]["json"].to_string();
    let fake = Fake::plain(move |request| {
        let own = format!("http://{}", request.header("host").unwrap());
        Reply::new(
            200,
            "application/json",
            document.replace("${issuer}", &own).replace("${op}", "https://op.example.org"),
        )
    });
    let url = ServerUrl::parse(&fake.url(""), true).unwrap();
    let server = Server::discover(http, &url, soon()).unwrap();
    assert_eq!(server.discovery().version.as_deref(), Some("0.10.2"));
    assert_eq!(server.discovery().providers_supported.len(), 2);
    assert_eq!(
        server.discovery().mytoken_endpoint_grant_types_supported,
        ["oidc_flow", "mytoken", "transfer_code", "polling_code"]
    );
    assert_eq!(server.discovery().mytoken_endpoint_oidc_flows_supported, ["authorization_code"]);
}
