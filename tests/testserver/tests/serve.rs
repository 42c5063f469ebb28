// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests the program as the testbed runs it: all servers over TLS, the control API, the browser command, SIGTERM.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the lints know tests only by their attribute")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testserver::client::{Fetch, HttpClient};
use testserver::http::Response;

const PROGRAM: &str = env!("CARGO_BIN_EXE_testserver");

struct RunningServer {
    process: Child,
    folder: tempfile::TempDir,
    network: HttpClient,
    endpoints: Value,
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(more: &[&str]) -> RunningServer {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users.toml");
    std::fs::write(&users, "[alice]\nemail = \"alice@example.org\"\ngroups = [\"hpc\"]\n").unwrap();
    // Making an RSA key takes seconds in a debug build.
    let config = folder.path().join("config.json");
    std::fs::write(&config, r#"{"policy": {"algorithm": "ES256"}, "resource_audiences": ["https://testbed"]}"#)
        .unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("serve").arg("--dir").arg(folder.path()).arg("--users").arg(&users).arg("--config").arg(&config);
    for address in ["--mytoken-addr", "--provider-addr", "--resource-addr", "--control-addr"] {
        command.args([address, "127.0.0.1:0"]);
    }
    let mut process = command.args(more).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let endpoints: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("endpoints.json")).unwrap()).unwrap();
    let ca = endpoints["ca"].as_str().map(std::path::Path::new);
    RunningServer { network: HttpClient::new(ca).unwrap(), process, folder, endpoints }
}

fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

impl RunningServer {
    fn url(&self, service: &str, path: &str) -> String {
        format!("{}{path}", self.endpoints[service].as_str().unwrap())
    }

    fn post(&self, service: &str, path: &str, request: &Value) -> Response {
        let headers = [("Content-Type", "application/json")];
        self.network.fetch("POST", &self.url(service, path), &headers, request.to_string().as_bytes()).unwrap()
    }

    fn control(&self, path: &str, request: &Value) -> Value {
        let answer = self.post("control", path, request);
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        body(&answer)
    }

    fn first_token(&self, restrictions: &Value) -> String {
        let request = json!({"user": "alice", "capabilities": ["AT", "create_mytoken"], "restrictions": restrictions});
        self.control("/mytoken/first-token", &request)["mytoken"].as_str().unwrap().to_owned()
    }

