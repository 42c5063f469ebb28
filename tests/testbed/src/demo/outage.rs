// SPDX-License-Identifier: MIT OR Apache-2.0
//! Step 6: the token server is down, and nobody else notices.

use std::time::{Duration, Instant};

use super::Teller;
use crate::people::{self, Session};
use crate::{Result, Site};

/// The site's `deadline` in login.toml, plus what ssh itself needs.
const LOGIN_LIMIT: Duration = Duration::from_secs(22);

pub(super) fn tell(site: &Site, teller: &mut Teller, session: &mut Session) -> Result<()> {
    teller.chapter("6. The token server is stopped");
    let key_login = "ssh -o BatchMode=yes -o PreferredAuthentications=publickey -i ~/.ssh/site_key testbed true";
    let before = timed(|| site.sh("alice", key_login)).0;
    people::control(site, "/outage", Some(r#"{"service":"mytoken","on":true}"#))?;

    let (during, outcome) = timed(|| site.sh("alice", key_login));
    let outcome = outcome?;
    teller.show("alice@laptop", key_login, &outcome);
    teller.say(&format!("{} ms before, {} ms now", before.as_millis(), during.as_millis()));
    teller.check(
        outcome.success() && during < before * 3 + Duration::from_millis(500),
        "ssh with a key works at normal speed",
    );

    let token_login = "mytoken-ssh ssh testbed true";
    let (took, outcome) = timed(|| site.sh("alice", token_login));
    let outcome = outcome?;
    teller.show("alice@laptop", token_login, &outcome);
    teller.say(&format!("after {} ms", took.as_millis()));
    teller.check(!outcome.success() && took < LOGIN_LIMIT, "a token login fails within its deadline");
    let sentences = outcome.stdout.lines().chain(outcome.stderr.lines()).filter(|line| !line.trim().is_empty()).count();
    teller.check(sentences >= 1, "and says why in a clear sentence");

    let limit = Duration::from_secs(40);
    let plain =
        session.run("sbatch --wait --nodes=1 --output=plain.out --wrap 'echo unaffected' && cat plain.out", limit)?;
    teller.show("alice@testbed", "sbatch --wait --wrap 'echo unaffected'", &plain);
    teller.check(
        plain.success() && plain.stdout.contains("unaffected"),
        "a job that did not ask for a token is unaffected",
    );
    let asked = session
        .run("sbatch --wait --mytoken --nodes=1 --output=asked.out --wrap 'echo started' && cat asked.out", limit)?;
    teller.show("alice@testbed", "sbatch --wait --mytoken --wrap 'echo started'", &asked);
    teller.check(asked.success() && asked.stdout.contains("started"), "a job that asked for one starts without");
    let required = session.run("sbatch --mytoken=required --wrap 'echo never'", limit)?;
    teller.show("alice@testbed", "sbatch --mytoken=required --wrap 'echo never'", &required);
    teller.check(!required.success(), "a job that said \"required\" is refused at submission");
    let nodes = site.sh("root", "sinfo --noheader --Node --format '%N %T'")?;
    teller.show("root@testbed", "sinfo --Node", &nodes);
    teller.check(!nodes.stdout.contains("drain") && !nodes.stdout.contains("down"), "no node drained");
    people::control(site, "/outage", Some(r#"{"service":"mytoken","on":false}"#))?;
    Ok(())
}

fn timed<T>(act: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = act();
    (start.elapsed(), done)
}
