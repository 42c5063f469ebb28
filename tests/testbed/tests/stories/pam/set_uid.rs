// SPDX-License-Identifier: MIT OR Apache-2.0
//! su and sudo with tokens, where `services` lists them.

use std::time::Duration;

use serde_json::json;
use testbed::drive::tokens;
use testbed::site::command::CommandOutcome;
use testbed::{Result, Site, skip, story_with_own_servers};

use super::one_node;
use crate::bad_tokens::attempt::{Driver, PROGRAM, STACKS, terminated};
use crate::bad_tokens::inputs;

/// Both services accept nothing but tokens.
const STACK: &str = "auth required pam_mytoken.so\naccount required pam_mytoken.so\nsession required pam_mytoken.so\n";

const NO_FILES: &str = "! find /run/mytoken/sessions /run/mytoken/handover -mindepth 2 | grep .";

fn list_services(site: &Site) -> Result<()> {
    let text = site.read("/etc/mytoken/login.toml")?;
    let listed = text.replacen("services = [\"sshd\"]", "services = [\"sshd\", \"su\", \"sudo\"]", 1);
    site.write("/etc/mytoken/login.toml", &listed, "0644")?;
    site.write("/etc/pam.d/su", STACK, "0644")?;
    site.write("/etc/pam.d/sudo", STACK, "0644")
}

/// Runs `command` as bob on a terminal, and types these answers at the prompts.
fn on_terminal(site: &Site, command: &str, answers: &[String]) -> Result<CommandOutcome> {
    site.script("bob", "cat >answers").stdin(answers.join("\n")).run()?.ok()?;
    let script = format!(
        "set timeout 30\nset file [open answers]\nset answers [split [read $file] \"\\n\"]\nlog_user 0\nspawn {command}\n\
         foreach answer $answers {{\n  expect -re {{Access Token[^\\n]*: ?$}}\n  sleep 0.3\n  send -- \"$answer\\r\"\n}}\n\
         log_user 1\nexpect eof\ncatch wait result\nexit [lindex $result 3]\n"
    );
    site.script("bob", "cat >drive.exp").stdin(script).run()?.ok()?;
    site.sh("bob", "expect drive.exp")
}

/// The token in pieces of at most `limit` bytes, with their marks.
fn pieces(token: &str, limit: usize) -> Vec<String> {
    // `@10/99:`
    let data: Vec<&str> =
        token.as_bytes().chunks(limit.saturating_sub(7)).filter_map(|piece| std::str::from_utf8(piece).ok()).collect();
    let count = data.len();
    data.iter().enumerate().map(|(index, piece)| format!("@{}/{count}:{piece}", index + 1)).collect()
}

#[test]
fn su_accepts_a_token_in_one_answer_or_in_pieces_and_says_when_it_was_cut() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        list_services(site)?;
        let su = "su alice -c {id -un; stat -c %U $BEARER_TOKEN_FILE}";
        let (short, long) = (inputs::mint(site, &json!({}))?, inputs::mint(site, &json!({"pad": 5_000}))?);
        assert!(short.len() < 4_095 && long.len() > 4_095);
        for answers in [vec![short.clone()], pieces(&short, 511), pieces(&long, 511), pieces(&long, 4_095)] {
            let outcome = on_terminal(site, su, &answers)?.ok()?;
            let count = outcome.stdout.lines().filter(|line| line.trim() == "alice").count();
            assert_eq!(count, 2, "{} answers: {}", answers.len(), outcome.stdout);
            site.wait_for("the end of the session", Duration::from_secs(30), "root", NO_FILES)?;
        }
        // The terminal and su take 4095 bytes.
        for (answer, from) in
            [(long.as_str(), "the terminal"), (long.get(..511).unwrap_or_default(), "another program")]
        {
            let outcome = on_terminal(site, su, &[answer.to_owned()])?;
            assert!(!outcome.success(), "{from}");
            assert!(
                outcome.stdout.contains("the token was cut by ssh or by the program"),
                "{from}: {}",
                outcome.stdout
            );
        }
        Ok(())
    })
}

#[test]
fn sudo_accepts_the_callers_token_and_gives_no_credential_to_another_user() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        if !site.sh("root", "command -v sudo")?.success() {
            return skip("the root of the site has no sudo");
        }
        list_services(site)?;
        site.write("/etc/sudoers.d/bob", "bob ALL=(alice) ALL\n", "0440")?;
        let token = tokens::access_token(site, "bob")?;
        let sudo = "sudo -k -u alice sh -c {id -un; echo \"<$BEARER_TOKEN_FILE>\"}";
        for answers in [vec![token.clone()], pieces(&token, 511)] {
            // sudo takes no answer of 512 bytes or more.
            let fits = answers.iter().all(|answer| answer.len() < 512);
            let outcome = on_terminal(site, sudo, &answers)?;
            assert_eq!(outcome.success(), fits, "{}", outcome.stdout);
            if fits {
                let lines: Vec<&str> = outcome.stdout.lines().map(str::trim).collect();
                assert!(lines.contains(&"alice") && lines.contains(&"<>"), "{}", outcome.stdout);
            }
        }
        site.wait_for("the end of the record", Duration::from_secs(60), "root", NO_FILES).map(drop)
    })
}

/// The caller of a set-uid program chooses its limits. Whatever they are, the server is not silent for others.
#[test]
fn a_caller_with_few_open_files_causes_no_outage() -> Result<()> {
    story_with_own_servers(one_node()?, |site| {
        let driver = Driver::build(site)?;
        let token = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
        let others = || driver.run(site, &[STACKS, "sshd", "alice", "local"], std::slice::from_ref(&token));
        assert_eq!(others()?.code, 0);
        let mut codes = Vec::new();
        for limit in 3..16 {
            let script = format!("ulimit -n {limit}; exec {PROGRAM} {STACKS} sshd alice local");
            let outcome = site.script("root", &script).stdin(terminated(std::slice::from_ref(&token))).run()?;
            codes.push((limit, outcome.stdout.lines().last().unwrap_or_default().to_owned()));
            let after = others()?;
            assert_eq!(after.code, 0, "after a login with {limit} open files: {}\n{}", after.output, site.logs());
        }
        println!("{codes:?}");
        // Some limits let nothing begin, some stop the module in the middle (PAM_SYSTEM_ERR), and some are enough.
        for code in ["code 4", "code 0"] {
            assert!(codes.iter().any(|(_, found)| found == code), "{code}: {codes:?}");
        }
        Ok(())
    })
}