    fn access_token(&self, more: &Value) -> Response {
        let mut request = json!({"grant_type": "mytoken"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("mytoken", "/api/v0/token/access", &request)
    }

    fn data(&self, token: &str) -> (u16, Value) {
        let bearer = format!("Bearer {token}");
        let answer = self.network.fetch("GET", &self.url("resource", "/data"), &[("Authorization", &bearer)], b"");
        let answer = answer.unwrap();
        (answer.status, body(&answer))
    }

    fn journal(&self, service: &str) -> Vec<Value> {
        let url = self.url("control", &format!("/journal?service={service}"));
        body(&self.network.fetch("GET", &url, &[], b"").unwrap()).as_array().unwrap().clone()
    }
}

#[test]
fn the_resource_server_accepts_a_token_until_expiry_or_key_rotation() {
    let served = serve(&["--at-lifetime", "15"]);
    let clauses = json!([{"scope": "storage.read compute.read", "audience": ["https://testbed"]}]);
    let mytoken = served.first_token(&clauses);
    let request = json!({"mytoken": mytoken, "scope": "storage.read", "audience": "https://testbed"});
    let answer = served.access_token(&request);
    assert_eq!((answer.status, &body(&answer)["expires_in"]), (200, &json!(15)));
    let access_token = body(&answer)["access_token"].as_str().unwrap().to_owned();
    let (status, data) = served.data(&access_token);
    assert_eq!((status, &data["sub"], &data["scope"]), (200, &json!("alice"), &json!("storage.read")));
    assert!(data["seconds_left"].as_u64().unwrap() <= 15);

    served.control("/provider/lifetime", &json!({"seconds": 1}));
    let short = body(&served.access_token(&request))["access_token"].as_str().unwrap().to_owned();
    assert_eq!(served.data(&short).0, 200);
    std::thread::sleep(Duration::from_millis(1100));
    let (status, refusal) = served.data(&short);
    assert_eq!(status, 401);
    assert!(refusal["reason"].as_str().unwrap().contains("expired"), "{refusal}");

    served.control("/provider/rotate", &json!({"drop_old": true}));
    assert_eq!(served.data(&access_token).0, 401, "its key was dropped");
    let minted = served.control("/provider/mint", &json!({"user": "bob", "claims": {"aud": "https://testbed"}}));
    assert_eq!(served.data(minted["token"].as_str().unwrap()).1["sub"], "bob");

    let asked: Vec<_> = served.journal("resource").iter().map(|entry| entry["status"].clone()).collect();
    assert_eq!(asked, [200, 200, 401, 401, 200]);
    let journals =
        json!([served.journal("mytoken"), served.journal("provider"), served.journal("resource")]).to_string();
    assert!([&mytoken, &access_token, &short].iter().all(|secret| !journals.contains(*secret)));
    let delete = served.network.fetch("DELETE", &served.url("control", "/journal"), &[], b"").unwrap();
    assert_eq!(delete.status, 200);
    assert!(served.journal("mytoken").is_empty() && served.journal("resource").is_empty());
}

#[test]
fn faults_and_outages_start_and_end() {
    let served = serve(&[]);
    let mytoken = served.first_token(&json!([]));
    let ask = || served.access_token(&json!({"mytoken": mytoken}));
    assert_eq!(ask().status, 200);
    served.control("/provider/fault", &json!({"name": "500-html"}));
    let during_fault = ask();
    assert_eq!((during_fault.status, &body(&during_fault)["access_token"]), (200, &json!("")), "MT-12");
    served.control("/provider/fault", &json!({"name": "refused"}));
    assert_eq!(ask().status, 500);
    let discovery = served.url("provider", "/.well-known/openid-configuration");
    assert!(served.network.fetch("GET", &discovery, &[], b"").unwrap_err().contains("refused"));
    served.control("/clear", &json!({}));
    assert_eq!(ask().status, 200);
    assert_eq!(served.network.fetch("GET", &discovery, &[], b"").unwrap().status, 200);
    served.control("/outage", &json!({"service": "provider", "on": true}));
    assert_eq!(ask().status, 500);
    served.control("/outage", &json!({"service": "provider", "on": false}));
    assert_eq!(ask().status, 200);
    served.control("/outage", &json!({"service": "mytoken", "on": true}));
    let refused = served.network.fetch("GET", &served.url("mytoken", "/"), &[], b"");
    assert!(refused.unwrap_err().contains("refused"));
    served.control("/clear", &json!({}));
    served.control("/mytoken/fault", &json!({"name": "500-html", "times": 1}));
    assert_eq!([ask().status, ask().status], [500, 200]);
    for (path, request) in [
        ("/provider/fault", json!({"name": "no such fault"})),
        ("/mytoken/fault", json!({"name": "no such fault"})),
        ("/provider/policy", json!({"no such member": 1})),
        ("/outage", json!({"service": "weather", "on": true})),
        ("/mytoken/first-token", json!({"capabilities": ["AT"]})),
    ] {
        assert_eq!(served.post("control", path, &request).status, 400, "{path}");
    }
    assert_eq!(served.post("control", "/no/such/call", &json!({})).status, 404);
}

#[test]
fn the_journal_tells_which_answers_were_not_sent() {
    let served = serve(&[]);
    let mytoken = served.first_token(&json!([]));
    let make = || {
        let request = json!({"grant_type": "mytoken", "mytoken": mytoken, "capabilities": ["AT"]});
        served.network.fetch(
            "POST",
            &served.url("mytoken", "/api/v0/token/my"),
            &[("Content-Type", "application/json")],
            request.to_string().as_bytes(),
        )
    };
    let made = || -> Vec<Value> {
        served.journal("mytoken").into_iter().filter(|entry| entry["grant_type"] == "mytoken").collect()
    };
    assert_eq!(make().unwrap().status, 200);
    served.control("/mytoken/fault", &json!({"name": "latency", "ms": 300, "times": 1}));
    assert_eq!(make().unwrap().status, 200);
    served.control("/mytoken/fault", &json!({"name": "latency", "ms": 60_000}));
    std::thread::scope(|scope| {
        let cut = scope.spawn(make);
        let limit = Instant::now() + Duration::from_secs(20);
        while made().len() < 3 && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(20));
        }
        served.control("/outage", &json!({"service": "mytoken", "on": true}));
        assert!(cut.join().unwrap().is_err());
    });
    let seen: Vec<_> = made().iter().map(|entry| (entry["late_ms"].clone(), entry["sent"].clone())).collect();
    assert_eq!(seen, [(json!(0), json!(true)), (json!(300), json!(true)), (json!(60_000), json!(false))]);
}

