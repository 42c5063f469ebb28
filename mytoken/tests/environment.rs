// SPDX-License-Identifier: MIT OR Apache-2.0
//! Proxy and certificate variables are ignored, except in an ordinary user's own tool: whoever starts the process controls its environment.
//! Each case runs in a child process with hostile variables.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod fake;

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use fake::{Fake, Reply, authority};
use mytoken::Deadline;
use mytoken::http::{HttpClient, HttpSettings, Roots};

/// Not a test: runs in the child process.
#[test]
#[ignore = "run by the other tests in a child process"]
fn child() {
    let (Ok(url), Ok(roots)) = (std::env::var("CASE_URL"), std::env::var("CASE_ROOTS")) else { return };
    let roots = match roots.as_str() {
        "distribution" => Roots::Distribution,
        "user" => Roots::UserTool,
        file => Roots::File(file.into()),
    };
    let settings = HttpSettings { roots, loopback_http: true, ..HttpSettings::default() };
    let outcome = HttpClient::new(&settings)
        .and_then(|client| client.get(&url, None, Deadline::after(Duration::from_secs(5)), 1024))
        .map(|answer| answer.status);
    println!("OUTCOME {outcome:?}");
}

/// The child's outcome, with every variable pointing to `proxy` and `ca`.
fn outcome(url: &str, roots: &str, proxy: &str, ca: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "child", "--nocapture"]).env_clear();
    for variable in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(variable, proxy);
    }
    let output = command.env("SSL_CERT_FILE", ca).env("CASE_URL", url).env("CASE_ROOTS", roots).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.split("OUTCOME ").nth(1).unwrap_or_else(|| panic!("no outcome: {text}"));
    line.lines().next().unwrap_or_default().to_owned()
}

struct Servers {
    proxy: Fake,
    tls: Fake,
    plain: Fake,
    ca: tempfile::NamedTempFile,
}

impl Servers {
    fn new() -> Self {
        let (pem, config) = authority("127.0.0.1", false);
        let mut ca = tempfile::NamedTempFile::new().unwrap();
        ca.write_all(pem.as_bytes()).unwrap();
        Self {
            proxy: Fake::plain(|_| Reply::new(418, "text/plain", "proxy")),
            tls: Fake::tls(config, |_| Reply::new(200, "text/plain", "")),
            plain: Fake::plain(|_| Reply::new(200, "text/plain", "")),
            ca,
        }
    }

    fn run(&self, url: &str, roots: &str) -> String {
        outcome(url, roots, &self.proxy.url(""), &self.ca.path().display().to_string())
    }
}

#[test]
fn proxy_variables_are_ignored() {
    let servers = Servers::new();
    let ca = servers.ca.path().display().to_string();
    assert_eq!(servers.run(&servers.tls.url("/"), &ca), "Ok(200)");
    assert_eq!(servers.run(&servers.plain.url("/"), &ca), "Ok(200)");
    assert_eq!(servers.proxy.connections(), 0);
}

#[test]
fn certificate_variables_are_ignored() {
    let servers = Servers::new();
    let outcome = servers.run(&servers.tls.url("/"), "distribution");
    assert!(outcome.starts_with("Err("), "{outcome}");
    assert_eq!(servers.tls.requests().len(), 0);
}

#[test]
fn a_users_own_tool_uses_proxy_and_certificate_variables() {
    let servers = Servers::new();
    assert_eq!(servers.run(&servers.plain.url("/"), "user"), "Ok(418)", "through the proxy");
    let without_proxy = outcome(&servers.tls.url("/"), "user", "", &servers.ca.path().display().to_string());
    assert_eq!(without_proxy, "Ok(200)", "trusting SSL_CERT_FILE");
}
