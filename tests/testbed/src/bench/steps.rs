// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cost of the plugin at the start of a step in a job with a credential.

use super::amount::Amount;
use super::figure::{Figure, Goal};
use super::stacks::{self, Stack};
use super::statistics::compare;
use super::timing::{Measurement, Step};
use super::tokens::MYTOKEN;
use crate::{Result, Site};

/// Measures on two nodes of one job: one has the plugin, the other has none. Half-way the nodes change places, so that
/// a difference between them does not count.
pub(super) fn measure(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    let (mut ours, mut none) = (Vec::new(), Vec::new());
    for (with, without) in [("n1", "n2"), ("n2", "n1")] {
        stacks::set_on_node(site, with, Stack::Ours)?;
        stacks::set_on_node(site, without, Stack::None)?;
        // Each command checks its variant: both nodes have the credential, and only one has the token file.
        let with = Stack::Ours.apply_to(step(with, "test -s \"$BEARER_TOKEN_FILE\""));
        let without =
            Stack::None.apply_to(step(without, "test -n \"$SLURM_MYTOKEN\" && test -z \"$BEARER_TOKEN_FILE\""));
        let file = format!("MYTOKEN_FILE={MYTOKEN}");
        let job = ["env", &file, "salloc", "--quiet", "--nodelist=n1,n2", "--nodes=2", "--mytoken"];
        let times = Measurement::new(amount.scale(60), [vec![with], vec![without]]).run(site, "alice", &job)?;
        let [with, without] = times.as_slice() else { return Ok(Vec::new()) };
        ours.extend(with);
        none.extend(without);
    }
    let note = "`srun` of one task inside a job with a credential, after the job's first step on the node (which fetches the access \
                token); baseline: the same on a node without plugin";
    Ok(compare(&ours, &none)
        .map(|found| Figure::from_comparison("step_start_minus_none_ms", found, Goal::Difference(2.0), note))
        .into_iter()
        .collect())
}

/// An srun on this node. Without `--overlap` it would wait a second for the processors if the previous step has not
/// ended yet.
fn step(node: &str, check: &str) -> Step {
    Step::new("srun --overlap --nodes=1 --ntasks=1").arg(&format!("--nodelist={node}")).arg("sh").arg("-c").arg(check)
}
