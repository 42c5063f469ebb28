// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands, also hostile ones.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration as StdDuration, Instant};

use mytoken::Secret;
use mytoken::config::Duration;
use nix::unistd::geteuid;
use serde_json::Value;

use super::*;
use crate::accounts::LocalAccount;
use crate::identity::Identity;
use crate::skipped::skip;

fn settings(script: &str) -> CommandSettings {
    let words = vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
    CommandSettings::new(words, Some("nobody".to_owned()), Some(Duration::seconds(1))).unwrap()
}

fn ask(settings: &CommandSettings, trust: FileTrust, deadline: Deadline) -> Result<Given, Refusal> {
    let account = LocalAccount { name: "alice".into(), uid: 2_001, gid: 2_001, system: false };
    let identity = Identity {
        issuer: "op".into(),
        iss: "https://op.example.org".into(),
        sub: "s-1".into(),
        scopes: vec!["openid".into()],
        claims: serde_json::from_str(r#"{"sub":"s-1","groups":["/a\n","/b"]}"#).unwrap(),
    };
    let access_token = &Secret::new("the-access-token");
    let asked = Asked {
        identity: &identity,
        account: &account,
        access_token,
        entered: true,
        service: "sshd",
        rhost: Some("192.0.2.7"),
    };
    CommandMapper { settings, trust }.gives(&asked, deadline)
}

fn soon() -> Deadline {
    Deadline::after(StdDuration::from_secs(20))
}

fn shell(script: &str) -> Result<Given, Refusal> {
    ask(&settings(script), FileTrust::ROOT, soon())
}

fn nothing(reason: &str) -> Result<Given, Refusal> {
    Ok(Given::Nothing(reason.to_owned()))
}

fn root() -> bool {
    if geteuid().is_root() {
        return true;
    }
    skip("only root can run a command as another user").unwrap();
    false
}

#[test]
fn only_the_name_of_the_account_gives_it() {
    let table: &[(&[u8], Result<Given, Refusal>)] = &[
        (b"alice", Ok(Given::Account)),
        (b"alice\n", Ok(Given::Account)),
        (b"alice\n\n", nothing("printed more than one line")),
        (b"alice\nbob\n", nothing("printed more than one line")),
        (b"\nalice", nothing("printed more than one line")),
        (b"alice\r\n", nothing("printed something that is no name of an account")),
        (b"alice\0", nothing("printed something that is no name of an account")),
        (b"\xffalice", nothing("printed something that is no name of an account")),
        (b"\x1b[2Jx", nothing("printed something that is no name of an account")),
        (b"alice ", nothing("gives \"alice \"")),
        (b"Alice", nothing("gives \"Alice\"")),
        (b"bob\n", nothing("gives \"bob\"")),
        (b"", nothing("printed nothing")),
        (b"\n", nothing("printed nothing")),
    ];
    for (output, expected) in table {
        assert_eq!(Ok(compare(output, "alice")), *expected, "{:?}", String::from_utf8_lossy(output));
    }
}

#[test]
fn a_command_decides_as_it_ends() {
    if !root() {
        return;
    }
    assert_eq!(shell("echo alice"), Ok(Given::Account));
    assert_eq!(shell("printf 'alice\\000'"), nothing("printed something that is no name of an account"));
    assert_eq!(shell("echo alice; exit 1"), nothing("ended with status 1"));
    let escaped = nothing("ended with status 4: ldap: ?[2Jno such?user");
    assert_eq!(shell("printf 'ldap: \\033[2Jno such\\nuser\\n' >&2; exit 4"), escaped);
    assert_eq!(shell("kill -KILL $$"), nothing("was ended by signal 9"));
    assert_eq!(shell("yes"), nothing("printed more than 256 bytes"));
    assert_eq!(shell("yes >&2 & echo alice"), Ok(Given::Account));
}

#[test]
fn a_command_that_does_not_end_is_an_outage_only_within_its_own_time() {
    if !root() {
        return;
    }
    let began = Instant::now();
    let late = Refusal::Unavailable("the command /bin/sh did not end within 1s".to_owned());
    assert_eq!(shell("sleep 60 & sleep 60"), Err(late));
    let took = began.elapsed();
    assert!(took >= StdDuration::from_secs(1) && took < StdDuration::from_secs(10), "{took:?}");
    let hangs = settings("sleep 60");
    let cut = ask(&hangs, FileTrust::ROOT, Deadline::after(StdDuration::from_millis(300)));
    assert_eq!(cut, Err(Refusal::DeadlinePassed));
    assert_eq!(ask(&hangs, FileTrust::ROOT, Deadline::after(StdDuration::ZERO)), Err(Refusal::DeadlinePassed));
}

#[test]
fn what_is_short_for_the_moment_is_no_wrong_configuration() {
    let settings = settings("true");
    let mapper = CommandMapper { settings: &settings, trust: FileTrust::ROOT };
    for errno in [Errno::ENOENT, Errno::EACCES, Errno::ENOEXEC, Errno::ENOTDIR, Errno::ELOOP, Errno::EPERM] {
        let answer = mapper.answer(Ran::NotStarted(errno), "alice", false);
        assert!(matches!(answer, Err(Refusal::Configuration(_))), "{answer:?}");
    }
    for errno in [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE, Errno::EIO, Errno::ETXTBSY] {
        let answer = mapper.answer(Ran::NotStarted(errno), "alice", false);
        assert!(matches!(answer, Err(Refusal::System(_))), "{answer:?}");
    }
}

#[test]
fn a_command_reads_the_identity_and_not_the_token() {
    if !root() {
        return;
    }
    // What it reads comes back as an error text, in pieces.
    let mut text = String::new();
    for piece in 0..5 {
        let script = format!("tail -c +{} | head -c 100 >&2; exit 1", piece * 100 + 1);
        let Ok(Given::Nothing(reason)) = shell(&script) else { panic!() };
        text.push_str(reason.strip_prefix("ended with status 1: ").unwrap_or_default());
    }
    let read: Value = serde_json::from_str(&text).unwrap();
    let expected = json!({
        "v": 1, "user": "alice", "issuer": "op", "iss": "https://op.example.org", "sub": "s-1", "scopes": ["openid"],
        "claims": {"sub": "s-1", "groups": ["/a\n", "/b"]}, "service": "sshd", "rhost": "192.0.2.7",
    });
    assert_eq!(read, expected);
    assert!(!text.contains("the-access-token"));
}

#[test]
fn a_program_that_others_can_change_is_not_run() {
    // To this directory everybody can write.
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let program = directory.path().join("mapper");
    fs::write(&program, "#!/bin/sh\necho alice\n").unwrap();
    let me = FileTrust::user(geteuid().as_raw());
    let refused = |program: &Path, run_as: &str, trust, part: &str| {
        let words = vec![program.to_str().unwrap().to_owned()];
        let settings = CommandSettings::new(words, Some(run_as.to_owned()), None).unwrap();
        match ask(&settings, trust, soon()) {
            Err(Refusal::Configuration(reason)) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{other:?} for {part}"),
        }
    };
    fs::set_permissions(&program, Permissions::from_mode(0o777)).unwrap();
    refused(&program, "nobody", me, "can be written by others");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    refused(&program, "nobody", FileTrust::ROOT, "is not used");
    refused(directory.path(), "nobody", me, "directory");
    refused(&program, "no-such-account-here", me, "no account");
    if root() {
        refused(&directory.path().join("missing"), "nobody", me, "cannot be executed");
        fs::set_permissions(&program, Permissions::from_mode(0o644)).unwrap();
        refused(&program, "nobody", me, "cannot be executed");
    }
}
