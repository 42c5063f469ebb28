// SPDX-License-Identifier: MIT OR Apache-2.0
//! The prompt for programs that answer only questions with the word password, and what it costs.

use serde_json::json;
use testbed::drive::tokens;
use testbed::{Result, Site};

use super::{ASYNCSSH, Client, OPENSSH, SSHPASS, is_inside, mint, play, run, with_clients};

/// The line of login.toml in the guide.
const PROMPT: &str = "[prompt]\ntext = \"Password or Access Token:\"\n";

/// sshpass as most people start it. With another prompt it waits for ever.
const PLAIN_SSHPASS: Client = Client {
    script: "timeout 5 sshpass -f token \
             ssh -o PreferredAuthentications=keyboard-interactive alice@testbed \"$COMMAND\"",
    ..SSHPASS
};

fn ask_for_passwords(site: &Site) -> Result<()> {
    site.write("/etc/mytoken/login.d/50-prompt.toml", PROMPT, "0644")
}

#[test]
fn programs_that_only_answer_passwords_get_in_by_another_prompt() -> Result<()> {
    with_clients(|site| {
        let token = mint(site, &json!({}))?;
        for client in [&ASYNCSSH, &PLAIN_SSHPASS] {
            let outcome = run(site, client, &token)?;
            assert!(outcome.code != 0 && !outcome.stdout.contains("inside"), "{}: {outcome:?}", client.name);
        }
        ask_for_passwords(site)?;
        let outcome = run(site, &PLAIN_SSHPASS, &token)?;
        assert!(is_inside(&outcome, &token), "{outcome:?}");
        play(site, &ASYNCSSH)?;
        // A person sees the same prompt.
        play(site, &OPENSSH)
    })
}

/// The price: mytoken-ssh has to know the prompt, and a password of eight letters that a person types is sent to the
/// mytoken server.
#[test]
fn the_prompt_with_the_word_password_has_its_price() -> Result<()> {
    with_clients(|site| {
        ask_for_passwords(site)?;
        tokens::store(site, "alice", &tokens::mytoken(site, "alice", &json!({}))?)?;
        let helper = "mytoken-ssh ssh -o NumberOfPasswordPrompts=1 testbed echo inside";
        let unknown = site.sh("alice", helper)?;
        assert!(!unknown.success() && !unknown.stdout.contains("inside"), "{unknown:?}");
        let prompts = "prompts = [\"Access Token:\", \"Password or Access Token:\"]\n";
        let add = "mkdir -p .config/mytoken && cat >>.config/mytoken/config.toml";
        site.script("alice", add).stdin(prompts).run()?.ok()?;
        assert_eq!(site.sh("alice", helper)?.ok()?.stdout, "inside\n");
        let typed = run(site, &OPENSSH, "sunshine")?;
        assert!(!typed.stdout.contains("inside"), "{typed:?}");
        let log = site.system_log()?;
        assert!(log.contains("reason=code_unknown"), "{log}");
        Ok(())
    })
}
