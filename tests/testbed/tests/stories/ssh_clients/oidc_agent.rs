// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens of other programs: of Debian's oidc-agent, and of a command.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::drive::journal::Journal;
use testbed::drive::{people, tokens};
use testbed::site::plan::TESTSERVER_INSIDE;
use testbed::site::servers::{AUDIENCE, CA, PROVIDER};
use testbed::{Options, Result, story_with_own_servers};

/// Starts the agent, and makes an account by a login in the browser: the link is in a line of oidc-gen's output.
fn account(name: &str) -> String {
    format!(
        "set -e
oidc-agent >agent.sh 2>agent.err || {{ cat agent.err; exit 1; }}
until grep -q OIDC_SOCK agent.sh; do sleep 0.1; done
. ./agent.sh >&2
until oidc-add --loaded >&2; do sleep 0.1; done
mkdir -p .config/oidc-agent
oidc-gen {name} --manual --issuer {PROVIDER} --client-id native --client-secret native --redirect-url http://localhost:4242 \\
    --scope 'openid offline_access profile storage.read' --cp {CA} --flow code --no-url-call --no-save --pw-cmd 'echo pw' \\
    >gen.out 2>&1 </dev/null &
for second in $(seq 200); do
    link=$(grep -ao 'https://[^ ]*/authorize[^ ]*' gen.out | head -n 1)
    [ -z \"$link\" ] || break
    sleep 0.1
done
[ -n \"$link\" ] || {{ cat gen.out; exit 1; }}
callback=$({TESTSERVER_INSIDE} browser \"$link\" --user alice --ca {CA} --until-redirect) || {{ cat gen.out; exit 1; }}
curl -sS -o page.html \"$callback\"
wait $! || {{ cat gen.out page.html; exit 1; }}"
    )
}

const LOGIN: &str = "mytoken-ssh ssh testbed 'test -s $BEARER_TOKEN_FILE && echo inside'";

/// The audience of the provider's tokens, unless it is told another one.
const OTHER: &str = "https://default.example.org";

#[test]
fn a_host_gets_tokens_of_oidc_agent_and_of_a_command() -> Result<()> {
    let options = Options { nodes: 1, ssh_clients: true, penalties: false, ..Options::new()? };
    story_with_own_servers(options, |site| {
        let alice = |script: &str| {
            let script = format!("[ ! -e agent.sh ] || . ./agent.sh >/dev/null; {script}");
            site.script("alice", &script).timeout(Duration::from_secs(60)).run()
        };
        alice(&account("cluster"))?.ok()?;
        let provider_gives = |audience: &str| {
            people::control(site, "/provider/policy", Some(&json!({"default_audience": audience}).to_string()))
                .map(drop)
        };
        let add = format!("mytoken-ssh add testbed --oidc-agent cluster --audience {AUDIENCE}");
        let by_command = |command: &Value, audience: &str| {
            let audience = if audience.is_empty() { String::new() } else { format!("audience = \"{audience}\"\n") };
            let text = format!("[[host]]\npattern = \"testbed\"\n{audience}command = {command}\n");
            site.script("alice", "cat >.config/mytoken/hosts.toml").stdin(text).run()?.ok().map(drop)
        };

        // Nobody names audience and scope: the agent's account has more than one host needs.
        let outcome = alice(LOGIN)?;
        assert!(!outcome.success() && outcome.stderr.contains("mytoken-ssh: you have no mytoken"), "{outcome:?}");
        // A token that the host could use elsewhere.
        alice(&add)?.ok()?;
        let outcome = alice(LOGIN)?;
        let refused = format!("oidc-agent gives no token of cluster: it is for {OTHER} instead of {AUDIENCE}");
        assert!(!outcome.success() && outcome.stderr.contains(&refused), "{outcome:?}");
        by_command(&json!(["oidc-token", "cluster"]), AUDIENCE)?;
        let outcome = alice(LOGIN)?;
        let refused = format!("what oidc-token prints is not sent: it is for {OTHER} instead of {AUDIENCE}");
        assert!(!outcome.success() && outcome.stderr.contains(&refused), "{outcome:?}");

        provider_gives(AUDIENCE)?;
        for (audience, line) in [
            ("", LOGIN.to_owned()),
            (AUDIENCE, LOGIN.to_owned()),
            // Without an entry, only because there is no mytoken.
            (
                "",
                format!(
                    "rm .config/mytoken/hosts.toml; {}",
                    LOGIN.replace(
                        "testbed",
                        &format!("--audience {AUDIENCE} --scope 'openid profile storage.read' testbed")
                    )
                ),
            ),
            ("", format!("{add} >&2; {LOGIN}")),
            ("", format!("eval \"$(mytoken-ssh env)\"; {}", LOGIN.replace("mytoken-ssh ssh", "ssh"))),
        ] {
            if !line.contains("env") {
                by_command(&json!(["oidc-token", "--force-new", format!("--aud={AUDIENCE}"), "cluster"]), audience)?;
            }
            let outcome = alice(&line)?.ok()?;
            assert_eq!(outcome.stdout, "inside\n", "{line}: {outcome:?}");
            let told = outcome.stderr.contains("with oidc-agent's account cluster, because you have no mytoken");
            assert_eq!(told, line.starts_with("rm"), "{line}: {outcome:?}");
        }
        let shown = alice("mytoken-ssh status; mytoken-ssh doctor testbed && mytoken-ssh hosts")?.ok()?.stdout;
        for part in [
            "oidc-agent has cluster;",
            &format!("alice@testbed gets an access token of oidc-agent's cluster for {AUDIENCE} with all scopes"),
            &format!("audience {AUDIENCE}, from oidc-agent's account cluster, all scopes of the account"),
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let outcome = alice("mytoken-ssh ssh --delegate testbed true")?;
        assert!(!outcome.success() && outcome.stderr.contains("only a mytoken can be delegated"), "{outcome:?}");
        assert_eq!(Journal::read(site)?.requests_to("access_token"), 0, "nobody asked the mytoken server");

        // A program may print a mytoken, which is not sent.
        let mytoken = tokens::mytoken(site, "alice", &json!({}))?;
        site.script("alice", "umask 077; cat >printed").stdin(mytoken).run()?.ok()?;
        by_command(&json!(["cat", "/home/alice/printed"]), "")?;
        assert_eq!(alice(LOGIN)?.ok()?.stdout, "inside\n");
        assert_eq!(Journal::read(site)?.requests_to("access_token"), 1);
        assert_eq!(alice(&LOGIN.replace("ssh ssh", "ssh ssh --delegate"))?.ok()?.stdout, "inside\n");
        assert_eq!(Journal::read(site)?.sub_tokens(), 1);
        // The host and the helper revoke the session's mytoken of a login that was refused.
        Journal::clear(site)?;
        let outcome = alice("mytoken-ssh scp --delegate -q bob@testbed:a .")?;
        let journal = Journal::read(site)?;
        let requests = (journal.sub_tokens(), journal.requests_to("revocation"));
        assert!(!outcome.success() && requests == (1, 2), "{outcome:?}\n{journal:?}");
        by_command(&json!(["sh", "-c", "echo it does not work >&2; exit 7"]), "")?;
        let outcome = alice(LOGIN)?;
        let told = outcome.stderr.contains("it does not work\n") && outcome.stderr.contains("failed (exit status: 7)");
        assert!(!outcome.success() && told, "{outcome:?}");
        Ok(())
    })
}
