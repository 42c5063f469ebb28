// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one token costs: one exchange per login, whatever the stack and the method, and with `replay` one login per access token.

use serde_json::json;
use testbed::drive::journal::Journal;
use testbed::drive::{askpass, tokens};
use testbed::{Options, Result, Site, story_with_own_servers};

use super::{login_with_answers, one_node};
use crate::bad_tokens::inputs;

/// Tokens, and then passwords. An accepted token ends the stack, a refused one asks for a password.
const SUFFICIENT: &str = "auth sufficient pam_mytoken.so\nauth required pam_unix.so nodelay\n\
    account sufficient pam_mytoken.so\naccount required pam_unix.so\nsession required pam_mytoken.so\n";

/// More than ssh asks for.
const ANSWERS: usize = 12;

/// A site whose sshd offers both methods, and does not block addresses.
fn both_methods() -> Result<Options> {
    Ok(Options { sshd_config: "PasswordAuthentication yes\n", penalties: false, ..one_node()? })
}

/// What a login cost.
#[derive(Debug, PartialEq)]
struct Cost {
    accepted: bool,
    exchanges: usize,
}

/// Logs in as `user` and answers each prompt with the token. Returns what it cost, and the number of prompts.
fn log_in(site: &Site, method: &str, user: &str, token: &str) -> Result<(Cost, usize)> {
    Journal::clear(site)?;
    let destination = site.new_client()?.destination_of(&format!("{user}@testbed"));
    let ssh = format!("ssh -o PreferredAuthentications={method} {destination} true");
    let outcome = askpass::run_with_answers(site, "alice", &[token; ANSWERS], &ssh)?;
    let cost = Cost { accepted: outcome.success(), exchanges: Journal::read(site)?.requests_to("access_token") };
    Ok((cost, askpass::prompts(site, "alice")?.len()))
}

fn short_token(site: &Site) -> Result<String> {
    tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))
}

#[test]
fn one_exchange_below_a_sufficient_line() -> Result<()> {
    story_with_own_servers(both_methods()?, |site| {
        site.write("/etc/pam.d/sshd", SUFFICIENT, "0644")?;
        let token = short_token(site)?;
        for method in ["keyboard-interactive", "password"] {
            let (cost, prompts) = log_in(site, method, "alice", &token)?;
            assert_eq!((cost, prompts), (Cost { accepted: true, exchanges: 1 }, 1), "{method}");
            // Each of the three attempts goes on to the password, and only the first one asks the server.
            let (cost, prompts) = log_in(site, method, "bob", &token)?;
            assert_eq!(cost, Cost { accepted: false, exchanges: 1 }, "{method}: {prompts} prompts");
            assert!(prompts >= 3, "{method}: {prompts} prompts");
        }
        Ok(())
    })
}

#[test]
fn one_exchange_with_the_password_method() -> Result<()> {
    story_with_own_servers(both_methods()?, |site| {
        let token = short_token(site)?;
        for (user, accepted, prompts) in [("alice", true, 1), ("bob", false, 3), ("alice", true, 1)] {
            let found = log_in(site, "password", user, &token)?;
            assert_eq!(found, (Cost { accepted, exchanges: 1 }, prompts), "{user}");
        }
        Ok(())
    })
}

#[test]
fn an_access_token_opens_one_connection_of_a_host() -> Result<()> {
    story_with_own_servers(Options { penalties: false, ..one_node()? }, |site| {
        let mint = |claims| inputs::mint(site, &json!({"claims": claims})).map(|token| [token]);
        let (first, second, nameless) = (mint(json!({}))?, mint(json!({}))?, mint(json!({"jti": null}))?);
        for _ in 0..2 {
            login_with_answers(site, &first, "true")?.ok()?;
        }
        let text = site.read("/etc/mytoken/login.toml")?;
        site.write("/etc/mytoken/login.toml", &format!("{text}\n[login]\nreplay = \"jti\"\n"), "0644")?;
        for token in [&first, &second, &nameless] {
            login_with_answers(site, token, "true")?.ok()?;
            let before = site.system_log()?.matches("reason=replayed").count();
            let again = login_with_answers(site, token, "true")?;
            assert!(!again.success() && again.stderr.contains("has logged in here before"), "{again:?}");
            assert_eq!(site.system_log()?.matches("reason=replayed").count() - before, 1);
        }
        let explain =
            |[token]: &[String; 1]| site.script("root", "mytokenctl explain --user alice").stdin(token.as_str()).run();
        let explained = explain(&first)?;
        assert!(explained.stdout.contains("refused: replayed (PAM_AUTH_ERR)"), "{explained:?}");
        // A test uses no token.
        let third = mint(json!({}))?;
        let explained = explain(&third)?.ok()?;
        assert!(explained.stdout.contains("it has not logged in on this host"), "{explained:?}");
        login_with_answers(site, &third, "true")?.ok()?;
        let mode = site.sh("root", "stat -c %a:%U /run/mytoken/login/used")?.ok()?.stdout;
        assert_eq!(mode.trim(), "600:root");
        Ok(())
    })
}
