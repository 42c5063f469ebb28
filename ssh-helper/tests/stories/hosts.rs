// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh add` and `mytoken-ssh hosts`.

use serde_json::Value;

use crate::login_site::{AUDIENCE, LoginSite};

#[test]
fn a_host_that_was_added_gets_its_token_and_is_shown_and_removed() {
    let site = LoginSite::start();
    site.store_mytoken(&["AT", "create_mytoken"], &Value::Null);
    let run = |args: &[&str]| {
        let output = site.run(args);
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8(text.clone()).unwrap());
        (output.status.code(), out, err)
    };
    let (status, out, err) = run(&["add", "*bed", "--audience", "https://c", "--scope", "openid"]);
    assert_eq!((status, out.as_str(), err.as_str()), (Some(0), "✓ *bed: audience https://c, scope openid\n", ""));
    // ssh shows "testbed" for it. What is not named stays as narrow as it was.
    let (_, out, err) = run(&["add", "tb", "--audience", "https://d"]);
    let added = "✓ tb: audience https://d, scope openid\n  until now: audience https://c, scope openid (by *bed)\n";
    assert!(out.starts_with(added), "{out}");
    assert!(err.contains("no access token for scope openid and audience https://d; it is for: "), "{err}");
    let (status, out, err) = run(&["add", "tb", "--audience", AUDIENCE]);
    assert!(status == Some(0) && err.is_empty() && out.ends_with("\nNext:  mytoken-ssh ssh tb\n"), "{out} {err}");
    let doctor = run(&["doctor", "tb"]).1;
    assert!(doctor.contains(&format!("gets an access token for {AUDIENCE}\n")), "{doctor}");
    let (_, _, err) = run(&["add", "t?", "--audience", AUDIENCE]);
    assert_eq!(err, "mytoken-ssh: hosts with an entry of their own keep it: tb\n");

    for (args, reason) in [
        (&["add", "*.example.org"][..], "cannot be asked"),
        (&["add", "me@*.example.org", "--audience", AUDIENCE], "is no pattern"),
        (&["add", "tb", "--audience", "a b"], "no scope or audience"),
        (&["add", "tb", "--scope", ""], "no scope or audience"),
        (&["add", "tb", "--audience", AUDIENCE, "--yes"], "cannot be used with"),
        (&["add", "--audience", AUDIENCE, "--", "-oProxyCommand=id"], "not the name of one host"),
        (&["add", "tb", "--info", "http://example.org"], "plain http is accepted"),
        (&["hosts", "--remove", "elsewhere"], "see mytoken-ssh hosts"),
    ] {
        let (status, out, err) = run(args);
        assert!(status != Some(0) && out.is_empty() && err.contains(reason), "{args:?}: {out} {err}");
    }

    site.configure("[[host]]\npattern = \"TB\"\n");
    let (_, _, err) = run(&["add", "tb", "--audience", AUDIENCE]);
    assert!(err.contains("TB of config.toml comes first and counts: audience and scope of your mytoken"), "{err}");
    let hosts: Vec<Value> = serde_json::from_str(&run(&["hosts", "--json"]).1).unwrap();
    let shown: Vec<_> = hosts.iter().map(|host| (host["pattern"].as_str(), host["file"].as_str())).collect();
    let added = ["tb", "*bed", "t?"].map(|pattern| (Some(pattern), Some("hosts.toml")));
    assert_eq!(shown, [&[(Some("TB"), Some("config.toml"))], &added[..]].concat());
    let (status, out, _) = run(&["hosts", "--remove", "TB"]);
    let left = "✓ TB is removed\n  from now on: audience and scope of your mytoken (by TB)\n";
    assert_eq!((status, out.as_str()), (Some(0), left));
    assert!(run(&["hosts", "--remove", "tb"]).2.contains("it stands in config.toml"));
    let (_, out, _) = run(&["hosts"]);
    assert!(out.ends_with(&format!("\nt?   (hosts.toml)\n  audience {AUDIENCE}\n")), "{out}");

    // A file that cannot be read gives no host a wider token.
    std::fs::write(site.path("home/.config/mytoken/hosts.toml"), "[[host]]\npatern = 'x'\n").unwrap();
    let (status, _, err) = run(&["ssh", "tb"]);
    assert!(status != Some(0) && err.contains("hosts.toml:2: unknown key \"patern\""), "{err}");
}
