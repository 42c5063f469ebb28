// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replays the captures. The test server must answer as the original did. Then a second process of it is the foreign
//! server, which the replay reaches only over HTTP and by commands.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the lints know tests only by their attribute")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use testserver::replay::replay_own;

const PROGRAM: &str = env!("CARGO_BIN_EXE_testserver");

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../captures")
}

#[test]
fn every_capture_passes() {
    let mut different = Vec::new();
    let tally = replay_own(vec![captures()], &mut |line| {
        if !line.starts_with("ok ") {
            different.push(line.to_owned());
        }
    })
    .unwrap();
    assert_eq!((tally.failed, tally.skipped), (0, 0), "{}", different.join("\n"));
    assert!(tally.passed > 0);
}

/// A test server in another process.
struct ForeignServer {
    process: Child,
    endpoints: Value,
    _folder: tempfile::TempDir,
}

impl Drop for ForeignServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl ForeignServer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.json");
        // Generating an RSA key takes seconds in a debug build, so use ES256.
        std::fs::write(&config, r#"{"policy": {"algorithm": "ES256"}}"#).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--plain", "--dir"]).arg(folder.path()).arg("--config").arg(&config);
        for address in ["--mytoken-addr", "--provider-addr", "--resource-addr", "--control-addr"] {
            command.args([address, "127.0.0.1:0"]);
        }
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let endpoints = std::fs::read(folder.path().join("endpoints.json")).unwrap();
        Self { process, endpoints: serde_json::from_slice(&endpoints).unwrap(), _folder: folder }
    }

    fn url(&self, service: &str) -> &str {
        self.endpoints[service].as_str().unwrap()
    }

    /// Plays some topics or `topic/scenario`s. Returns the lines that are not `ok`, and the summary line.
    fn replay(&self, played: &[&str], commands: &[(&str, &str)]) -> (Vec<String>, String) {
        let mut command = Command::new(PROGRAM);
        command.args(["replay", "--server", self.url("mytoken")]);
        for one in played {
            let topic = one.split_once('/').map_or(*one, |(topic, _)| {
                command.args(["--only", one]);
                topic
            });
            command.arg(captures().join(format!("{topic}.json")));
        }
        for (option, value) in commands {
            command.args([option, value]);
        }
        let output = command.output().unwrap();
        let output_text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<String> = output_text.lines().map(str::to_owned).collect();
        let summary = lines.pop().unwrap_or_default();
        assert_eq!(output.status.success(), summary.contains(" 0 failed"), "{output_text}");
        lines.retain(|line| !line.starts_with("ok "));
        (lines, summary)
    }

    /// The command for `--browser`.
    fn browser() -> String {
        format!("f() {{ '{PROGRAM}' browser \"$1\" --user \"$2\" --until-redirect; }}; f")
    }

    /// The command for `--provider-faults`.
    fn provider_faults(&self) -> String {
        format!("'{PROGRAM}' provider-faults --control {}", self.url("control"))
    }
}

#[test]
fn logins_and_provider_faults_are_played_at_a_foreign_server() {
    let foreign = ForeignServer::start();
    let commands = [("--browser", &*ForeignServer::browser()), ("--provider-faults", &*foreign.provider_faults())];
    let (different, summary) = foreign.replay(&["login-flow", "provider", "faults", "guest"], &commands);
    assert_eq!(different, Vec::<String>::new(), "{summary}");
    assert_eq!(summary, "74 passed, 0 failed, 0 skipped");
}

#[test]
fn scenarios_that_a_foreign_server_cannot_play_are_skipped_with_a_reason() {
    let foreign = ForeignServer::start();
    let browser = ("--browser", &*ForeignServer::browser());
    let faults = ("--provider-faults", &*foreign.provider_faults());
    let skipped = |topic: &str, commands: &[(&str, &str)], reason: &str| {
        let (lines, summary) = foreign.replay(&[topic], commands);
        assert_eq!(summary, "0 passed, 0 failed, 1 skipped", "{lines:?}");
        assert!(lines[0].starts_with("skipped ") && lines[0].ends_with(reason), "{lines:?}");
    };
    skipped("login-flow/complete", &[faults], "needs a login: give --browser, or --first-token for first tokens");
    skipped("faults/at-500-html", &[browser], "needs faults of the provider: give --provider-faults");
    skipped("provider/login", &[browser], "needs the requests to the provider: give --provider-faults");
    skipped("ratelimit", &[browser, faults], "needs a server with the server_config of its capture");
    let no_account = ("--browser", "f() { echo \"no account $2 there\" >&2; exit 77; }; f");
    skipped("login-flow/complete", &[no_account, faults], "no account alice there");
    let no_faults = ("--provider-faults", "f() { echo \"cannot do $2\" >&2; exit 77; }; f");
    skipped("faults/at-500-html", &[browser, no_faults], "cannot do 500-html");
}

#[test]
fn a_failing_command_fails_the_scenario() {
    let foreign = ForeignServer::start();
    let browser = ("--browser", &*ForeignServer::browser());
    let failed = |scenario: &str, commands: &[(&str, &str)], reason: &str| {
        let (lines, summary) = foreign.replay(&[scenario], commands);
        assert_eq!(summary, "0 passed, 1 failed, 0 skipped", "{lines:?}");
        assert!(lines[0].contains(reason), "{lines:?}");
    };
    failed("login-flow/complete", &[("--browser", "false")], "exit status: 1");
    failed("login-flow/complete", &[("--browser", "echo")], "the browser command must print the URL");
    failed("faults/at-500-html", &[browser, ("--provider-faults", "true")], "access_token: expected");
    failed("provider/login", &[browser, ("--provider-faults", "echo")], "the output is not a list of requests");
}
