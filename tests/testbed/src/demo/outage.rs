// SPDX-License-Identifier: MIT OR Apache-2.0
//! Step 6: the token server is down. Key logins and jobs are not affected.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Narrator;
use crate::drive::people::{self, Session};
use crate::drive::{askpass, tokens};
use crate::{Result, Site};

/// The site's `deadline` in login.toml, plus the time of ssh and PAM on a busy machine.
const LOGIN_LIMIT: Duration = Duration::from_secs(10 + 5);

/// A message that only the PAM module prints.
const SENTENCE: &str = "the login service is unavailable at the moment; try again later";

/// ssh without the helper: the helper's own request would fail before the login reaches PAM.
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

    let (took, outcome) = timed(|| askpass::run_with_answers(site, "alice", &[&short_token], PLAIN_SSH));
    let outcome = outcome?;
    narrator.say("alice types a short token, which she got before, at the prompt of plain ssh:");
    narrator.show("alice@laptop", PLAIN_SSH, &outcome);
    narrator.say(&format!("after {} ms", took.as_millis()));
    narrator.check(!outcome.success() && took < LOGIN_LIMIT, "a token login fails within its deadline");
    let count = outcome.stderr.lines().filter(|line| line.contains(SENTENCE)).count();
    narrator.check(count == 1, &format!("PAM gives the reason in one sentence: \"{SENTENCE}\""));
    let token_login = "mytoken-ssh ssh testbed true";
    narrator.show("alice@laptop", token_login, &site.sh("alice", token_login)?);

    let limit = Duration::from_secs(40);
    let plain =
        session.run("sbatch --wait --nodes=1 --output=plain.out --wrap 'echo unaffected' && cat plain.out", limit)?;
    narrator.show("alice@testbed", "sbatch --wait --wrap 'echo unaffected'", &plain);
    narrator.check(plain.success() && plain.stdout.contains("unaffected"), "a job without --mytoken is not affected");
    let optional = session.run(
        "sbatch --wait --mytoken --nodes=1 --output=optional.out --wrap 'echo started' && cat optional.out",
        limit,
    )?;
    narrator.show("alice@testbed", "sbatch --wait --mytoken --wrap 'echo started'", &optional);
    narrator.check(
        optional.success() && optional.stdout.contains("started"),
        "a job with --mytoken starts without a token",
    );
    let required = session.run("sbatch --mytoken=required --wrap 'echo never'", limit)?;
    narrator.show("alice@testbed", "sbatch --mytoken=required --wrap 'echo never'", &required);
    narrator.check(!required.success(), "a job with --mytoken=required is refused at submission");
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
