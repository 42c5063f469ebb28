// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cost of the plugin at the start of a step in a job with a credential.

use super::amount::Amount;
use super::figure::{Figure, Goal};
use super::laps::{Race, Step};
use super::stacks::{self, Stack};
use super::statistics::compare;
use super::tokens::MYTOKEN;
use crate::{Result, Site};

/// Two nodes of one job, one with the plugin and one without. Half-way they are exchanged, so that neither has an
/// advantage.
pub(super) fn start(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    let (mut ours, mut none) = (Vec::new(), Vec::new());
    for (with, without) in [("n1", "n2"), ("n2", "n1")] {
        stacks::give(site, with, Stack::Ours)?;
        stacks::give(site, without, Stack::None)?;
        // Each lap checks its side: the job's environment carries the credential to both nodes.
        let with = Stack::Ours.of(step(with, "test -s \"$BEARER_TOKEN_FILE\""));
        let without = Stack::None.of(step(without, "test -n \"$SLURM_MYTOKEN\" && test -z \"$BEARER_TOKEN_FILE\""));
        let file = format!("MYTOKEN_FILE={MYTOKEN}");
        let job = ["env", &file, "salloc", "--quiet", "--nodelist=n1,n2", "--nodes=2", "--mytoken"];
        let times = Race::new(amount.of(60), [vec![with], vec![without]]).run(site, "alice", &job)?;
        let [with, without] = times.as_slice() else { return Ok(Vec::new()) };
        ours.extend(with);
        none.extend(without);
    }
    let note = "`srun` of one task inside a job with a credential, after the job's first step on the node (which fetches the access \
                token); baseline: the same on a node without plugin";
    Ok(compare(&ours, &none)
        .map(|found| Figure::compared("step_start_minus_none_ms", found, Goal::Difference(2.0), note))
        .into_iter()
        .collect())
}

/// `--overlap`: the previous step may still be ending, and srun would wait a second for its processors.
fn step(node: &str, check: &str) -> Step {
    Step::new("srun --overlap --nodes=1 --ntasks=1").arg(&format!("--nodelist={node}")).arg("sh").arg("-c").arg(check)
}
