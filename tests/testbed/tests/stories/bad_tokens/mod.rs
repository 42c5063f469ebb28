// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many kinds of invalid input. The module refuses each with the code of the table in `pam-mytoken/src/codes.rs`, real
//! ssh does not log in, and no log contains a part of the input, even at sshd's DEBUG3.

pub(crate) mod attempt;
pub(crate) mod inputs;

use serde_json::json;
use testbed::drive::people;
use testbed::{Options, Result, Site, story_with_own_servers};

use attempt::Driver;
use inputs::Input;

#[test]
fn every_bad_token_is_refused() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, sshd_log_level: "DEBUG3", ..Options::new()? }, |site| {
        let driver = Driver::build(site)?;
        // A high budget, so that each input is refused for its own fault.
        site.write("/etc/mytoken/login.d/50-budget.toml", "[budget]\nper_address = 1000\nper_host = 1000\n", "0644")?;
        let inputs = inputs::all(site)?;
        assert!(inputs.len() >= 30, "only {} inputs", inputs.len());
        let good = inputs::good_access_token(site)?;
        assert_eq!(
            driver.authenticate(site, "alice", std::slice::from_ref(&good))?.code,
            0,
            "the good token is refused"
        );

        let outcome = attempt::ssh(site, "alice", std::slice::from_ref(&good))?;
        assert!(
            outcome.success() && outcome.stdout.contains("inside"),
            "ssh refuses the good token: {}",
            outcome.stderr
        );

        let failures: Vec<String> = in_parallel(&inputs, |input| check_code(site, &driver, input));
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        let failures: Vec<String> = in_parallel(&inputs, |input| check_ssh(site, input));
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        check_logs_for_tokens(site, inputs.iter().flat_map(|input| &input.answers).chain([&good]))
    })
}

#[test]
fn an_unknown_issuer_causes_no_packet() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, ..Options::new()? }, |site| {
        let driver = Driver::build(site)?;
        for input in inputs::of_unknown_issuers(site)? {
            let result = driver.authenticate_without_network(site, "alice", &input.answers)?;
            assert_eq!(result.code, input.expected.code(), "{}: {}", input.name, result.output);
            assert_eq!(result.packets, Some(0), "{}: the module sent packets", input.name);
        }
        // A control: the counter counts name lookups, IPv4, IPv6, and the module's own requests.
        for program in ["getent hosts evil.example.org", "curl -sm2 http://192.0.2.1", "curl -sm2 http://[2001:db8::1]"]
        {
            let output = attempt::run_and_count_packets(site, program, &[])?;
            assert!(attempt::packets(&output) > Some(0), "`{program}` was not counted: {output}");
        }
        let known = inputs::first_token(site, &json!({"capabilities": ["AT", "create_mytoken", "tokeninfo"]}))?;
        let result = driver.authenticate_without_network(site, "alice", &inputs::pieces(&known))?;
        assert_eq!(result.code, inputs::ExpectedCode::AuthinfoUnavail.code(), "{}", result.output);
        assert!(result.packets > Some(0), "the module's own request was not counted");
        Ok(())
    })
}

/// Checks the module's return code for this input. Returns a message if it is wrong.
fn check_code(site: &Site, driver: &Driver, input: &Input) -> Option<String> {
    match driver.authenticate(site, "alice", &input.answers) {
        Ok(result) if result.code == input.expected.code() => None,
        Ok(result) => Some(format!(
            "{}: code {} instead of {}\n{}",
            input.name,
            result.code,
            input.expected.code(),
            result.output
        )),
        Err(error) => Some(format!("{}: {error}", input.name)),
    }
}

/// Checks that real ssh refuses this input. Returns a message if it does not.
fn check_ssh(site: &Site, input: &Input) -> Option<String> {
    match attempt::ssh(site, "alice", &input.answers) {
        Ok(outcome) if outcome.success() || outcome.stdout.contains("inside") => {
            Some(format!("{}: the login succeeded", input.name))
        }
        Ok(outcome) if outcome.stderr.contains("Permission denied") || outcome.stderr.contains("Connection closed") => {
            None
        }
        Ok(outcome) => Some(format!("{}: ssh failed for another reason: {}", input.name, outcome.stderr)),
        Err(error) => Some(format!("{}: {error}", input.name)),
    }
}

fn check_logs_for_tokens<'a>(site: &Site, secrets: impl Iterator<Item = &'a String>) -> Result<()> {
    let log = site.system_log()?;
    assert!(log.contains("debug3:"), "sshd did not log at DEBUG3");
    for other_reason in ["reason=budget", "reason=server_limit"] {
        assert!(!log.contains(other_reason), "{other_reason}");
    }
    for secret in secrets.filter(|secret| secret.len() >= 8 && !secret.starts_with("INCORRECT")) {
        // Halves are searched too, because some tokens were cut or sent in chunks.
        let (head, tail) = secret.split_at(secret.floor_char_boundary_at(secret.len() / 2));
        for part in [head, tail].into_iter().filter(|part| part.len() >= 8) {
            assert!(!log.contains(part), "a log contains a part of a token: {part:.12}...");
        }
    }
    people::control(site, "/health", None).map(drop)
}

/// The oldest supported compiler has no `floor_char_boundary`.
trait FloorCharBoundary {
    fn floor_char_boundary_at(&self, index: usize) -> usize;
}

impl FloorCharBoundary for String {
    fn floor_char_boundary_at(&self, index: usize) -> usize {
        (0..=index).rev().find(|index| self.is_char_boundary(*index)).unwrap_or(0)
    }
}

/// Runs `each` on all inputs, eight at a time, because a refusal takes one second by design.
fn in_parallel(inputs: &[Input], each: impl Fn(&Input) -> Option<String> + Sync) -> Vec<String> {
    inputs
        .chunks(8)
        .flat_map(|chunk| {
            std::thread::scope(|scope| {
                let running: Vec<_> = chunk.iter().map(|input| scope.spawn(|| each(input))).collect();
                running
                    .into_iter()
                    .filter_map(|thread| thread.join().unwrap_or_else(|_| Some("a panic".into())))
                    .collect::<Vec<_>>()
            })
        })
        .collect()
}
