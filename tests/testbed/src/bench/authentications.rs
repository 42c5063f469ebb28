// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cost of the PAM module: one authentication through libpam in a new process, compared with `pam_permit`, and the
//! same when a thousand records of other logins are pending.

use super::amount::Amount;
use super::c_program;
use super::figure::{Figure, Goal};
use super::laps::{Race, Step};
use super::statistics::compare;
use super::tokens::ACCESS_TOKEN;
use crate::{Result, Site};

const SOURCE: &str = include_str!("authenticate.c");
const PROGRAM: &str = "/usr/local/bin/bench-authenticate";

/// Pending records of others: twenty accounts with fifty each, of a process that lives as long as the site.
const LEAVE: &str = r#"
set -e
start=$(sed 's/.*) //' /proc/1/stat | cut -d' ' -f20)
now=$(date +%s)
for uid in $(seq 3001 3020); do
  mkdir -p -m 700 /run/mytoken/handover/$uid
  for number in $(seq 50); do
    file=/run/mytoken/handover/$uid/$now-1.$start-$(printf %032x $((uid * 100 + number)))
    (umask 077 && head -c 2000 /dev/zero >$file)
  done
done
test $(find /run/mytoken/handover -type f -size +1k | wc -l) = 1000
"#;

/// Removes the records of the authentications, which a session would have used. Not timed.
const TIDY: &str = "find /run/mytoken/handover/2001 -type f -delete";

/// Measures authentications with an access token, without and with pending records of others.
pub(super) fn both(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    prepare(site)?;
    let alone = race(site, amount)?;
    site.sh("root", LEAVE)?.ok()?;
    let among_a_thousand = race(site, amount)?;
    site.sh("root", "rm -rf /run/mytoken/handover/30??")?.ok()?;
    let note = "pam_authenticate with an access token in a fresh process; baseline: the same with pam_permit. Provider's keys are cached";
    let more = "the same while 1000 records of other accounts wait for their sessions";
    let figure = |name, rows: &[Vec<f64>], note: &str| match rows {
        [ours, permit] => compare(ours, permit).map(|found| Figure::compared(name, found, Goal::Difference(4.0), note)),
        _ => None,
    };
    let figures = [figure("pam_auth_at_ms", &alone, note), figure("pam_auth_at_ms_1000_left", &among_a_thousand, more)];
    Ok(figures.into_iter().flatten().collect())
}

fn race(site: &Site, amount: &Amount) -> Result<Vec<Vec<f64>>> {
    let by = |stack: &str| vec![Step::new(&format!("{PROGRAM} /etc/bench/pam-{stack} sshd alice {ACCESS_TOKEN}"))];
    // An account has a maximum of records; there are far fewer laps between two clean-ups.
    let tidy = Step::new("sh -c").arg(TIDY);
    Race::new(amount.of(200), [by("ours"), by("permit")]).tidied(20, tidy).run(site, "root", &[])
}

fn prepare(site: &Site) -> Result<()> {
    for (stack, module) in [("ours", "pam_mytoken.so"), ("permit", "pam_permit.so")] {
        site.write(&format!("/etc/bench/pam-{stack}/sshd"), &format!("auth required {module}\n"), "0644")?;
    }
    // By soname: the development package with libpam.so may be missing.
    c_program::install(site, SOURCE, &["-l:libpam.so.0"], PROGRAM)
}
