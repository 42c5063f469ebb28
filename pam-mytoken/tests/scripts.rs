// SPDX-License-Identifier: GPL-3.0-or-later
//! The login scripts of `mytoken-login/tests/login`, played through the six exported functions of the built module, in a process with a libpam
//! that shows all. The module takes accounts, keys, server and clock from a file (feature `scripted`); all else is as in sshd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod fake_pam;
#[path = "scripts/key_logins.rs"]
mod key_logins;
#[allow(dead_code, reason = "the other tests with these scripts read more of them")]
#[path = "../../mytoken-login/tests/login/script.rs"]
mod script;
#[path = "../../tests/skipped.rs"]
mod skipped;
#[path = "../../mytoken-login/tests/login/support.rs"]
mod support;
#[path = "../../mytoken-login/tests/login/texts.rs"]
mod texts;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fake_pam::{FakePam, Printed};
use mytoken::config::FileTrust;
use nix::unistd::geteuid;
use regex_lite::Regex;
use script::{Case, Prompt};
use serde_json::json;
use support::{NOW, access_token, issuer_text, keys};
use tempfile::TempDir;
use texts::{ACCOUNTS, MAP, SERVER, TRANSFER_CODE, cases, fill, mytoken, secret_parts, texts};

const HOOKS: [&str; 6] = ["authenticate", "account", "credentials", "session", "close", "password"];

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../mytoken-login/tests/login")
}

/// The value in `security/_pam_types.h`.
fn code(name: &str) -> &'static str {
    match name {
        "SUCCESS" => "0",
        "SERVICE_ERR" => "3",
        "SYSTEM_ERR" => "4",
        "PERM_DENIED" => "6",
        "AUTH_ERR" => "7",
        "AUTHINFO_UNAVAIL" => "9",
        "USER_UNKNOWN" => "10",
        "ACCT_EXPIRED" => "13",
        "CONV_ERR" => "19",
        "IGNORE" => "25",
        other => panic!("unknown code {other}"),
    }
}

/// A directory in which the module keeps records. It does not trust /tmp, which others can write to; for root /run is always there.
fn trusted_directory() -> TempDir {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (uid, trust) = (geteuid().as_raw(), FileTrust::user(geteuid().as_raw()));
    let trusted = trust.directory(built).is_ok() || uid != 0;
    tempfile::tempdir_in(if trusted { built } else { Path::new("/run") }).unwrap()
}

/// A host of one case: its configuration, and a stack with the module.
struct Host {
    case: Case,
    texts: BTreeMap<String, String>,
    directory: TempDir,
}

impl Host {
    fn new(case: &Case, arguments: &str) -> Self {
        Self::with_login(case, arguments, "")
    }

    /// A host whose `login.toml` has these lines more.
    fn with_login(case: &Case, arguments: &str, more: &str) -> Self {
        let directory = trusted_directory();
        let login = std::fs::read_to_string(scripts().join("settings").join(&case.options.login)).unwrap();
        let login = format!("{login}\n{more}");
        let changes = serde_json::to_value(&case.server.access_token).unwrap();
        let opaque = case.server.opaque.then(|| script::OPAQUE_TOKEN.to_owned());
        let at = |name: &str| directory.path().join(name).display().to_string();
        // The text form of JSON is one of TOML too.
        let mut text = format!("now = {NOW}\n");
        for (name, value) in [
            ("login", json!(login)),
            ("issuer", json!(issuer_text(&case.options.issuer))),
            ("map", json!(MAP)),
            ("jwks", json!(keys().jwks.to_string())),
            ("cold", json!(case.options.cold)),
            ("keys_unavailable", json!(case.options.keys_unavailable)),
            ("server", json!(SERVER)),
            ("access_token", json!(opaque.unwrap_or_else(|| access_token(&changes)))),
            ("transfer_code", json!(TRANSFER_CODE)),
            ("mytoken", json!(mytoken(&case.server.mytoken))),
            ("mapper", json!(case.options.mapper)),
            ("requests", json!(at("requests"))),
            ("records", json!(at("records"))),
            ("logins", json!(at("mytoken/logins"))),
        ] {
            writeln!(text, "{name} = {value}").unwrap();
        }
        for (name, value) in [("answers", &case.server.answers), ("revokes", &case.server.revokes)] {
            if let Some(value) = value {
                writeln!(text, "{name} = {}", json!(value)).unwrap();
            }
        }
        for (name, claims) in [("userinfo", &case.provider.userinfo), ("introspection", &case.provider.introspection)] {
            if let Some(claims) = claims {
                writeln!(text, "{name} = {}", json!(serde_json::to_string(claims).unwrap())).unwrap();
            }
        }
        text.push_str("[accounts]\n");
        for (name, uid) in ACCOUNTS {
            writeln!(text, "{name} = {uid}").unwrap();
        }
        std::fs::write(directory.path().join("script.toml"), text).unwrap();
        let arguments = format!("config={} {arguments}", directory.path().display());
        FakePam::get().write_stack(directory.path(), &case.options.service, &arguments);
        Self { texts: texts(case), case: case.clone(), directory }
    }

