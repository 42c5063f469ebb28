// SPDX-License-Identifier: GPL-3.0-or-later
//! The account phase of logins with a key, and what logins with a token leave for it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::script::Options;
use super::{Case, FakePam, Host, NOW, Printed, Prompt, code, scripts};

/// Login with a key over ssh: sshd calls this phase only.
const BY_KEY: [&str; 2] = ["ssh", "account"];

/// A host with these settings and lines of `login.toml`, on which alice logs in with an access token.
fn host(settings: &str, more: &str) -> Host {
    let prompt = Prompt { text: "Access Token:".into(), answer: "${access_token}".into() };
    let options = Options { login: settings.into(), ..Options::default() };
    let host = Host::with_login(&Case { options, prompt: vec![prompt], ..Case::default() }, "", more);
    // The account phase reads the file as it is.
    let login = fs::read_to_string(scripts().join("settings").join(settings)).unwrap();
    fs::write(host.directory.path().join("login.toml"), format!("{login}\n{more}")).unwrap();
    host
}

/// Changes a text of the settings, wherever it stands.
fn replace(host: &Host, old: &str, new: &str) {
    for (name, old, new) in [
        ("login.toml", old.to_owned(), new.to_owned()),
        ("script.toml", old.replace('"', "\\\""), new.replace('"', "\\\"")),
    ] {
        let file = host.directory.path().join(name);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(&old), "{name}: {old}");
        fs::write(&file, text.replace(&old, &new)).unwrap();
    }
}

/// Changes a value of the script.
fn set(host: &Host, name: &str, value: &str) {
    let file = host.directory.path().join("script.toml");
    let begin = format!("{name} = ");
    let lines = fs::read_to_string(&file).unwrap();
    assert!(lines.lines().any(|line| line.starts_with(&begin)), "{name}");
    let changed = |line: &str| if line.starts_with(&begin) { format!("{begin}{value}\n") } else { format!("{line}\n") };
    fs::write(&file, lines.lines().map(changed).collect::<String>()).unwrap();
}

/// What the account phase says about a login with a key.
fn by_key(host: &Host) -> String {
    phase(host, &BY_KEY).0
}

/// The code of these calls, and what was shown and logged.
fn phase(host: &Host, options: &[&str]) -> (String, Printed) {
    let printed = host.run(&[], options);
    assert!(printed.success && printed.errors.is_empty(), "{}{}", printed.output, printed.errors);
    (printed.after("code").concat(), printed)
}

/// Logs in with the token over ssh. The account phase does not follow.
fn by_token(host: &Host) -> String {
    phase(host, &["ssh", "tries=1"]).1.after("result").concat()
}

fn kept(host: &Host, uid: u32) -> bool {
    host.directory.path().join(format!("mytoken/logins/{uid}")).exists()
}

