// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cost of the PAM module: one authentication through libpam in a new process, compared with `pam_permit`. It is
//! measured again while a thousand records of other logins are pending.

use super::amount::Amount;
use super::c_program;
use super::figure::{Figure, Goal};
use super::statistics::compare;
use super::timing::{Measurement, Step};
use super::tokens::ACCESS_TOKEN;
use crate::{Result, Site};

const SOURCE: &str = include_str!("authenticate.c");
const PROGRAM: &str = "/usr/local/bin/bench-authenticate";

/// Makes pending records of twenty other accounts, fifty for each. Their process lives as long as the site.
const ADD_RECORDS: &str = r#"
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

/// Removes the records of the measured authentications, which no session uses. Not timed.
const REMOVE_RECORDS: &str = "find /run/mytoken/handover/2001 -type f -delete";

/// Measures authentications with an access token, without and with pending records of others.
pub(super) fn measure(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    prepare(site)?;
    let without_records = time_authentications(site, amount)?;
    site.sh("root", ADD_RECORDS)?.ok()?;
    let with_records = time_authentications(site, amount)?;
    site.sh("root", "rm -rf /run/mytoken/handover/30??")?.ok()?;
    let note = "pam_authenticate with an access token in a fresh process; baseline: the same with pam_permit. Provider's keys are cached";
    let note_with_records = "the same while 1000 records of other accounts wait for their sessions";
    let figure = |name, rows: &[Vec<f64>], note: &str| match rows {
        [ours, permit] => {
            compare(ours, permit).map(|found| Figure::from_comparison(name, found, Goal::Difference(4.0), note))
        }
        _ => None,
    };
    let figures = [
        figure("pam_auth_at_ms", &without_records, note),
        figure("pam_auth_at_ms_1000_left", &with_records, note_with_records),
    ];
    Ok(figures.into_iter().flatten().collect())
}

/// The program with these arguments at its end, for each of both stacks.
fn variants(arguments: &str) -> [Vec<Step>; 2] {
    ["ours", "permit"]
        .map(|stack| vec![Step::new(&format!("{PROGRAM} /etc/bench/pam-{stack} sshd alice {ACCESS_TOKEN}{arguments}"))])
}

fn cleanup() -> Step {
    Step::new("sh -c").arg(REMOVE_RECORDS)
}

/// Measures the peak memory of a process that authenticates as sshd's auth child does, with the configuration that the site has now.
pub(super) fn measure_memory(site: &Site, amount: &Amount, note: &str) -> Result<Option<Figure>> {
    prepare(site)?;
    let measurement = Measurement::new(amount.scale(20), variants(" memory")).printed().with_cleanup(20, cleanup());
    let rows = measurement.run(site, "root", &[])?;
    let [ours, permit] = rows.as_slice() else { return Ok(None) };
    let figure = |found| Figure::from_comparison("auth_child_rss_kib", found, Goal::Difference(6_144.0), note);
    Ok(compare(ours, permit).map(|found| figure(found).in_unit("KiB")))
}

fn time_authentications(site: &Site, amount: &Amount) -> Result<Vec<Vec<f64>>> {
    // The number of records per account is limited. The clean-up after every 20 rounds keeps it far below the limit.
    Measurement::new(amount.scale(200), variants("")).with_cleanup(20, cleanup()).run(site, "root", &[])
}

fn prepare(site: &Site) -> Result<()> {
    for (stack, module) in [("ours", "pam_mytoken.so"), ("permit", "pam_permit.so")] {
        site.write(&format!("/etc/bench/pam-{stack}/sshd"), &format!("auth required {module}\n"), "0644")?;
    }
    // By soname: the development package with libpam.so may be missing.
    c_program::install(site, SOURCE, &["-l:libpam.so.0"], PROGRAM)
}
