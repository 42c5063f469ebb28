// SPDX-License-Identifier: MIT OR Apache-2.0
//! A login at the provider over real sockets and TLS. The client is not the mytoken server: it sends a browser to the
//! provider, redeems the code with PKCE and requests userinfo.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the lints know tests only by their attribute")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use testserver::browser::Visit;
use testserver::client::{Fetch, HttpClient};
use testserver::form::{decode, encode, first};
use testserver::http::{Handler, Reply, Request, Response};
use testserver::journal::JournaledHandler;
use testserver::listener::{self, Listening};
use testserver::provider::Provider;
use testserver::provider::faults::{Endpoint, FaultOrder};
use testserver::provider::keys::Algorithm;
use testserver::provider::policy::{Client, Policy, Setup};
use testserver::provider::users::Users;
use testserver::tls::{self, TlsConfig};

/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// The client's own web server.
struct Application;

impl Handler for Application {
    fn handle(&self, request: &Request) -> Reply {
        match request.path.as_str() {
            "/redirect" => {
                let query = decode(request.query.as_deref().unwrap_or_default().as_bytes());
                let shown = first(&query, "code").or(first(&query, "error")).unwrap_or_default();
                Reply::Answer(Response::typed(200, "text/plain", shown.to_owned()))
            }
            _ => Reply::Answer(Response::typed(200, "text/plain", request.body.len().to_string())),
        }
    }
}

struct TestServers {
    folder: tempfile::TempDir,
    tls: TlsConfig,
    application: Listening,
    op: Listening,
    provider: Arc<Provider>,
    journal: Arc<JournaledHandler>,
    network: HttpClient,
    issuer: String,
}

fn servers() -> TestServers {
    let folder = tempfile::tempdir().unwrap();
    let tls = tls::server_config(folder.path(), &["localhost".into(), "127.0.0.1".into()]).unwrap();
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let application = listener::spawn(free, Some(tls.clone()), Arc::new(Application)).unwrap();
    // The issuer URL contains the port, so a free port is chosen before the provider is created.
    let address = std::net::TcpListener::bind(free).unwrap().local_addr().unwrap();
    let issuer = format!("https://localhost:{}", address.port());
    let provider = Arc::new(
        Provider::new(Setup {
            issuer: issuer.clone(),
            folder: None,
            clients: vec![Client {
                id: "application".into(),
                secret: None,
                jwks: None,
                redirect_uris: vec![format!("https://localhost:{}/redirect", application.address().port())],
            }],
            users: Users::from_json(json!({"bob": {"email": "bob@example.org"}})).unwrap(),
            policy: Policy { algorithm: Algorithm::Es256, ..Policy::default() },
        })
        .unwrap(),
    );
    let journal = Arc::new(JournaledHandler::of(provider.clone()));
    let op = listener::spawn(address, Some(tls.clone()), journal.clone()).unwrap();
    let network = HttpClient::new(Some(&folder.path().join(tls::CA_FILE))).unwrap();
    TestServers { folder, tls, application, op, provider, journal, network, issuer }
}

impl TestServers {
    fn pairs(list: &[(&str, &str)]) -> String {
        encode(&list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    }

    fn redirect_uri(&self) -> String {
        format!("https://localhost:{}/redirect", self.application.address().port())
    }

    fn get(&self, url: &str) -> Result<Value, String> {
        let response = self.network.fetch("GET", url, &[], b"")?;
        serde_json::from_slice(&response.body).map_err(|error| format!("{}: {error}", response.status))
    }

    /// Logs in by a browser. Returns the text that the application shows, and the browser's requests.
    fn visit(&self, decline: bool) -> (String, Vec<String>) {
        let document = self.get(&format!("{}/.well-known/openid-configuration", self.issuer)).unwrap();
        assert_eq!(document["issuer"], self.issuer);
        let query = Self::pairs(&[
            ("client_id", "application"),
            ("redirect_uri", &self.redirect_uri()),
            ("response_type", "code"),
            ("scope", "openid email"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("state", "\"<s&t>"),
        ]);
        let url = format!("{}?{query}", document["authorization_endpoint"].as_str().unwrap());
        let mut requests = Vec::new();
        let mut report = |line: &str| requests.push(line.to_owned());
        let mut visit = Visit::new(&self.network, &mut report);
        visit.decline = decline;
        let end = visit.open(&url, "bob").unwrap();
        (String::from_utf8(end.body).unwrap(), requests)
    }

    fn redeem(&self, code: &str, verifier: &str) -> Response {
        let form = Self::pairs(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri()),
            ("client_id", "application"),
            ("code_verifier", verifier),
        ]);
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        self.network.fetch("POST", &format!("{}/token", self.issuer), &headers, form.as_bytes()).unwrap()
    }
}