#[test]
fn a_key_needs_a_recent_login_over_ssh_to_a_listed_service() {
    let mut host = host("one-issuer.toml", "[account]\nkey_logins = 'recent-login:1h'\n");
    let (refused, printed) = phase(&host, &BY_KEY);
    assert_eq!(refused, code("PERM_DENIED"), "{}", printed.output);
    let shown = "without a token you can log in here only within 1h after a login with one";
    assert_eq!(printed.after("text"), [shown]);
    let lines = [
        "notice refuse user=alice uid=2001 rhost=192.0.2.77 reason=no_recent_login issuer=- sub=- rule=- token=-",
        "notice user=alice login without token refused: there was no login with a token",
    ];
    assert_eq!(printed.after("log"), lines);
    assert_eq!(phase(&host, &["account"]).0, code("IGNORE"), "su, sudo and cron");

    // Other services of the host are not asked for tokens.
    let directory = host.directory.path().to_owned();
    let arguments = format!("config={}", directory.display());
    FakePam::get().write_stack(&directory, "other", &arguments);
    host.case.options.service = "other".into();
    assert_eq!(by_key(&host), code("IGNORE"));
    FakePam::get().write_stack(&directory, "other", &format!("{arguments} services=other"));
    assert_eq!(by_key(&host), code("PERM_DENIED"), "the argument lists it");
    FakePam::get().write_stack(&directory, "sshd", &format!("{arguments} services=other"));
    host.case.options.service = "sshd".into();
    assert_eq!(by_key(&host), code("IGNORE"), "the argument lists another one");
    FakePam::get().write_stack(&directory, "sshd", &arguments);

    // The caller of su could stop a login that holds the lock.
    assert_eq!(phase(&host, &["tries=1"]).1.after("result"), [code("SUCCESS")]);
    assert!(!kept(&host, 2_001));
    assert_eq!(by_token(&host), code("SUCCESS"));
    assert!(kept(&host, 2_001));
    assert_eq!(by_key(&host), code("IGNORE"));
    set(&host, "now", &(NOW + 3_600).to_string());
    assert_eq!(by_key(&host), code("IGNORE"));
    set(&host, "now", &(NOW + 3_601).to_string());
    assert_eq!(by_key(&host), code("PERM_DENIED"));
    // The account has one name, however it is typed.
    set(&host, "now", &NOW.to_string());
    host.case.options.user = "Alice".into();
    assert_eq!(by_key(&host), code("IGNORE"));
    host.case.options.user = "bob".into();
    assert_eq!(by_key(&host), code("PERM_DENIED"));
}

#[test]
fn by_default_nothing_is_kept_and_nothing_refused() {
    let host = host("one-issuer.toml", "");
    assert_eq!((by_token(&host).as_str(), by_key(&host).as_str()), (code("SUCCESS"), code("IGNORE")));
    assert!(!host.directory.path().join("mytoken").exists());
}

#[test]
fn a_suspension_ends_by_motley_cue_only() {
    let mut host = host("motley-cue.toml", "[account]\nkey_logins = 'motley_cue'\n");
    assert_eq!(by_key(&host), code("IGNORE"));
    set(&host, "mapper", "\"suspended\"");
    assert_eq!(by_token(&host), code("PERM_DENIED"));
    let (refused, printed) = phase(&host, &BY_KEY);
    assert_eq!(refused, code("ACCT_EXPIRED"), "{}", printed.output);
    assert_eq!(printed.after("text"), ["your account is suspended; ask the administrator of this host"]);
    host.case.options.user = "Alice".into();
    assert_eq!(by_key(&host), code("ACCT_EXPIRED"), "another spelling of the name");
    host.case.options.user = "alice".into();

    // The rule behind it gives the account.
    set(&host, "mapper", "\"says that there is no such account\"");
    assert_eq!(by_token(&host), code("SUCCESS"));
    assert_eq!(by_key(&host), code("ACCT_EXPIRED"));
    set(&host, "mapper", "\"account\"");
    assert_eq!(by_token(&host), code("SUCCESS"));
    assert_eq!(by_key(&host), code("IGNORE"));
}

#[test]
fn a_rule_with_the_name_of_another_ends_no_suspension() {
    let host = host("motley-cue.toml", "[account]\nkey_logins = 'motley_cue'\n");
    replace(&host, "name = \"everybody\"", "name = \"mc\"");
    set(&host, "mapper", "\"suspended\"");
    assert_eq!(by_token(&host), code("PERM_DENIED"));
    set(&host, "mapper", "\"says that there is no such account\"");
    assert_eq!(by_token(&host), code("SUCCESS"));
    assert_eq!(by_key(&host), code("ACCT_EXPIRED"));
}

