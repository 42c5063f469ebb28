// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the whole check.

use mytoken_login::NssAccounts;

use super::*;
use crate::control::keygen::keygen;

fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    // No server listens on port 9 of this machine.
    let shared = "[http]\nallow_loopback_http = true\n[[server]]\nname = 't'\nurl = 'http://127.0.0.1:9'\n";
    let jobs = format!(
        "[cluster]\nname = 'c'\npublic_key_file = '{path}/keys/cluster.pub'\nprivate_key_file = '{path}/keys/cluster.key'\n\
         [[profile]]\nname = 'default'\nserver = 't'\nscope = 'a'\naudience = 'https://x'\n"
    );
    std::fs::write(dir.path().join("mytoken.toml"), shared).unwrap();
    std::fs::write(dir.path().join("jobs.toml"), jobs).unwrap();
    keygen(&dir.path().join("keys"), "").unwrap();
    dir
}

/// With the trust for a directory below /tmp, where root's configuration must not be.
fn check(dir: &Path, socket: &Path) -> Findings {
    let options = CheckOptions { config: dir, socket, user: None, offline: false };
    check_with(FileTrust::user(Owner::current().uid), options, &NssAccounts, None)
}

#[test]
fn each_error_is_found_with_its_fix() {
    let dir = site();
    let findings = check(dir.path(), &dir.path().join("agent.sock"));
    let ids: Vec<&str> = findings.findings.iter().filter_map(|finding| finding.id.as_deref()).collect();
    let expected = [
        "configuration-ok",
        "configuration-ok",
        "public-key-ok",
        "private-key-ok",
        "server-unavailable",
        "agent-not-running",
    ];
    assert_eq!(ids, expected);
    let screen = findings.render();
    assert!(
        screen.contains("fix: curl -v http://127.0.0.1:9/.well-known/mytoken-configuration\n")
            && screen.contains("mytokend agent   # as root, and at every start of this host\n")
            && screen.ends_with("2 errors, 0 warnings\n"),
        "{screen}"
    );
}

#[test]
fn a_broken_configuration_is_the_only_finding() {
    let dir = site();
    std::fs::write(dir.path().join("mytoken.toml"), "[http]\nproxi = ''").unwrap();
    let findings = check(dir.path(), Path::new("/nonexistent"));
    assert_eq!(findings.findings.len(), 1);
    assert!((findings.exit_status() == 2) && findings.findings[0].text.contains("proxy"), "{findings:?}");
    assert!(findings.findings[0].fix.as_ref().unwrap().starts_with("${EDITOR:-vi} +2 "), "{findings:?}");
}

#[test]
fn certificates_are_read_also_without_the_network() {
    let dir = site();
    let file = dir.path().join("own.pem");
    let shared = format!("[http]\nca_file = '{}'\nallow_loopback_http = true\n", file.display());
    std::fs::write(dir.path().join("mytoken.toml"), shared).unwrap();
    std::fs::remove_file(dir.path().join("jobs.toml")).unwrap();
    for (text, command) in [(None, "namei -l "), (Some("no PEM"), "openssl storeutl -noout -certs ")] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let options = CheckOptions { config: dir.path(), socket: Path::new("/nonexistent"), user: None, offline: true };
        let found = check_with(FileTrust::user(Owner::current().uid), options, &NssAccounts, None);
        let found = found.problems().find(|finding| finding.id.as_deref() == Some(kinds::CA_FILE.id)).unwrap();
        assert!(found.fix.as_ref().unwrap().starts_with(&format!("{command}{}", file.display())), "{found:?}");
    }
}

