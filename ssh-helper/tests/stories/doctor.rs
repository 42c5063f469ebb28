// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh doctor`.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Output;

use serde_json::Value;

use crate::login_site::{AUDIENCE, LoginSite};

/// Part and level of each finding, and the exit status.
fn doctor(site: &LoginSite, args: &[&str]) -> (Vec<(String, String)>, Output) {
    let output = site.run(&[&["doctor", "--json"], args].concat());
    let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (list.iter().map(|finding| (text(&finding["part"]), text(&finding["level"]))).collect(), output)
}

fn levels<'a>(found: &'a [(String, String)], part: &str) -> Vec<&'a str> {
    found.iter().filter(|finding| finding.0 == part).map(|finding| finding.1.as_str()).collect()
}

#[test]
fn each_fault_is_told_with_what_to_do() {
    let mut site = LoginSite::start();
    let (found, output) = doctor(&site, &[]);
    assert_eq!((levels(&found, "mytoken"), output.status.code()), (vec!["error"], Some(1)), "no mytoken");

    let entry = site.store_mytoken(&["AT"], &Value::Null);
    let screen = site.run(&["doctor", "tb"]);
    assert!(screen.status.success(), "{screen:?}");
    let shown = String::from_utf8(screen.stdout).unwrap();
    for line in [
        "ssh     ✓ OpenSSH_9.2p1",
        "askpass ✓ its socket has a place in",
        "accepts \"laptop\", valid ",
        "host    ! the host key of testbed is not known here",
        &format!("host    ✓ alice@testbed gets an access token for {AUDIENCE}\n"),
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains(entry.mytoken.expose()));

    // Another server's mytoken, and nothing says which one logins use.
    let mut other = entry.clone();
    other.server = mytoken::urls::ServerUrl::parse("https://127.0.0.1:1", false).unwrap();
    site.store().lock(crate::login_site::deadline()).unwrap().put(&other).unwrap();
    let (found, output) = doctor(&site, &["tb"]);
    assert_eq!((levels(&found, "mytoken"), output.status.code()), (vec!["warning", "ok"], Some(0)), "config.toml says");
    let file = site.path("home/.config/mytoken/config.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let without = config.lines().filter(|line| !line.starts_with("server = "));
    std::fs::write(&file, without.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let (found, output) = doctor(&site, &["tb"]);
    assert_eq!((levels(&found, "mytoken"), output.status.code()), (vec!["error", "warning", "ok"], Some(1)));
    std::fs::write(&file, config).unwrap();
    site.store().lock(crate::login_site::deadline()).unwrap().remove(&other.server).unwrap();

    // A mytoken that is revoked, a server that is away, a configuration that cannot be read.
    let http = site.http();
    let server = mytoken::server::Server::discover(&http, &site.url(), crate::login_site::deadline()).unwrap();
    server.revoke(&entry.mytoken, true, crate::login_site::deadline()).unwrap();
    let (found, output) = doctor(&site, &[]);
    assert_eq!((levels(&found, "mytoken"), output.status.code()), (vec!["error"], Some(1)), "revoked");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"fix\":\"mytoken-ssh login https://127.0.0.1"));
    site.stop_server();
    let (found, output) = doctor(&site, &[]);
    assert_eq!((levels(&found, "mytoken"), output.status.code()), (vec!["error"], Some(1)), "no server");
    site.configure("no_such_key = 1\n");
    let (found, output) = doctor(&site, &["tb"]);
    assert_eq!((levels(&found, "config"), output.status.code()), (vec!["error"], Some(1)));
    assert_eq!(levels(&found, "ssh"), ["ok"]);
}

/// An oidc-agent with one account, for as long as the test runs.
fn agent(socket: &std::path::Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(br#"{"status": "success", "info": ["cluster"]}"#).unwrap();
        }
    });
}

#[test]
fn oidc_agent_is_told_only_where_there_is_no_mytoken() {
    let site = LoginSite::start();
    let socket = site.path("agent");
    agent(&socket);
    let entry = format!("[[host]]\npattern = \"tb\"\naudience = \"{AUDIENCE}\"\nscope = \"openid\"\n");
    std::fs::write(site.path("home/.config/mytoken/hosts.toml"), entry).unwrap();
    let told = || {
        let output = site.helper(&["doctor", "tb"]).env("OIDC_SOCK", &socket).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.success())
    };
    let (shown, is_good) = told();
    assert!(is_good && shown.contains("mytoken ! ") && shown.contains("oidc-agent's cluster for"), "{shown}");
    // Of several mytokens, the user must say which.
    let entry = site.store_mytoken(&["AT"], &Value::Null);
    let other = mytoken::urls::ServerUrl::parse("https://127.0.0.1:1", false).unwrap();
    let other = mytoken::token_store::StoredToken { server: other, ..entry };
    site.store().lock(crate::login_site::deadline()).unwrap().put(&other).unwrap();
    let file = site.path("home/.config/mytoken/config.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let without = config.lines().filter(|line| !line.starts_with("server = "));
    std::fs::write(&file, without.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let (shown, is_good) = told();
    assert!(!is_good && shown.contains("mytoken ✗ ") && !shown.contains("oidc-agent"), "{shown}");
}