#[test]
fn a_public_client_logs_a_user_in() {
    let servers = servers();
    let (code, requests) = servers.visit(false);
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests.iter().all(|request| !request.contains(&code) && !request.contains('?')), "{requests:?}");
    let tokens: Value = serde_json::from_slice(&servers.redeem(&code, VERIFIER).body).unwrap();
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let userinfo = servers
        .network
        .fetch("GET", &format!("{}/userinfo", servers.issuer), &[("Authorization", &bearer)], b"")
        .unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&userinfo.body).unwrap(),
        json!({"sub": "bob", "email": "bob@example.org"})
    );
    let journal = json!(servers.journal.entries());
    assert_eq!(journal.as_array().unwrap().iter().filter(|entry| entry["path"] == "/token").count(), 1);
    let secrets = [code.as_str(), VERIFIER, tokens["refresh_token"].as_str().unwrap(), &bearer];
    assert!(secrets.iter().all(|secret| !journal.to_string().contains(secret)));
    let (code, _) = servers.visit(false);
    assert_eq!(servers.redeem(&code, "a wrong verifier that is long enough for PKCE").status, 400);
}

#[test]
fn a_declined_login_returns_access_denied() {
    let (shown, _) = servers().visit(true);
    assert_eq!(shown, "access_denied");
}

#[test]
fn an_outage_refuses_connections_until_it_ends() {
    let servers = servers();
    let jwks = format!("{}/jwks", servers.issuer);
    assert!(servers.get(&jwks).is_ok());
    servers.op.set_outage(true);
    assert!(std::net::TcpStream::connect(servers.op.address()).is_err());
    let refused = servers.get(&jwks).unwrap_err();
    assert!(refused.contains("refused"), "{refused}");
    servers.op.set_outage(false);
    assert!(servers.get(&jwks).is_ok());
}

#[test]
fn faults_work_over_tls() {
    let servers = servers();
    let jwks = format!("{}/jwks", servers.issuer);
    let fault = |name: &str, argument| {
        let order = FaultOrder { name: name.to_owned(), endpoint: Endpoint::Jwks, argument, times: None };
        servers.provider.set_fault(&order).unwrap();
    };
    fault("close", None);
    assert!(servers.get(&jwks).is_err());
    fault("latency", Some(300));
    let start = Instant::now();
    assert!(servers.get(&jwks).is_ok());
    assert!(start.elapsed().as_millis() >= 300);
    fault("drip", Some(2));
    let start = Instant::now();
    let length = servers.get(&jwks).unwrap().to_string().len();
    assert!(start.elapsed().as_millis() >= 2 * u128::try_from(length - 1).unwrap());
    fault("429", None);
    let limited = servers.network.fetch("GET", &jwks, &[], b"").unwrap();
    assert_eq!((limited.status, limited.header("Retry-After")), (429, Some("7")));
    servers.provider.clear_faults();
    assert!(servers.get(&jwks).is_ok());
}

#[test]
fn too_large_requests_are_refused() {
    let servers = servers();
    let url = format!("https://localhost:{}/echo", servers.application.address().port());
    let send = |size: usize| servers.network.fetch("POST", &url, &[], &vec![b'x'; size]);
    assert_eq!(send(4 << 20).unwrap().body, b"4194304");
    // The client may still be writing when the answer comes, and then sees a broken connection.
    assert!(send((4 << 20) + 1).map_or(true, |answer| answer.status == 413));
}

#[test]
fn the_authority_survives_a_restart_and_other_names_get_a_new_certificate() {
    let servers = servers();
    let ca = || std::fs::read(servers.folder.path().join(tls::CA_FILE)).unwrap();
    let server = || std::fs::read(servers.folder.path().join("tls/server.pem")).unwrap();
    let before = (ca(), server());
    tls::server_config(servers.folder.path(), &["localhost".into(), "127.0.0.1".into()]).unwrap();
    assert_eq!((ca(), server()), before);
    let renamed = tls::server_config(servers.folder.path(), &["127.0.0.1".into()]).unwrap();
    assert_eq!(ca(), before.0);
    assert_ne!(server(), before.1);
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listening = listener::spawn(free, Some(renamed), Arc::new(Application)).unwrap();
    let at =
        |host: &str| servers.network.fetch("GET", &format!("https://{host}:{}/", listening.address().port()), &[], b"");
    assert_eq!(at("127.0.0.1").unwrap().status, 200);
    assert!(at("localhost").is_err(), "the certificate is for other names");
    let without_ca = HttpClient::new(None).unwrap();
    assert!(without_ca.fetch("GET", &format!("{}/jwks", servers.issuer), &[], b"").is_err());
    drop(servers.tls);
}
