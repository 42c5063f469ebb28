// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cost of the plugin at submission, without and with a credential.

use super::amount::Amount;
use super::figure::{Figure, Goal};
use super::laps::{Race, Step};
use super::stacks::Stack;
use super::statistics::compare;
use super::tokens::{self, MYTOKEN};
use crate::{Result, Site};

const IDLE_NOTE: &str = "`sbatch --hold`, plugin loaded, no --mytoken";

/// Measures submissions without a credential: no plugin, an empty one, ours.
pub(super) fn idle(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    let sides = [Stack::None, Stack::Empty, Stack::Ours].map(|stack| vec![stack.of(sbatch())]);
    let times = Race::new(amount.of(400), sides).tidied(50, tidy()).run(site, "alice", &[])?;
    let [none, empty, ours] = times.as_slice() else { return Ok(Vec::new()) };
    let figure = |name, baseline: &[f64], goal, note: &str| {
        compare(ours, baseline)
            .map(|found| Figure::compared(name, found, goal, &format!("{IDLE_NOTE}; baseline: {note}")))
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
pub(super) fn opted_in(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    let ours = Stack::Ours.of(sbatch()).arg("--mytoken").env("MYTOKEN_FILE", MYTOKEN);
    let plain_and_curl = vec![Stack::None.of(sbatch()), tokens::curl_create()];
    let race = Race::new(amount.of(80), [vec![ours], plain_and_curl]).tidied(40, tidy());
    let times = tokens::asking(site, "mytoken", 2 * race.laps(), || race.run(site, "alice", &[]))?;
    let [ours, baseline] = times.as_slice() else { return Ok(Vec::new()) };
    let note = "`sbatch --hold --mytoken`; baseline: `sbatch --hold` without plugin, then one curl that POSTs the same request for a sub-token \
                (discovery known to both)";
    Ok(compare(ours, baseline)
        .map(|found| Figure::compared("sbatch_optin_over_curl", found, Goal::RatioPlus(1.2, 10.0), note))
        .into_iter()
        .collect())
}

/// A held job, so that no job runs during the measurement.
fn sbatch() -> Step {
    Step::new("sbatch --hold --output=/dev/null --wrap true")
}

fn tidy() -> Step {
    Step::new("scancel --user=alice --state=PENDING")
}