#[test]
fn an_account_that_waits_for_its_approval_is_not_recorded() {
    let mut host = host("motley-cue.toml", "[account]\nkey_logins = 'motley_cue'\n");
    // Else the missing group is what the login is refused with.
    replace(&host, "require_groups", "group_claims");
    host.case.options.user = "bob".into();
    set(&host, "mapper", "\"pending\"");
    let refused = phase(&host, &["ssh", "tries=1"]).1;
    assert!(refused.output.contains("reason=pending "), "{}", refused.output);
    assert!(!kept(&host, 2_002));
    assert_eq!(by_key(&host), code("IGNORE"));
    set(&host, "mapper", "\"limited\"");
    assert_eq!(by_token(&host), code("PERM_DENIED"));
    assert!(kept(&host, 2_002));
    assert_eq!(by_key(&host), code("ACCT_EXPIRED"));
}

#[test]
fn an_account_that_cannot_be_looked_up_is_not_let_in() {
    let mut host = host("one-issuer.toml", "[account]\nkey_logins = 'recent-login:1h'\n");
    host.case.options.user = "broken".into();
    let (refused, printed) = phase(&host, &BY_KEY);
    assert_eq!(refused, code("SYSTEM_ERR"), "{}", printed.output);
    assert!(printed.output.contains("NSS does not answer"), "{}", printed.output);
    let line = "err refuse user=broken uid=- rhost=192.0.2.77 reason=logins_unreadable issuer=- sub=- rule=- token=-";
    assert_eq!(printed.after("log")[0], line);
    host.case.options.user = "carol".into();
    assert_eq!(by_key(&host), code("IGNORE"), "sshd refuses an account that does not exist");
}

#[test]
fn a_file_that_others_can_write_lets_nobody_in_where_key_logins_was_set() {
    let mut host = host("one-issuer.toml", "[account]\nkey_logins = 'recent-login:1h'\n");
    let login = host.directory.path().join("login.toml");
    fs::set_permissions(&login, Permissions::from_mode(0o664)).unwrap();
    let (code_without, printed) = phase(&host, &BY_KEY);
    assert_eq!(code_without, code("IGNORE"), "{}", printed.output);
    let lines = printed.after("log");
    assert!(lines[0].starts_with("crit key_logins cannot be read, ") && lines[0].contains("0664"), "{lines:?}");
    fs::create_dir_all(host.directory.path().join("mytoken/logins")).unwrap();
    let (refused, printed) = phase(&host, &BY_KEY);
    assert_eq!(refused, code("SERVICE_ERR"), "{}", printed.output);
    assert!(printed.after("log").iter().all(|line| line.starts_with("crit ")), "{}", printed.output);
    host.case.options.user = "root".into();
    assert_eq!(by_key(&host), code("IGNORE"), "somebody must be able to mend it");
}

#[test]
fn a_login_by_token_without_a_record_is_none_without_a_token() {
    for (settings, answer) in [("motley-cue.toml", "${one_time_password}"), ("one-issuer.toml", "${access_token}")] {
        let mut host = host(settings, "[account]\nkey_logins = 'recent-login:1h'\n");
        host.case.prompt[0].answer = answer.into();
        // Neither the record nor the last login can be written.
        for name in ["records", "mytoken"] {
            fs::write(host.directory.path().join(name), "").unwrap();
        }
        let (accepted, printed) = phase(&host, &["ssh"]);
        assert_eq!(accepted, code("SUCCESS"), "{answer}: {}", printed.output);
        assert!(printed.output.contains("the login is not recorded"), "{answer}: {}", printed.output);
        assert!(!printed.output.contains("PAM_MYTOKEN_HANDLE"), "{answer}: {}", printed.output);
        assert_eq!(by_key(&host), code("SYSTEM_ERR"), "{answer}");
        // It was the login of this user, and the last attempt counts.
        assert_eq!(phase(&host, &["ssh", "becomes=bob"]).0, code("SYSTEM_ERR"), "{answer}");
        host.case.prompt.push(Prompt { text: "Access Token:".into(), answer: "nonsense of somebody".into() });
        let (later, printed) = phase(&host, &["ssh", "tries=2", "account"]);
        assert_eq!(printed.after("result"), [code("SUCCESS"), code("AUTH_ERR")], "{answer}: {}", printed.output);
        assert_eq!(later, code("SYSTEM_ERR"), "{answer}");
    }
}