#[test]
fn commands_name_the_directory_that_was_checked() {
    let issuer =
        |name: &str| format!("[[issuer]]\nname = '{name}'\nurl = 'https://op.example.org'\naudiences = ['a']\n");
    let usual = kinds::ISSUER_TWICE.fix;
    for name in ["etc", "my site"] {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join(name);
        std::fs::create_dir_all(config.join("mytoken.d")).unwrap();
        std::fs::write(config.join("mytoken.toml"), issuer("op")).unwrap();
        std::fs::write(config.join("mytoken.d/again.toml"), issuer("again")).unwrap();
        let options = CheckOptions { config: &config, socket: Path::new("/nonexistent"), user: None, offline: true };
        let trust = FileTrust::user(Owner::current().uid);
        let found = check_with(trust, options, &NssAccounts, None);
        let twice = found.problems().find(|finding| finding.id.as_deref() == Some(kinds::ISSUER_TWICE.id)).unwrap();
        let fix = twice.fix.as_ref().unwrap();
        assert_eq!(*fix, usual.replace("/etc/mytoken", &word(&config.to_string_lossy())));
        // It shows both, and with the file.
        let shown = std::process::Command::new("sh").args(["-c", fix]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        for (file, name) in [("mytoken.toml", "op"), ("mytoken.d/again.toml", "again")] {
            let line = format!("{}-2-name = '{name}'\n", config.join(file).display());
            assert!(shown.contains(&line), "{fix}: {shown}");
        }
    }
    let mut findings = Findings { config: "/srv/site".into(), ..Findings::default() };
    findings.add_kind(kinds::PRIVATE_KEY, "x");
    assert_eq!(findings.findings[0].fix.as_deref(), Some(kinds::PRIVATE_KEY.fix));
}

/// Drop-ins have the keys as well, and editors leave links to nothing.
#[test]
fn commands_that_show_keys_show_those_of_drop_ins() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("own.toml");
    let text = "[http]\nproxy = 'http://[::1]:1'\n[[issuer]]\nname = 'op'\naudiences = ['a']\n";
    std::fs::write(&real, text).unwrap();
    let config = dir.path().join("etc");
    std::fs::create_dir_all(config.join("login.d")).unwrap();
    std::os::unix::fs::symlink(&real, config.join("login.d/own.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", config.join("login.d/.#a.toml")).unwrap();
    std::fs::write(config.join("cluster.key"), text).unwrap();
    for (kind, line) in [
        (kinds::ISSUER_TWICE, "3:[[issuer]]"),
        (kinds::MAP_ISSUER, "3:[[issuer]]"),
        (kinds::EXCHANGE_AUDIENCE, "5:audiences = ['a']"),
        (kinds::EXCHANGE_AUDIENCE_PARTLY, "5:audiences = ['a']"),
        (kinds::HTTP_SETTINGS, "1:[http]"),
        (kinds::PROXY, "2:proxy = 'http://[::1]:1'"),
    ] {
        let fix = kind.fix.replace(DIRECTORY, &config.to_string_lossy());
        let shown = std::process::Command::new("sh").args(["-c", &fix]).output().unwrap();
        assert_eq!(String::from_utf8(shown.stderr).unwrap(), "", "{fix}");
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.starts_with(&format!("{}/login.d/own.toml:{line}\n", config.display())), "{fix}: {shown}");
        assert!(!shown.contains("cluster.key"), "{fix}: {shown}");
    }
}

#[test]
fn refused_keys_are_found_whatever_else_is_broken() {
    let dir = site();
    std::fs::write(dir.path().join("login.toml"), "[account\nkey_logins = 'motley_cue'").unwrap();
    for shared in [None, Some("[http]\nproxi = ''")] {
        if let Some(broken) = shared {
            std::fs::write(dir.path().join("mytoken.toml"), broken).unwrap();
        }
        let findings = check(dir.path(), Path::new("/nonexistent"));
        assert!(findings.has(kinds::KEY_LOGINS), "{shared:?}: {findings:?}");
    }
}

#[test]
fn findings_survive_the_way_through_json() {
    let mut findings = Findings::default();
    findings.ok("sshd", "works");
    findings.add_kind(kinds::CLOCK, "late");
    let text = serde_json::to_string(&findings).unwrap();
    assert_eq!(serde_json::from_str::<Findings>(&text).unwrap().findings, findings.findings);
}

/// What is pasted twice could do something else the second time, or say that it was done.
#[test]
fn a_command_that_mends_several_findings_is_shown_once() {
    let mut findings = Findings::default();
    for text in ["one", "two"] {
        findings.add_fixed(kinds::PAM_LINE, text, "mend it".to_owned());
    }
    findings.add_fixed(kinds::PAM_LINE, "three", "mend that".to_owned());
    let screen = findings.render();
    let fixes: Vec<&str> = screen.lines().filter_map(|line| line.trim_start().strip_prefix("fix: ")).collect();
    assert_eq!(fixes, ["mend it", "# the same command as above", "mend that"]);
}
