// SPDX-License-Identifier: MIT OR Apache-2.0
//! paramiko, which sends what other clients cannot: very long answers, NUL, and other numbers of answers than prompts.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::site::command::CommandOutcome;
use testbed::{Error, Result, Site};

use super::{COMMAND, PARAMIKO, is_inside, mint, play, programs, with_clients};

const TIMEOUT: Duration = Duration::from_secs(20);

/// The processes of sshd that ask for an answer.
const PROMPTS: &str = "pgrep -f 'sshd.*\\[pam\\]'";

/// Logs in as alice with these attempts: for each one the answers to each of its requests.
fn attempts(site: &Site, attempts: &Value) -> Result<CommandOutcome> {
    let program = format!("{}/paramiko_client.py", programs::FOLDER);
    site.command("alice", ["python3", &program, "testbed", "alice", COMMAND]).stdin(attempts.to_string()).run()
}

/// How each attempt ended.
fn results(outcome: &CommandOutcome) -> Vec<&str> {
    outcome.stderr.lines().filter_map(|line| line.strip_prefix("attempt ")).collect()
}

#[test]
fn paramiko_gets_in_and_shows_refusals() -> Result<()> {
    with_clients(|site| play(site, &PARAMIKO))
}

#[test]
fn answers_of_paramiko_that_no_prompt_asked_for_do_no_harm() -> Result<()> {
    with_clients(|site| {
        let token = mint(site, &json!({}))?;
        // After each of these, the same connection accepts a good token.
        for (name, answer) in [
            ("nothing", String::new()),
            ("a line feed inside", token.replacen('.', ".\n", 1)),
            ("70 KiB", "a".repeat(70 * 1024)),
            ("200,000 bytes", "a".repeat(200_000)),
        ] {
            let outcome = attempts(site, &json!([[[answer]], [[token]]]))?;
            assert_eq!(results(&outcome), ["AuthenticationException", "accepted"], "{name}: {outcome:?}");
            assert!(is_inside(&outcome, &token), "{name}: {outcome:?}");
        }
        // sshd ends these connections. The module waits for an answer then.
        for (name, answers) in [
            ("no answer", json!([])),
            ("two answers", json!([token, token])),
            ("a hundred answers", json!(vec![&token; 100])),
            ("NUL inside", json!([token.replacen('.', "\0.", 1)])),
            ("more than a packet", json!(["a".repeat(262_144)])),
        ] {
            let outcome = attempts(site, &json!([[answers], [[token]]]))?;
            assert!(!results(&outcome).contains(&"accepted"), "{name}: {outcome:?}");
            assert!(!outcome.stdout.contains("inside"), "{name}: {outcome:?}");
        }
        let outcome = attempts(site, &json!([[[format!("{token}\0")]]]))?;
        assert!(is_inside(&outcome, &token), "sshd drops a NUL at the end: {outcome:?}");
        // The longest token.
        let long = mint(site, &json!({"pad": 45_000}))?;
        assert!(long.len() > 60_000 && long.len() < 65_536, "{}", long.len());
        let outcome = attempts(site, &json!([[[long]]]))?;
        assert!(is_inside(&outcome, &long), "{outcome:?}");
        let wait = "expect -c 'spawn ssh testbed; expect Token:; sleep 2'";
        let waiting = site.script("alice", wait).spawn()?;
        site.wait_for("the process of a prompt", TIMEOUT, "root", PROMPTS)?;
        waiting.wait_with_output().map_err(|error| Error::Refused(error.to_string()))?;
        site.wait_for("the end of all prompts", TIMEOUT, "root", &format!("! {PROMPTS}"))?;
        let records = site.sh("root", "find /run/mytoken/handover -mindepth 2 -type f")?.ok()?.stdout;
        assert_eq!(records, "", "what a login left");
        let log = site.system_log()?;
        assert!(!log.contains("internal error") && !log.contains("segfault"), "{log}");
        Ok(())
    })
}
