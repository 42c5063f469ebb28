// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh token`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::login_site::{AUDIENCE, LoginSite, stderr};

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn token(site: &LoginSite, more: &[&str]) -> String {
    let output = site.run(&[&["token"], more].concat());
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_script_gets_one_line_with_a_token_for_the_audience_of_the_mytoken() {
    let site = LoginSite::start();
    site.store_mytoken(&["AT"], &Value::Null);
    let line = token(&site, &[]);
    assert_eq!((line.lines().count(), line.ends_with('\n')), (1, true));
    let whole = claims(line.trim());
    assert_eq!((&whole["aud"], whole["scope"].as_str()), (&json!(AUDIENCE), Some("openid profile storage.read")));
    let narrow = claims(token(&site, &["--scope", "storage.read"]).trim());
    assert_eq!(narrow["scope"].as_str(), Some("storage.read"));
    let object: Value = serde_json::from_str(&token(&site, &["--json", "--scope=openid profile"])).unwrap();
    let exp = claims(object["access_token"].as_str().unwrap())["exp"].as_u64().unwrap();
    assert!(object["expires_at"].as_u64().unwrap().abs_diff(exp) <= 2, "{object}");
    assert_eq!((object["scope"].as_str(), &object["audience"]), (Some("openid profile"), &json!([AUDIENCE])));
}

#[test]
fn a_file_holds_the_token_for_its_owner_alone() {
    let site = LoginSite::start();
    site.store_mytoken(&["AT"], &Value::Null);
    let file = site.path("home/token");
    fs::write(&file, "what was there").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(token(&site, &["--file", file.to_str().unwrap()]), "");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(claims(&fs::read_to_string(&file).unwrap())["exp"].is_u64());
    let device = site.path("home/device");
    std::os::unix::fs::symlink("/dev/null", &device).unwrap();
    let refused = site.run(&["token", "--file", device.to_str().unwrap()]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("it is no regular file"), "{refused:?}");
    assert!(device.is_symlink());
    let nowhere = site.run(&["token", "--file", "/nonexistent/token"]);
    assert!(nowhere.status.code() == Some(1) && stderr(&nowhere).contains("cannot write /nonexistent/token"));
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let site = LoginSite::start();
    site.store_mytoken(&["AT"], &Value::Null);
    for command in [&["token"][..], &["token", "--json"], &["status", "--json"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = site.helper(command).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains("cannot write to standard output: No space left"), "{output:?}");
    }
}

#[test]
fn a_rotating_mytoken_is_replaced_at_each_token() {
    let site = LoginSite::start();
    let first = site.store_mytoken(&["AT"], &json!({"on_AT": true, "lifetime": 0, "auto_revoke": true}));
    token(&site, &[]);
    let second = site.stored().unwrap();
    assert_ne!(second.mytoken, first.mytoken);
    token(&site, &[]);
    assert_ne!(site.stored().unwrap().mytoken, second.mytoken);
}

#[test]
fn what_the_mytoken_does_not_give_is_told_without_a_request_for_a_token() {
    let site = LoginSite::start();
    let none = site.run(&["token"]);
    assert!(none.status.code() == Some(1) && stderr(&none).contains("run: mytoken-ssh login"), "{none:?}");
    site.store_mytoken(&["AT"], &Value::Null);
    let before = site.control("GET", "/journal?service=mytoken", &Value::Null);
    let other = site.run(&["token", "--scope", "compute.write"]);
    assert!(other.stdout.is_empty() && other.status.code() == Some(1), "{other:?}");
    let told =
        "your mytoken gives no access token for scope compute.write; it is for: scopes openid profile storage.read";
    assert!(stderr(&other).contains(told), "{other:?}");
    let after = site.control("GET", "/journal?service=mytoken", &Value::Null);
    let asked = |journal: &Value| journal.to_string().matches("access_token").count();
    assert_eq!(asked(&before), asked(&after), "{after}");
    site.store_mytoken(&["create_mytoken"], &Value::Null);
    assert!(stderr(&site.run(&["token"])).contains("lacks the capability AT"));
}
