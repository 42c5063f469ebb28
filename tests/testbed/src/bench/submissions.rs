// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cost of the plugin at submission, without and with a credential.

use std::time::Duration;

use super::amount::Amount;
use super::figure::{Figure, Goal};
use super::stacks::Stack;
use super::statistics::compare;
use super::timing::{Measurement, Step};
use super::tokens::{self, MYTOKEN};
use crate::drive::journal::Journal;
use crate::{Error, Result, Site};

const IDLE_NOTE: &str = "`sbatch --hold`, plugin loaded, no --mytoken";

/// Measures submissions without a credential: with no plugin, an empty plugin and ours.
pub(super) fn without_credential(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    let variants = [Stack::None, Stack::Empty, Stack::Ours].map(|stack| vec![stack.apply_to(sbatch())]);
    let times =
        Measurement::new(amount.scale(400), variants).with_cleanup(50, cancel_jobs()).run(site, "alice", &[])?;
    let [none, empty, ours] = times.as_slice() else { return Ok(Vec::new()) };
    let figure = |name, baseline: &[f64], goal, note: &str| {
        compare(ours, baseline)
            .map(|found| Figure::from_comparison(name, found, goal, &format!("{IDLE_NOTE}; baseline: {note}")))
    };
    Ok([
        figure("sbatch_idle_minus_none_ms", none, Goal::Difference(0.5), "no plugin"),
        figure(
            "sbatch_idle_over_empty_plugin",
            empty,
            Goal::Ratio(1.02),
            "a plugin in C with the same hooks, all empty",
        ),
    ]
    .into_iter()
    .flatten()
    .collect())
}

/// Measures submissions with a credential: the product finds the user's mytoken, gets a sub-token, checks and seals it.
pub(super) fn with_credential(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    let ours = Stack::Ours.apply_to(sbatch()).arg("--mytoken").env("MYTOKEN_FILE", MYTOKEN);
    let plain_and_curl = vec![Stack::None.apply_to(sbatch()), tokens::curl_create()];
    let measurement = Measurement::new(amount.scale(80), [vec![ours], plain_and_curl]).with_cleanup(40, cancel_jobs());
    let requests = 2 * measurement.runs_per_variant();
    let times = tokens::check_requests(site, tokens::CREATIONS, requests, || measurement.run(site, "alice", &[]))?;
    let [ours, baseline] = times.as_slice() else { return Ok(Vec::new()) };
    let note = "`sbatch --hold --mytoken`; baseline: `sbatch --hold` without plugin, then one curl that POSTs the same request for a sub-token \
                (discovery known to both)";
    Ok(compare(ours, baseline)
        .map(|found| Figure::from_comparison("sbatch_optin_over_curl", found, Goal::RatioPlus(1.2, 10.0), note))
        .into_iter()
        .collect())
}

/// Number of submissions in the loop.
const LOOP: usize = 300;

/// Counts the requests of a loop of submissions.
pub(super) fn in_a_loop(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    let count = amount.scale(LOOP);
    let switch = |time: &str| {
        let file = "mkdir -p /etc/mytoken/jobs.d && cat >/etc/mytoken/jobs.d/share.toml";
        site.script("root", file).stdin(format!("[submit]\nshare_for = \"{time}\"\n")).run()?.ok()
    };
    switch("60s")?;
    Journal::clear(site)?;
    let submissions = format!(
        "for i in $(seq {count}); do MYTOKEN_FILE={MYTOKEN} sbatch --hold --mytoken --output=/dev/null --wrap true || exit 1; done"
    );
    let done = site.script("alice", &submissions).timeout(Duration::from_secs(240)).run()?.ok()?;
    let requests = Journal::read(site)?.requests().len();
    switch("0s")?;
    site.sh("alice", "scancel --user=alice --state=PENDING")?.ok()?;
    if done.stderr.contains("no credential") {
        return Err(Error::Refused(format!("a submission got no credential: {}", done.stderr)));
    }
    let note = format!("requests to the mytoken server for {count} `sbatch --mytoken` in a loop");
    let requests = f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
    Ok(vec![Figure::value("sbatch_loop_requests", requests, "requests", 10.0, &note)])
}

/// A held job, so that no job runs during the measurement.
fn sbatch() -> Step {
    Step::new("sbatch --hold --output=/dev/null --wrap true")
}

fn cancel_jobs() -> Step {
    Step::new("scancel --user=alice --state=PENDING")
}
