// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other ssh clients than mytoken-ssh, from Debian and from Go: each gets in, and shows a refusal where the guide says
//! so.
//!
//! Programs that use the libraries are in `tests/ssh_clients`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::site::command::CommandOutcome;
use testbed::{Error, Options, Result, Site, story_with_own_servers};

use crate::bad_tokens::inputs;

mod hostile_server;
mod oidc_agent;
mod page;
mod paramiko;
mod password_prompt;
mod programs;
mod rsync_and_git;

/// A client, as the table in the guide names it.
struct Client {
    name: &'static str,
    /// A bash script that logs in as alice and runs `$COMMAND`. Its directory has the files `token`, and `answers` with
    /// the same in lines that are typed one after the other.
    script: &'static str,
    /// Whether a person pastes the token in pieces when it does not send all of it at once.
    can_send_pieces: bool,
}

const OPENSSH: Client = Client {
    name: "OpenSSH",
    script: "$TYPE ssh -o PreferredAuthentications=keyboard-interactive alice@testbed \"$COMMAND\"",
    can_send_pieces: true,
};

const PLINK: Client = Client {
    name: "PuTTY, plink",
    script: "plink -batch -hostkey $HOST_KEY -pwfile token alice@testbed \"$COMMAND\"",
    can_send_pieces: false,
};

const DBCLIENT: Client = Client {
    name: "Dropbear, dbclient",
    script: "DROPBEAR_PASSWORD=$(cat token) dbclient -y alice@testbed \"$COMMAND\"",
    can_send_pieces: false,
};

const SSHPASS: Client = Client {
    name: "sshpass",
    script: "sshpass -P 'Access Token:' -f token \
             ssh -o PreferredAuthentications=keyboard-interactive alice@testbed \"$COMMAND\"",
    can_send_pieces: false,
};

const PARAMIKO: Client = Client {
    name: "paramiko",
    script: "jq -R '[[[.]]]' answers | python3 $PROGRAMS/paramiko_client.py testbed alice \"$COMMAND\"",
    can_send_pieces: false,
};

const ASYNCSSH: Client = Client {
    name: "asyncssh",
    script: "python3 $PROGRAMS/asyncssh_client.py testbed alice token \"$COMMAND\"",
    can_send_pieces: false,
};

const LIBSSH: Client = Client {
    name: "libssh",
    script: "$PROGRAMS/libssh_client testbed alice token \"$COMMAND\"",
    can_send_pieces: false,
};

const LIBSSH2: Client = Client {
    name: "libssh2",
    script: "$PROGRAMS/libssh2_client testbed alice token \"$COMMAND\"",
    can_send_pieces: false,
};

/// It copies a file, so that its line is in that file. The known hosts of curl are those of the user, which has none.
const CURL: Client = Client {
    name: "curl, sftp",
    script: "echo inside alice $(wc -c <token) >greeting && \
             printf 'user = \"alice:%s\"\\n' \"$(cat token)\" >config && \
             curl -sS --insecure -K config sftp://testbed$PWD/greeting",
    can_send_pieces: false,
};

const GO: Client = Client {
    name: "Go, x/crypto/ssh",
    script: "$PROGRAMS/go_client testbed alice token \"$COMMAND\"",
    can_send_pieces: false,
};

const CLIENTS: [&Client; 10] =
    [&OPENSSH, &PLINK, &DBCLIENT, &SSHPASS, &PARAMIKO, &ASYNCSSH, &LIBSSH, &LIBSSH2, &CURL, &GO];

/// The sentence about a token of bob for the account of alice.
const SENTENCE: &str = "your identity is valid but not mapped to the account";

const COMMAND: &str = "echo inside $(id -un) $(wc -c <$BEARER_TOKEN_FILE)";

/// A site with clients. All of them have one address, which sshd must not block.
fn with_clients(body: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    let options = Options { nodes: 1, ssh_clients: true, penalties: false, ..Options::new()? };
    story_with_own_servers(options, |site| {
        programs::install(site)?;
        body(site)
    })
}

/// Runs a client with a token.
fn run(site: &Site, client: &Client, token: &str) -> Result<CommandOutcome> {
    run_with_answers(site, client, token, &[token.to_owned()])
}