#[test]
fn a_request_limit_counts_per_address_and_exempts_loopback() {
    let answers = |more: &[&str]| {
        let served = serve(&[&["--request-limit", "3/300s"], more].concat());
        let discovery = served.url("mytoken", "/.well-known/mytoken-configuration");
        let seen: Vec<Response> = (0..5).map(|_| served.network.fetch("GET", &discovery, &[], b"").unwrap()).collect();
        let peers: Vec<Value> = served.journal("mytoken").iter().map(|entry| entry["peer"].clone()).collect();
        assert_eq!(peers, ["127.0.0.1"; 5]);
        seen
    };
    let statuses = |seen: &[Response]| seen.iter().map(|answer| answer.status).collect::<Vec<_>>();
    let by_default = answers(&[]);
    assert_eq!(statuses(&by_default), [200; 5]);
    assert!(by_default.iter().all(|answer| answer.header("x-ratelimit-limit").is_none()));

    let limited = answers(&["--request-limit-exempt", "192.0.2.1"]);
    assert_eq!(statuses(&limited), [200, 200, 200, 429, 429]);
    assert_eq!(limited[2].header("x-ratelimit-remaining"), Some("0"));
    let refused = &limited[3];
    assert_eq!((refused.body.as_slice(), refused.header("x-ratelimit-limit")), (&b"Too Many Requests"[..], None));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=300).contains(&wait), "{wait}");
}

#[test]
fn the_browser_command_logs_a_user_in_and_shows_no_secrets() {
    let served = serve(&[]);
    let start = |capability: &str| {
        let request = json!({"grant_type": "oidc_flow", "oidc_flow": "authorization_code", "client_type": "native",
            "oidc_issuer": served.endpoints["provider"], "capabilities": [capability], "application_name": "a \"b\" & <c>"});
        body(&served.post("mytoken", "/api/v0/token/my", &request))
    };
    let poll = |started: &Value| {
        let request = json!({"grant_type": "polling_code", "polling_code": started["polling_code"]});
        served.post("mytoken", "/api/v0/token/my", &request)
    };
    let browse = |started: &Value, more: &[&str]| {
        let ca = served.folder.path().join("ca.pem");
        let link = started["consent_uri"].as_str().unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["browser", link, "--user", "alice", "--ca"]).arg(ca).args(more);
        let output = command.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(!printed.contains(link.rsplit('/').next().unwrap()) && !printed.contains("code="), "{printed}");
        (output.status.success(), printed)
    };
    let started = start("AT");
    assert_eq!(poll(&started).status, 428);
    let (success, printed) = browse(&started, &[]);
    assert!(success, "{printed}");
    assert_eq!(printed.lines().count(), 5, "{printed}");
    let token = poll(&started);
    assert_eq!((token.status, &body(&token)["capabilities"]), (200, &json!(["AT"])));
    assert!(!browse(&started, &[]).0, "the code is used up");
    let declined = start("AT");
    assert!(browse(&declined, &["--decline"]).0);
    assert_eq!(body(&poll(&declined))["error"], "access_denied");
}

#[test]
fn sigterm_ends_the_server_also_during_a_fault() {
    let mut served = serve(&["--plain"]);
    assert_eq!(served.endpoints["ca"], Value::Null);
    assert!(served.url("mytoken", "").starts_with("http://"));
    assert!(served.first_token(&json!([])).starts_with("eyJ"));
    // A request that waits in a fault must not keep the process running.
    served.control("/provider/fault", &json!({"name": "latency", "argument": 60_000, "endpoint": "jwks"}));
    let address = served.url("provider", "").replace("http://", "");
    let mut waiting = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut waiting, b"GET /jwks HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let pid = served.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(wait_for_exit(&mut served.process, Duration::from_secs(5)).success());
}

fn wait_for_exit(process: &mut Child, timeout: Duration) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < timeout, "still running");
        std::thread::sleep(Duration::from_millis(20));
    }
}
