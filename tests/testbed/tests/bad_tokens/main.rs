// SPDX-License-Identifier: MIT OR Apache-2.0
//! Invalid input of all kinds: each is refused with the code of the table in `pam-mytoken/src/codes.rs`,
//! real ssh does not log in, and no log contains any of it, also at sshd's DEBUG3.

mod attempt;
mod inputs;

use serde_json::json;
use testbed::drive::people;
use testbed::{Options, Result, Site, story_with_own_servers};

use attempt::Driver;
use inputs::Input;

#[test]
fn every_bad_token_is_refused() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, sshd_log_level: "DEBUG3", ..Options::new()? }, |site| {
        let driver = Driver::build(site)?;
        // Each must be refused for its own fault, not for a spent budget.
        site.write("/etc/mytoken/login.d/50-budget.toml", "[budget]\nper_address = 1000\nper_host = 1000\n", "0644")?;
        let inputs = inputs::all(site)?;
        assert!(inputs.len() >= 30, "only {} inputs", inputs.len());
        let good = inputs::good_access_token(site)?;
        assert_eq!(
            driver.authenticate(site, "alice", std::slice::from_ref(&good))?.code,
            0,
            "the good token is refused"
        );

        let said = attempt::ssh(site, "alice", std::slice::from_ref(&good))?;
        assert!(said.success() && said.stdout.contains("inside"), "ssh refuses the good token: {}", said.stderr);

        let wrong: Vec<String> = in_parallel(&inputs, |input| check_code(site, &driver, input));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let wrong: Vec<String> = in_parallel(&inputs, |input| check_ssh(site, input));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        nothing_secret_in_the_logs(site, inputs.iter().flat_map(|input| &input.answers).chain([&good]))
    })
}

#[test]
fn an_unknown_issuer_causes_no_packet() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, ..Options::new()? }, |site| {
        let driver = Driver::build(site)?;
        for input in inputs::of_unknown_issuers(site)? {
            let seen = driver.authenticate_without_network(site, "alice", &input.answers)?;
            assert_eq!(seen.code, input.expected.code(), "{}: {}", input.name, seen.said);
            assert_eq!(seen.packets, Some(0), "{}: something was sent", input.name);
        }
        // The counter works: for a name lookup, for IPv4 and IPv6, and for the module with a token that needs its
        // server.
        for program in ["getent hosts evil.example.org", "curl -sm2 http://192.0.2.1", "curl -sm2 http://[2001:db8::1]"]
        {
            let said = attempt::counted(site, program, &[])?;
            assert!(attempt::packets(&said) > Some(0), "`{program}` was not counted: {said}");
        }
        let known = inputs::first_token(site, &json!({"capabilities": ["AT", "create_mytoken", "tokeninfo"]}))?;
        let seen = driver.authenticate_without_network(site, "alice", &inputs::pieces(&known))?;
        assert_eq!(seen.code, inputs::ExpectedCode::AuthinfoUnavail.code(), "{}", seen.said);
        assert!(seen.packets > Some(0), "the module's own request was not counted");
        Ok(())
    })
}

/// Checks the module's return code for this input; gives the difference.
fn check_code(site: &Site, driver: &Driver, input: &Input) -> Option<String> {
    match driver.authenticate(site, "alice", &input.answers) {
        Ok(seen) if seen.code == input.expected.code() => None,
        Ok(seen) => {
            Some(format!("{}: code {} instead of {}\n{}", input.name, seen.code, input.expected.code(), seen.said))
        }
        Err(error) => Some(format!("{}: {error}", input.name)),
    }
}

/// Checks that real ssh does not log in with this input; gives the difference.
fn check_ssh(site: &Site, input: &Input) -> Option<String> {
    match attempt::ssh(site, "alice", &input.answers) {
        Ok(seen) if seen.success() || seen.stdout.contains("inside") => Some(format!("{}: ssh let it in", input.name)),
        Ok(seen) if seen.stderr.contains("Permission denied") || seen.stderr.contains("Connection closed") => None,
        Ok(seen) => Some(format!("{}: ssh ended otherwise: {}", input.name, seen.stderr)),
        Err(error) => Some(format!("{}: {error}", input.name)),
    }
}

fn nothing_secret_in_the_logs<'a>(site: &Site, secrets: impl Iterator<Item = &'a String>) -> Result<()> {
    let log = site.sh("root", "cat /var/log/all.log")?.ok()?.stdout;
    assert!(log.contains("debug3:"), "sshd did not log at DEBUG3");
    for not_for_what_it_is in ["reason=budget", "reason=server_limit"] {
        assert!(!log.contains(not_for_what_it_is), "{not_for_what_it_is}");
    }
    for secret in secrets.filter(|secret| secret.len() >= 8 && !secret.starts_with("INCORRECT")) {
        // Whole tokens and their halves: some were cut or sent in chunks.
        let (head, tail) = secret.split_at(secret.floor_char_boundary_at(secret.len() / 2));
        for part in [head, tail].into_iter().filter(|part| part.len() >= 8) {
            assert!(!log.contains(part), "a log holds a part of a token: {part:.12}...");
        }
    }
    people::control(site, "/health", None).map(drop)
}

/// `floor_char_boundary` is newer than the oldest compiler.
trait FloorCharBoundary {
    fn floor_char_boundary_at(&self, index: usize) -> usize;
}

impl FloorCharBoundary for String {
    fn floor_char_boundary_at(&self, index: usize) -> usize {
        (0..=index).rev().find(|index| self.is_char_boundary(*index)).unwrap_or(0)
    }
}

/// Runs `each` on all inputs, eight at a time: a refusal takes two seconds by design.
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