fn run_with_answers(site: &Site, client: &Client, token: &str, answers: &[String]) -> Result<CommandOutcome> {
    site.sh("alice", "rm -rf attempt && mkdir -m 700 attempt")?.ok()?;
    site.script("alice", "cat >attempt/token").stdin(token).run()?.ok()?;
    let lines: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
    site.script("alice", "cat >attempt/answers").stdin(lines).run()?.ok()?;
    let script = format!(
        "cd attempt && HOST_KEY=$(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d ' ' -f 2) && \
         TYPE=\"expect $PROGRAMS/type_answers.exp\" && {}",
        client.script
    );
    let command = site.script("alice", &script).env("COMMAND", COMMAND).env("PROGRAMS", programs::FOLDER);
    command.timeout(Duration::from_secs(40)).run()
}

/// The first line of the command on the remote host, if it ran with the whole token.
fn is_inside(outcome: &CommandOutcome, token: &str) -> bool {
    let expected = format!("inside alice {}", token.len());
    outcome.stdout.lines().any(|line| line.trim_end() == expected)
}

/// What the table says, played: a short token, a long one, and a refusal.
fn play(site: &Site, client: &Client) -> Result<()> {
    let row = page::rows()?.into_iter().find(|row| row.client == client.name);
    let row = row.ok_or_else(|| Error::Refused(format!("the guide has no row for {}", client.name)))?;
    let token = mint(site, &json!({}))?;
    let outcome = run(site, client, &token)?;
    assert!(is_inside(&outcome, &token), "{}: {outcome:?}", client.name);

    let long = mint(site, &json!({"pad": 1500}))?;
    assert!(long.len() > 1500 && long.len() < 4000, "{}", long.len());
    let outcome = run(site, client, &long)?;
    assert_eq!(is_inside(&outcome, &long), row.sends_long_answers, "{}: {outcome:?}", client.name);
    if client.can_send_pieces {
        let outcome = run_with_answers(site, client, &long, &inputs::pieces(&long))?;
        assert!(is_inside(&outcome, &long), "{}: {outcome:?}", client.name);
    }

    let outcome = run(site, client, &mint(site, &json!({"user": "bob"}))?)?;
    // The status is no proof: that of dbclient is 0.
    assert!(!outcome.stdout.contains("inside"), "{}: {outcome:?}", client.name);
    let is_shown = outcome.stdout.contains(SENTENCE) || outcome.stderr.contains(SENTENCE);
    assert_eq!(is_shown, row.shows_refusals, "{}: {outcome:?}", client.name);
    // The refusal is not a mistake of the client.
    let log = site.system_log()?;
    assert!(log.contains("reason=not_mapped"), "{}: {log}", client.name);
    Ok(())
}

fn mint(site: &Site, request: &Value) -> Result<String> {
    inputs::mint(site, request)
}

fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ssh_clients")
}

#[test]
fn each_client_of_the_guide_is_played() -> Result<()> {
    let documented: Vec<String> = page::rows()?.into_iter().map(|row| row.client).collect();
    assert_eq!(documented, CLIENTS.map(|client| client.name));
    Ok(())
}

#[test]
fn openssh_gets_in_when_a_person_types_the_token() -> Result<()> {
    with_clients(|site| play(site, &OPENSSH))
}

#[test]
fn plink_gets_in_and_shows_refusals() -> Result<()> {
    with_clients(|site| {
        play(site, &PLINK)?;
        let typed = Client { script: "$TYPE plink -hostkey $HOST_KEY alice@testbed \"$COMMAND\"", ..PLINK };
        play(site, &typed)
    })
}

#[test]
fn dbclient_gets_in_and_shows_refusals() -> Result<()> {
    with_clients(|site| {
        play(site, &DBCLIENT)?;
        let typed = Client { script: "$TYPE dbclient -y alice@testbed \"$COMMAND\"", ..DBCLIENT };
        play(site, &typed)
    })
}

#[test]
fn sshpass_gets_in_when_it_knows_the_prompt() -> Result<()> {
    with_clients(|site| play(site, &SSHPASS))
}

#[test]
fn libssh_gets_in_and_shows_refusals() -> Result<()> {
    with_clients(|site| {
        programs::compile(site, "libssh_client", "-lssh")?;
        play(site, &LIBSSH)
    })
}

#[test]
fn libssh2_gets_in_and_shows_refusals() -> Result<()> {
    with_clients(|site| {
        programs::compile(site, "libssh2_client", "-lssh2")?;
        play(site, &LIBSSH2)
    })
}

#[test]
fn curl_gets_in_and_hides_refusals() -> Result<()> {
    with_clients(|site| play(site, &CURL))
}

#[test]
fn go_gets_in_and_shows_refusals() -> Result<()> {
    let program = match programs::build_with_go() {
        Ok(program) => program,
        Err(reason) => return testbed::skip(&reason),
    };
    with_clients(|site| {
        programs::put(site, "go_client", program)?;
        play(site, &GO)
    })
}
