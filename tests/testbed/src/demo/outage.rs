// SPDX-License-Identifier: MIT OR Apache-2.0
//! Step 6: the token server is down, and nothing else is affected.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Narrator;
use crate::drive::people::{self, Session};
use crate::drive::{tokens, typist};
use crate::{Result, Site};

/// The site's `deadline` in login.toml, and what ssh and PAM need besides on a busy machine.
const LOGIN_LIMIT: Duration = Duration::from_secs(10 + 5);

/// A message that only the PAM module prints.
const SENTENCE: &str = "the login service is unavailable at the moment; try again later";

/// ssh without the helper, whose own request would fail before PAM is asked.
const PLAIN_SSH: &str =
    "ssh -o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 testbed true";

pub(super) fn run(site: &Site, narrator: &mut Narrator, session: &mut Session) -> Result<()> {
    narrator.chapter("6. The token server is stopped");
    let key_login = "ssh -o BatchMode=yes -o PreferredAuthentications=publickey -i ~/.ssh/site_key testbed true";
    let before = timed(|| site.sh("alice", key_login)).0;
    let short_token = tokens::mytoken(site, "alice", &json!({"response_type": "short_token"}))?;
    people::control(site, "/outage", Some(r#"{"service":"mytoken","on":true}"#))?;

    let (during, outcome) = timed(|| site.sh("alice", key_login));
    let outcome = outcome?;
    narrator.show("alice@laptop", key_login, &outcome);
    narrator.say(&format!("{} ms before, {} ms now", before.as_millis(), during.as_millis()));
    narrator.check(
        outcome.success() && during < before * 3 + Duration::from_millis(500),
        "ssh with a key works at normal speed",
    );

    let (took, outcome) = timed(|| typist::type_into(site, "alice", &[&short_token], PLAIN_SSH));
    let outcome = outcome?;
    narrator.say("alice types a short token, which she got before, at the prompt of plain ssh:");
    narrator.show("alice@laptop", PLAIN_SSH, &outcome);
    narrator.say(&format!("after {} ms", took.as_millis()));
    narrator.check(!outcome.success() && took < LOGIN_LIMIT, "a token login fails within its deadline");
    let told = outcome.stderr.lines().filter(|line| line.contains(SENTENCE)).count();
    narrator.check(told == 1, &format!("and PAM says why in one clear sentence: \"{SENTENCE}\""));
    let token_login = "mytoken-ssh ssh testbed true";
    narrator.show("alice@laptop", token_login, &site.sh("alice", token_login)?);

    let limit = Duration::from_secs(40);
    let plain =
        session.run("sbatch --wait --nodes=1 --output=plain.out --wrap 'echo unaffected' && cat plain.out", limit)?;
    narrator.show("alice@testbed", "sbatch --wait --wrap 'echo unaffected'", &plain);
    narrator.check(
        plain.success() && plain.stdout.contains("unaffected"),
        "a job that did not ask for a token is unaffected",
    );
    let asked = session
        .run("sbatch --wait --mytoken --nodes=1 --output=asked.out --wrap 'echo started' && cat asked.out", limit)?;
    narrator.show("alice@testbed", "sbatch --wait --mytoken --wrap 'echo started'", &asked);
    narrator.check(asked.success() && asked.stdout.contains("started"), "a job that asked for one starts without");
    let required = session.run("sbatch --mytoken=required --wrap 'echo never'", limit)?;
    narrator.show("alice@testbed", "sbatch --mytoken=required --wrap 'echo never'", &required);
    narrator.check(!required.success(), "a job that said \"required\" is refused at submission");
    let nodes = site.sh("root", "sinfo --noheader --Node --format '%N %T'")?;
    narrator.show("root@testbed", "sinfo --Node", &nodes);
    narrator.check(!nodes.stdout.contains("drain") && !nodes.stdout.contains("down"), "no node drained");
    people::control(site, "/outage", Some(r#"{"service":"mytoken","on":false}"#))?;
    Ok(())
}

fn timed<T>(act: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = act();
    (start.elapsed(), done)
}