    /// A login of alice with this answer.
    fn answering(answer: &str, arguments: &str) -> Self {
        let prompt = Prompt { text: "Access Token:".into(), answer: answer.into() };
        Self::new(&Case { prompt: vec![prompt], ..Case::default() }, arguments)
    }

    /// Runs the application. The conversation ends where the script says so.
    fn run(&self, wrapper: &[&str], options: &[&str]) -> Printed {
        let answers: Vec<String> = self
            .case
            .prompt
            .iter()
            .take_while(|prompt| prompt.answer != "${gone}")
            .map(|prompt| fill(&self.texts, &prompt.answer))
            .collect();
        let arguments = [&[self.case.options.service.as_str(), &self.case.options.user], options].concat();
        FakePam::get().run(wrapper, self.directory.path(), &arguments, &answers)
    }

    fn requests(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.directory.path().join("requests")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn play(case: &Case, debug: bool) {
    let about = format!("{}{}", case.about, if debug { ", with debug" } else { "" });
    let host = Host::new(case, if debug { "debug" } else { "" });
    assert!(case.run.iter().all(|run| run.phase == "authenticate"), "{about}");
    let printed = host.run(&[], &["rhost=192.0.2.7", &format!("tries={}", case.run.len())]);
    let seen = &printed.output;
    assert!(printed.success, "{about}: {seen}{}", printed.errors);
    assert_eq!(printed.errors, "", "{about}");
    let expected: Vec<&str> = case.run.iter().map(|run| code(&run.expect)).collect();
    assert_eq!(printed.after("result"), expected, "{about}: {seen}");
    let prompts: Vec<&str> = case.prompt.iter().map(|prompt| prompt.text.as_str()).collect();
    assert_eq!(printed.after("prompt"), prompts, "{about}: {seen}");
    assert_eq!(printed.after("text"), case.messages, "{about}: {seen}");
    assert_eq!(host.requests(), case.http.requests, "{about}");
    check_log(case, &printed, debug, &about);
    // Of the PAM environment a later module sees the handle only, and no item has the token.
    let accepted = case.run.last().is_some_and(|run| run.expect == "SUCCESS" && run.record);
    let environment = printed.after("environment");
    assert_eq!(environment.len(), usize::from(accepted), "{about}: {environment:?}");
    assert!(environment.iter().all(|entry| entry.starts_with("PAM_MYTOKEN_HANDLE=f:")), "{about}: {environment:?}");
    assert!(!seen.lines().any(|line| line == "authtok"), "{about}");
    for (name, part) in secret_parts(&host.texts) {
        assert!(!seen.contains(part), "{about}: {name} is shown: {seen}");
    }
}

fn check_log(case: &Case, printed: &Printed, debug: bool, about: &str) {
    let logged: Vec<(&str, &str)> = printed.after("log").iter().filter_map(|line| line.split_once(' ')).collect();
    let (details, decisions): (Vec<_>, Vec<_>) = logged.iter().partition(|(level, _)| *level == "debug");
    let (expected_details, expected): (Vec<_>, Vec<_>) = case.log.iter().partition(|log| log.level == "debug");
    assert_eq!(decisions.len(), expected.len(), "{about}: {logged:#?}");
    for ((level, line), expected) in decisions.iter().zip(expected) {
        let pattern = Regex::new(&expected.matches).unwrap();
        assert!(*level == expected.level && pattern.is_match(line), "{about}: {level} {line}\n{}", expected.matches);
    }
    if !debug {
        assert!(details.is_empty(), "{about}: {details:?}");
        return;
    }
    for expected in expected_details {
        let pattern = Regex::new(&expected.matches).unwrap();
        assert!(details.iter().any(|(_, line)| pattern.is_match(line)), "{about}: {details:?}\n{}", expected.matches);
    }
    let calls = details.iter().filter(|(_, line)| line.starts_with("authenticate: ")).count();
    assert_eq!(calls, case.run.len(), "{about}: {details:?}");
    check_explanation(case, &details, about);
}

/// Each decision is explained by one line for each check and rule, and every line has its five fields and no other form.
fn check_explanation(case: &Case, details: &[(&str, &str)], about: &str) {
    let form = Regex::new(
        r#"^check user=\S+ what=\S+ verdict=(?:passed|failed|warned|noted) config=\S+ found="[^"=\\]*(?:\\x[0-9a-f]{2}[^"=\\]*)*(?:\.\.\.)?"$"#,
    );
    let form = form.unwrap();
    let checks: Vec<&str> = details.iter().map(|(_, line)| *line).filter(|line| line.starts_with("check ")).collect();
    assert!(checks.iter().all(|line| form.is_match(line)), "{about}: {checks:#?}");
    let last = case.run.last().map_or("", |run| run.expect.as_str());
    let of = |what: &str| checks.iter().filter(|line| line.contains(what)).count();
    if last == "SUCCESS" {
        assert!(of(" what=token ") >= 1 && of(" what=rule:") > 0, "{about}: {checks:#?}");
        // Of a one-time password motley_cue alone knows more.
        let needed: [(&str, usize); 3] = if of("a one-time password of motley_cue") > 0 {
            [(" verdict=passed ", 2), (" what=times ", 0), (" what=audience ", 0)]
        } else {
            [(" verdict=passed ", 6), (" what=times ", 1), (" what=audience ", 1)]
        };
        for (what, least) in needed {
            assert!(of(what) >= least, "{about}: {what}: {checks:#?}");
        }
    } else {
        assert!(of(" verdict=failed ") >= 1 || of(" what=rule:") > 0, "{about}: {checks:#?}");
    }
}

#[test]
fn guesses_are_told_to_scanners_only_if_the_site_says_so() {
    let lines = |answer: &str, server: script::Server, setting: &str| {
        let prompt = Prompt { text: "Access Token:".into(), answer: answer.into() };
        let host = Host::with_login(&Case { prompt: vec![prompt], server, ..Case::default() }, "", setting);
        let printed = host.run(&[], &["rhost=192.0.2.7", "tries=1"]);
        assert!(printed.success, "{}{}", printed.output, printed.errors);
        let logged = printed.after("log").into_iter().filter(|line| line.contains("authentication failure;"));
        logged.map(str::to_owned).collect::<Vec<_>>()
    };
    let usual = script::Server::default;
    let on = "[log]\nfailure_line = true\n";
    let guess = lines("nonsense of somebody", usual(), on);
    assert_eq!(guess.len(), 1, "{guess:?}");
    let form = Regex::new(
        r"^notice authentication failure; logname= uid=\d+ euid=\d+ tty=\S* ruser=\S* rhost=192\.0\.2\.7  user=alice$",
    );
    assert!(form.unwrap().is_match(&guess[0]), "{guess:?}");
    assert_eq!(lines("nonsense of somebody", usual(), ""), [""; 0], "it is off by default");
    assert_eq!(lines("${access_token}", usual(), on), [""; 0], "an accepted login");
    let expired = script::Server { answers: Some("401".into()), ..usual() };
    assert_eq!(lines("${short_token}", expired, on), [""; 0], "an honest user's mytoken has expired");
}

#[test]
fn login_scripts_pass_through_the_exported_functions_and_show_no_piece_of_a_token() {
    let mut failed = Vec::new();
    // The prompt of a link has several lines, which the application's output does not keep apart, and its person takes minutes.
    for case in cases(&scripts()).into_iter().filter(|case| case.link.is_none()) {
        for debug in [false, true] {
            if std::panic::catch_unwind(|| play(&case, debug)).is_err() {
                failed.push(format!("{}, debug {debug}", case.about));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The logins of the tests about the process: name, answer, what is different, code.
fn logins() -> Vec<(&'static str, Host, &'static str)> {
    let silent = Case {
        prompt: vec![Prompt { text: "Access Token:".into(), answer: "${short_token}".into() }],
        server: script::Server { answers: Some("nothing".into()), ..script::Server::default() },
        ..Case::default()
    };
    vec![
        ("accepted", Host::answering("${access_token}", "debug"), "SUCCESS"),
        ("delegated", Host::answering("${transfer_code}", "debug"), "SUCCESS"),
        ("exchanged", Host::answering("${mytoken}", "debug"), "SUCCESS"),
        ("refused", Host::answering("nonsense", "debug"), "AUTH_ERR"),
        ("unavailable", Host::new(&silent, "debug"), "AUTHINFO_UNAVAIL"),
    ]
}

#[test]
fn each_hook_leaves_the_process_as_it_was() {
    let panicking = HOOKS.map(|hook| {
        let expected = if hook == "authenticate" { "SYSTEM_ERR" } else { "SUCCESS" };
        (hook, Host::answering("${access_token}", &format!("panic={hook}")), expected)
    });
    for (name, host, expected) in logins().into_iter().chain(panicking) {
        let printed = host.run(&[], &["hooks"]);
        assert_eq!(printed.after("code"), [code(expected)], "{name}: {}{}", printed.output, printed.errors);
        assert_eq!(printed.after("hook").len(), HOOKS.len(), "{name}: {}", printed.output);
        assert_eq!(printed.after("changed"), [""; 0], "{name}");
        assert_eq!(printed.errors, "", "{name}");
    }
    let spoiled = Host::answering("${access_token}", "").run(&[], &["hooks", "spoil"]);
    assert!(spoiled.after("changed").len() >= 10, "a change is not seen: {}", spoiled.output);
}

#[test]
fn no_piece_of_a_token_stays_in_the_memory_of_the_process() {
    for (name, host, expected) in logins() {
        let printed = host.run(&[], &["hooks", "scan"]);
        assert_eq!(printed.after("code"), [code(expected)], "{name}: {}{}", printed.output, printed.errors);
        assert_eq!(printed.after("copies"), ["0"], "{name}: {}", printed.output);
    }
    let kept = Host::answering("${access_token}", "").run(&[], &["scan", "keep", "tries=1"]);
    assert_eq!(kept.after("copies"), ["1"], "the copy is not found: {}", kept.output);
}

#[test]
fn valgrind_finds_no_error_and_no_leak() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        skipped::skip("valgrind is not installed; it is a package of the distribution").unwrap();
        return;
    }
    let wrapper = [
        "valgrind",
        "--quiet",
        "--error-exitcode=99",
        "--leak-check=full",
        "--show-leak-kinds=definite,indirect",
        "--errors-for-leak-kinds=definite,indirect",
    ];
    let panicking = ("panicking", Host::answering("${access_token}", "panic=authenticate"), "SYSTEM_ERR");
    for (name, host, expected) in logins().into_iter().chain([panicking]) {
        // With `hooks` valgrind's own descriptors would be compared too.
        let printed = host.run(&wrapper, &["tries=2"]);
        assert!(printed.success && printed.errors.is_empty(), "{name}: {}", printed.errors);
        assert_eq!(printed.after("result")[0], code(expected), "{name}: {}", printed.output);
    }
}
