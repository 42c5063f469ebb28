// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands with the mytoken of the session, and none in the store.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use mytoken::Secret;
use mytoken::token_store::{StoredToken, Trouble};
use serde_json::{Value, json};

use crate::login_site::{AUDIENCE, LoginSite, deadline};

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_sessions_mytoken_serves_where_none_is_stored() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(&["AT", "create_mytoken"], &Value::Null);
    let file = site.path("session");
    fs::write(&file, format!("{}\n", entry.mytoken.expose())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let run = |args: &[&str]| site.helper(args).env("MYTOKEN_FILE", &file).output().unwrap();

    // The stored one comes first, in silence.
    let (token, told) = texts(&run(&["token"]));
    assert!(token.starts_with("eyJ") && told.is_empty(), "{told}");
    assert!(texts(&run(&["status"])).0.contains("  not used: the stored one for this server comes first\n"));

    site.store().lock(deadline()).unwrap().remove(&site.url()).unwrap();
    let place = format!("$MYTOKEN_FILE, {}", file.display());
    let (token, told) = texts(&run(&["token"]));
    assert!(token.starts_with("eyJ"), "{told}");
    assert_eq!(told, format!("mytoken-ssh: with the mytoken \"laptop\" of {place}\n"));
    let login = run(&["ssh", "tb"]);
    assert!(login.status.success(), "{login:?}");
    assert_eq!(site.access_tokens().len(), 1);
    let code = run(&["code", "tb"]);
    assert!(code.status.success() && site.redeem(texts(&code).0.trim()).is_ok(), "{code:?}");

    let (shown, told) = texts(&run(&["status", "--check"]));
    assert!(
        shown.contains(&format!("   ({place})\n  mytoken \"laptop\" of alice")) && !shown.contains("not used"),
        "{shown} {told}"
    );
    assert!(shown.contains("the server accepts it") && !shown.contains(" ago\n"), "{shown}");
    let list: Value = serde_json::from_slice(&run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(list[0]["place"], json!(place));
    let (shown, _) = texts(&run(&["doctor", "tb"]));
    assert!(shown.contains(&format!("logins go with the mytoken \"laptop\" of {place}\n")), "{shown}");
    assert!(shown.contains(&format!("gets an access token for {AUDIENCE}\n")), "{shown}");
    assert!(site.stored().is_none(), "nothing is stored");

    // What the variable names is missing.
    fs::remove_file(&file).unwrap();
    for args in [&["token"][..], &["ssh", "tb"], &["status"], &["doctor"]] {
        let output = run(args);
        let (shown, told) = texts(&output);
        assert!(
            !output.status.success() && format!("{shown}{told}").contains("there is no such file"),
            "{args:?}: {output:?}"
        );
    }
}

#[test]
fn the_sessions_mytoken_serves_where_the_stored_one_cannot_be_used_any_more() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(&["AT", "create_mytoken"], &Value::Null);
    let run = |args: &[&str]| site.helper(args).env("MYTOKEN", entry.mytoken.expose()).output().unwrap();
    let expired = StoredToken { expires_at: Some(1_000), mytoken: Secret::new("old.old.old"), ..entry.clone() };
    let refused = StoredToken { trouble: Some(Trouble::Refused), mytoken: Secret::new("old.old.old"), ..entry.clone() };
    for (stored, why) in [(expired, "the stored one has expired"), (refused, "the server has refused the stored one")] {
        site.store().lock(deadline()).unwrap().put(&stored).unwrap();
        let (token, told) = texts(&run(&["token"]));
        assert!(token.starts_with("eyJ"), "{told}");
        assert_eq!(told, format!("mytoken-ssh: with the mytoken \"laptop\" of $MYTOKEN, because {why}\n"));
        let status = run(&["status"]);
        assert!(status.status.success() && !texts(&status).0.contains("not used"), "{status:?}");
        let doctor = run(&["doctor", "tb"]);
        let (shown, _) = texts(&doctor);
        assert!(doctor.status.success() && shown.contains("gets an access token for"), "{shown}");
        let (added, told) = texts(&run(&["add", "tb", "--audience", "https://elsewhere"]));
        assert!(told.contains("your mytoken gives no access token for audience https://elsewhere"), "{added} {told}");
        assert!(run(&["hosts", "--remove", "tb"]).status.success());
    }
    // What the variable names cannot be used: it is told once, and the stored one is tried.
    let broken = site.helper(&["token"]).env("MYTOKEN", "no mytoken").output().unwrap();
    let told = texts(&broken).1;
    assert_eq!((told.matches("$MYTOKEN has no mytoken").count(), told.lines().count()), (1, 2), "{told}");
    // Not where the user has chosen another server.
    site.configure_server("https://other.example.org");
    let (_, told) = texts(&run(&["token"]));
    assert!(told.contains("is one of") && told.contains("name it: server ="), "{told}");
}

#[test]
fn a_session_without_a_writable_home_needs_no_store() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(&["AT"], &Value::Null);
    fs::remove_dir_all(site.path("home/.config/mytoken/tokens")).unwrap();
    let file = site.path("session");
    fs::write(&file, entry.mytoken.expose()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    // A name that would clear the screen.
    let odd = site.path("odd\u{1b}[2J");
    fs::rename(&file, &odd).unwrap();
    let output = site.helper(&["token"]).env("MYTOKEN_FILE", &odd).output().unwrap();
    let (token, told) = texts(&output);
    assert!(token.starts_with("eyJ") && !told.contains('\u{1b}') && told.contains("odd?[2J"), "{told:?}");
    assert!(!site.path("home/.config/mytoken/tokens").exists());
}
