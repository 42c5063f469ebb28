// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh code`.

use std::fs::File;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::login_site::{AUDIENCE, LoginSite, stderr};

const CAPABILITIES: &[&str] = &["AT", "create_mytoken", "tokeninfo:introspect"];

#[test]
fn a_person_gets_a_code_with_the_rights_of_one_login_to_the_host() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    let output = site.run(&["code", "tb"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let code = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!((code.len(), code.ends_with('\n')), (9, true), "{code:?}");
    let told = stderr(&output);
    assert!(told.starts_with("mytoken-ssh: for one login to testbed within ") && told.lines().count() == 1, "{told}");
    let child = site.redeem(code.trim()).unwrap();
    assert_eq!(child.capabilities.to_string(), "AT");
    let clause = &child.restrictions[0];
    assert!(clause.usages_at == Some(2) && clause.usages_other == Some(0) && clause.audience == [AUDIENCE]);
    assert!(site.redeem(code.trim()).is_err(), "it is for one use");
}

#[test]
fn a_code_is_of_the_users_mytoken_and_that_is_told_where_the_host_gets_another_token() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    let entry = "[[host]]\npattern = \"tb\"\noidc_agent = \"cluster\"\naudience = \"https://testbed\"\nscope = \" openid  profile \"\n";
    std::fs::write(site.path("home/.config/mytoken/hosts.toml"), entry).unwrap();
    let output = site.run(&["code", "tb"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).starts_with("mytoken-ssh: the code is of your mytoken: "), "{}", stderr(&output));
    let child = site.redeem(String::from_utf8(output.stdout).unwrap().trim()).unwrap();
    assert_eq!(child.restrictions[0].scope, "openid profile", "single blanks");
}

#[test]
fn a_program_gets_an_object_and_a_session_its_own_mytoken() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    let output = site.run(&["code", "--json", "--delegate=10m", "--scope", "openid", "alice@tb"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["host"], "testbed");
    assert!(object["expires_in"].as_u64().unwrap() > 0 && object["expires_at"].is_u64(), "{object}");
    // A code is of no use after the end of what it leads to.
    let short = site.run(&["code", "--json", "--delegate=1m", "tb"]);
    let short: Value = serde_json::from_slice(&short.stdout).unwrap();
    assert!(short["expires_in"].as_u64().unwrap() <= 60, "{short}");
    let child = site.redeem(object["code"].as_str().unwrap()).unwrap();
    assert_eq!(child.capabilities.to_string(), "AT create_mytoken tokeninfo:introspect");
    assert_eq!(child.restrictions[0].scope, "openid");
}

#[test]
fn a_code_that_nobody_got_is_revoked() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = site.helper(&["code", "tb"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "mytoken-ssh: cannot write to standard output: No space left on device (os error 28)\n"
    );
    assert_eq!(site.answered("revocation"), [204]);
}

/// The server answers once: the code, the access token and the successor of the stored mytoken would be lost.
#[test]
fn ctrl_c_loses_no_successor_and_leaves_no_code() {
    for (args, endpoint, revoked) in [(&["code", "tb"][..], "mytoken", 1), (&["token"], "access_token", 0)] {
        let site = LoginSite::start();
        let first = site.store_mytoken(CAPABILITIES, &json!({"on_AT": true, "on_other": true}));
        site.delay_one(endpoint);
        let child = site.direct(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        site.wait_for_request(endpoint);
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.code() == Some(130) && output.stdout.is_empty(), "{args:?}: {output:?}");
        assert_eq!(site.answered("revocation").len(), revoked, "{args:?}");
        assert_ne!(site.stored().unwrap().mytoken, first.mytoken, "{args:?}");
        assert!(site.run(&["ssh", "tb"]).status.success(), "{args:?}");
    }
}

#[test]
fn what_cannot_be_made_is_told() {
    let site = LoginSite::start();
    let none = site.run(&["code", "tb"]);
    assert!(none.status.code() == Some(1) && none.stdout.is_empty() && stderr(&none).contains("login"), "{none:?}");
    site.store_mytoken(&["AT"], &Value::Null);
    let lacking = site.run(&["code", "tb"]);
    assert!(stderr(&lacking).contains("create_mytoken") && lacking.stdout.is_empty(), "{lacking:?}");
    assert!(site.run(&["code"]).status.code() == Some(2), "a code is for a host");
}
