// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hostile ssh server asks mytoken-ssh for tokens. It writes down all answers that it gets.

use std::time::Duration;

use testbed::drive::{people, tokens};
use testbed::site::daemon::Daemon;
use testbed::{Options, Result, Site, story_with_own_servers, wait};

use super::programs;

const NAME: &str = "hostile";

/// The server is `evil`. Its key is known, except as `other-key`, which has another one, and `no-key`.
const SET_UP: &str = "set -e
mkdir -p .ssh .config/mytoken
ssh-keygen -q -t ed25519 -N '' -f hostile_key
ssh-keygen -q -t ed25519 -N '' -f another_key
for name in evil other-key no-key; do
    printf 'Host %s\\n    HostName 127.0.0.1\\n    Port 2222\\n    HostKeyAlias %s\\n' $name $name >>.ssh/config
done
sed 's/^/evil /' hostile_key.pub >>.ssh/known_hosts
sed 's/^/other-key /' another_key.pub >>.ssh/known_hosts";

const TOKEN: &str = "Access Token: ";
const OF_TARGET: &str = "(alice@testbed) Access Token: ";
const LOGIN: &str = "mytoken-ssh ssh evil true";

/// A server that asks so, what the user runs, and how many tokens the server may get: its own one, once.
struct Row {
    prompts: &'static [&'static str],
    rounds: u32,
    command: &'static str,
    tokens: usize,
}

const fn row(prompts: &'static [&'static str], rounds: u32, command: &'static str, tokens: usize) -> Row {
    Row { prompts, rounds, command, tokens }
}

const ROWS: &[Row] = &[
    // It is a host for which the user's mytoken makes tokens.
    row(&[TOKEN], 1, LOGIN, 1),
    // A prompt in the name of the target, alone, behind a message, behind an escape sequence.
    row(&[OF_TARGET], 1, LOGIN, 0),
    row(&["Welcome\n(alice@testbed) Access Token: "], 1, LOGIN, 0),
    row(&["\u{1b}[2K\r(alice@testbed) Access Token: "], 1, LOGIN, 0),
    row(&["\u{1b}[2K\rAccess Token: "], 1, LOGIN, 0),
    // Other words.
    row(&["Paste your access token: "], 1, LOGIN, 0),
    row(&["Access Token for https://storage.testbed: "], 1, LOGIN, 0),
    row(&["Access Token (2/2): "], 1, LOGIN, 0),
    row(&["alice@evil's password: "], 1, LOGIN, 0),
    // Again, together, and without end.
    row(&[TOKEN], 2, LOGIN, 1),
    row(&[TOKEN, TOKEN], 1, LOGIN, 1),
    row(&[TOKEN, "Access Token (2/2): "], 1, LOGIN, 1),
    row(&[TOKEN], 100_000, LOGIN, 1),
    row(&["Token: "], 100_000, LOGIN, 0),
    // The password method has a prompt of ssh itself.
    row(&[], 1, LOGIN, 0),
    // As jump host, which has no entry, for a target that has one.
    row(&[OF_TARGET], 1, "mytoken-ssh ssh -J evil testbed true", 0),
    row(&[OF_TARGET], 1, "mytoken-ssh ssh --audience https://testbed -J evil testbed true", 0),
    // As one of two hosts.
    row(&[OF_TARGET], 1, "mytoken-ssh scp evil:a testbed:b", 0),
    // Keys that are not the host's.
    row(&[TOKEN], 1, "mytoken-ssh ssh no-key true", 0),
    row(&[TOKEN], 1, "mytoken-ssh ssh other-key true", 0),
    row(&[TOKEN], 1, "mytoken-ssh ssh -o StrictHostKeyChecking=no other-key true", 0),
];

fn start(site: &Site, row: &Row) -> Result<()> {
    let program = format!("{}/hostile_server.py", programs::FOLDER);
    let prompts = serde_json::json!(row.prompts).to_string();
    let rounds = row.rounds.to_string();
    let argv = ["python3", &program, "2222", "/home/alice/hostile_key", "/home/alice/record", &prompts, &rounds]
        .map(str::to_owned);
    site.start_daemon(Daemon::new(NAME, argv))?;
    wait::until("the hostile server", Duration::from_secs(20), || {
        Ok(site.sh("alice", "exec 3<>/dev/tcp/127.0.0.1/2222")?.success().then_some(()))
    })
}

#[test]
fn a_hostile_server_gets_at_most_its_own_token_once() -> Result<()> {
    let options = Options { nodes: 1, ssh_clients: true, penalties: false, ..Options::new()? };
    story_with_own_servers(options, |site| {
        programs::install(site)?;
        people::first_mytoken(site, "alice")?;
        people::name_scope_of_host(site, "alice")?;
        site.sh("alice", SET_UP)?.ok()?;
        let mytoken = tokens::stored(site, "alice")?;
        let mut wrong = Vec::new();
        for row in ROWS {
            site.sh("alice", ": >record")?.ok()?;
            start(site, row)?;
            let outcome = site.script("alice", row.command).timeout(Duration::from_secs(60)).run()?;
            site.stop(NAME, "KILL")?;
            let record = site.read("/home/alice/record")?;
            let answers: Vec<Vec<String>> = record.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let sent = answers.iter().flatten().filter(|answer| !answer.is_empty()).count();
            let is_good = !outcome.success() && sent == row.tokens && answers.len() < 30;
            if !is_good || record.contains(&mytoken) || outcome.stderr.contains("eyJ") {
                wrong.push(format!(
                    "{:?} x {}, {}: sent {sent}, {} rounds, {outcome:?}",
                    row.prompts,
                    row.rounds,
                    row.command,
                    answers.len()
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}
