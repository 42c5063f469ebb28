// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bench: the cost of the product, compared with the same operation without it, in one site and one run.
//!
//! Each time is measured next to its baseline, in a random order, because machines are noisy. Medians are shown.
//! Goals are shown with the figures; a missed goal is not an error.

mod agent_load;
mod amount;
mod authentications;
mod c_program;
mod figure;
mod laps;
mod logins;
mod plugin_load;
mod sizes;
mod stacks;
mod statistics;
mod steps;
mod submissions;
mod tokens;

use std::fs;
use std::time::Instant;

use crate::error::Trying;
use crate::site::paths;
use crate::{Error, Options, Result, Site};
use figure::{Figure, Table};

pub use agent_load::start as start_jobs;
pub use amount::Amount;
pub use laps::time as time_laps;

/// Measures all figures, prints the table, writes `bench.json` to the target directory.
///
/// # Errors
/// When the product is not built, there is no site, or a figure could not be measured. A missed goal is not an error.
pub fn run(options: Options, amount: &Amount) -> Result<()> {
    if options.foreign.is_some() {
        return Err(Error::Refused("the bench measures with a server of its own, without --server".into()));
    }
    let began = Instant::now();
    let release = options.release;
    // More requests than the original allows within its window.
    let site = Site::start(Options { request_limit: "", ..options })?;
    if !site.has_product() || !site.has_testserver() {
        return Err(Error::Refused("nothing to measure: run make build tools".into()));
    }
    println!("Debian {release}, profile {}, {}", paths::product_profile(), load());
    let figures = measure(&site, amount)?;
    println!("\n{}", Table(&figures));
    println!("{}; took {} s", load(), began.elapsed().as_secs());
    // An incomplete file would look complete.
    if amount.part.is_empty() {
        write(&figures)?;
    }
    match figures.iter().filter(|figure| !figure.is_taken()).count() {
        0 => Ok(()),
        missing => Err(Error::Refused(format!("{missing} figures could not be taken"))),
    }
}

/// A part of the bench: its name, its function, and the names of its figures.
type Part = (&'static str, fn(&Site, &Amount) -> Result<Vec<Figure>>, &'static [(&'static str, &'static str)]);

const PARTS: &[Part] = &[
    ("logins", logins::race, &[("login_at_minus_publickey_ms", "ms"), ("login_mytoken_over_curl", "ms")]),
    ("authentications", authentications::both, &[("pam_auth_at_ms", "ms"), ("pam_auth_at_ms_1000_left", "ms")]),
    (
        "submissions without --mytoken",
        submissions::idle,
        &[("sbatch_idle_minus_none_ms", "ms"), ("sbatch_idle_over_empty_plugin", "ms")],
    ),
    ("submissions with --mytoken", submissions::opted_in, &[("sbatch_optin_over_curl", "ms")]),
    ("loads of the plugin", plugin_load::dlopen, &[("plugin_load_us", "us")]),
    ("starts of steps", steps::start, &[("step_start_minus_none_ms", "ms")]),
    ("modules", sizes::both, &[("so_bytes_spank", "bytes"), ("so_bytes_pam", "bytes")]),
    ("the agent", agent_load::memory, &[("agent_rss_kib_1000_jobs", "KiB")]),
];

fn measure(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    stacks::prepare(site)?;
    tokens::prepare(site)?;
    let mut figures = Vec::new();
    for (part, measure, owed) in PARTS.iter().filter(|(name, ..)| name.contains(&amount.part)) {
        let began = Instant::now();
        eprint!("measuring {part} ...");
        let (taken, reason) = match measure(site, amount) {
            Ok(taken) => (taken, "it was not measured".to_owned()),
            Err(error) => (Vec::new(), error.to_string()),
        };
        if taken.len() < owed.len() {
            eprint!(" failed: {reason}\n ");
        }
        eprintln!(" {} s", began.elapsed().as_secs());
        figures.extend(complete(taken, owed, &reason));
    }
    Ok(figures)
}

/// The figures of a part; those that it did not measure are marked as missing.
fn complete(taken: Vec<Figure>, owed: &[(&'static str, &'static str)], reason: &str) -> Vec<Figure> {
    let missing: Vec<Figure> = owed
        .iter()
        .filter(|(name, _)| taken.iter().all(|figure| figure.name != *name))
        .map(|(name, unit)| Figure::missing(name, unit, reason))
        .collect();
    taken.into_iter().chain(missing).collect()
}

/// The load of the machine, for the reader of the figures.
fn load() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("{cores} cores, load {}", average.split(' ').next().unwrap_or("unknown"))
}

fn write(figures: &[Figure]) -> Result<()> {
    let path = paths::target().join("bench.json");
    let json = serde_json::to_string_pretty(figures).map_err(std::io::Error::from).trying(|| "writing JSON".into())?;
    fs::write(&path, json + "\n").trying(|| format!("writing {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_figures_are_owed_by_some_part() {
        let mut names: Vec<&str> = PARTS.iter().flat_map(|(.., owed)| owed.iter().map(|(name, _)| *name)).collect();
        names.sort_unstable();
        let agreed = [
            "agent_rss_kib_1000_jobs",
            "login_at_minus_publickey_ms",
            "login_mytoken_over_curl",
            "pam_auth_at_ms",
            "pam_auth_at_ms_1000_left",
            "plugin_load_us",
            "sbatch_idle_minus_none_ms",
            "sbatch_idle_over_empty_plugin",
            "sbatch_optin_over_curl",
            "so_bytes_pam",
            "so_bytes_spank",
            "step_start_minus_none_ms",
        ];
        assert_eq!(names, agreed);
    }

    #[test]
    fn what_a_part_did_not_take_is_shown_as_missing() {
        let owed = [("a", "ms"), ("b", "ms")];
        let figures = complete(vec![Figure::value("b", 1.0, "ms", 2.0, "")], &owed, "no sshd");
        assert_eq!(
            figures.iter().map(|figure| (figure.name, figure.is_taken())).collect::<Vec<_>>(),
            [("b", true), ("a", false)]
        );
    }

    #[test]
    fn a_part_of_a_run_still_measures_a_little() {
        let amount = |percent| Amount { percent, part: String::new() };
        assert_eq!([amount(1).of(60), amount(50).of(60), amount(100).of(60)], [3, 30, 60]);
    }
}
