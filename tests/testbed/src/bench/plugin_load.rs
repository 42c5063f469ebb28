// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time to load the plugin. Every sbatch, srun and step needs it, even without a credential.

use super::amount::Amount;
use super::c_program;
use super::figure::{Figure, Goal};
use super::stacks::Stack;
use super::statistics::compare;
use super::timing::{Measurement, Step};
use crate::{Result, Site};

const SOURCE: &str = include_str!("load_plugin.c");
const PROGRAM: &str = "/usr/local/bin/bench-load-plugin";

/// Measures dlopen of our plugin and of an empty one, each time in a new process.
pub(super) fn measure(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    c_program::install(site, SOURCE, &["-rdynamic"], PROGRAM)?;
    let load = |stack: Stack| -> Result<Vec<Step>> {
        Ok(stack.plugin(site)?.map(|file| Step::new(PROGRAM).arg(&file)).into_iter().collect())
    };
    let measurement = Measurement::new(amount.scale(400), [load(Stack::Ours)?, load(Stack::Empty)?]).printed();
    let times = measurement.run(site, "alice", &[])?;
    let [ours, empty] = times.as_slice() else { return Ok(Vec::new()) };
    let note = "dlopen in a fresh process that defines Slurm's symbols; baseline: a plugin in C with the same hooks, all empty";
    Ok(compare(ours, empty)
        .map(|found| Figure::from_comparison("plugin_load_us", found, Goal::Value(150.0), note).in_unit("us"))
        .into_iter()
        .collect())
}
