// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time of loading the plugin, which every sbatch, srun and step spends, also without a credential.

use super::amount::Amount;
use super::c_program;
use super::figure::{Figure, Goal};
use super::laps::{Race, Step};
use super::stacks::Stack;
use super::statistics::compare;
use crate::{Result, Site};

const SOURCE: &str = include_str!("load_plugin.c");
const PROGRAM: &str = "/usr/local/bin/bench-load-plugin";

/// Measures dlopen of our plugin and of an empty one, each time in a new process.
pub(super) fn dlopen(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    c_program::install(site, SOURCE, &["-rdynamic"], PROGRAM)?;
    let load = |stack: Stack| -> Result<Vec<Step>> {
        Ok(stack.plugin(site)?.map(|file| Step::new(PROGRAM).arg(&file)).into_iter().collect())
    };
    let race = Race::new(amount.of(400), [load(Stack::Ours)?, load(Stack::Empty)?]).printed();
    let times = race.run(site, "alice", &[])?;
    let [ours, empty] = times.as_slice() else { return Ok(Vec::new()) };
    let note = "dlopen in a fresh process that defines Slurm's symbols; baseline: a plugin in C with the same hooks, all empty";
    Ok(compare(ours, empty)
        .map(|found| Figure::compared("plugin_load_us", found, Goal::Value(150.0), note).in_unit("us"))
        .into_iter()
        .collect())
}
