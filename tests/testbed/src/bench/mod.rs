// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bench: measures operations with the product and the same operations without it, in one site and one run.
//!
//! Each operation is measured next to its baseline, in a random order, because the load of a machine changes. The table
//! shows medians and goals; a missed goal is not an error.

mod agent_load;
mod amount;
mod asking;
mod authentications;
mod broker_array;
mod broker_load;
pub mod c_program;
mod figure;
mod logins;
mod plugin_load;
mod sizes;
mod ssh_helper;
mod stacks;
mod statistics;
mod steps;
mod submissions;
mod timing;
mod tokens;

use std::fs;
use std::time::Instant;

use crate::error::WithContext;
use crate::site::paths;
use crate::{Error, Options, Result, Site};
use figure::{Figure, Table};

pub use agent_load::start_jobs;
pub use amount::Amount;
pub use timing::time_commands;

/// Measures all figures, prints the table, writes `bench.json` to the target directory.
///
/// # Errors
/// When the product is not built, there is no site, or a figure could not be measured. A missed goal is not an error.
pub fn run(options: Options, amount: &Amount) -> Result<()> {
    if options.foreign.is_some() {
        return Err(Error::Refused("the bench needs the test server; run it without --server".into()));
    }
    let began = Instant::now();
    let release = options.release;
    // The bench sends more requests than the default limit of the mytoken server allows.
    let site = Site::start(Options { request_limit: "", ..options })?;
    if !site.has_product() || !site.has_testserver() {
        return Err(Error::Refused("the product or the test server is not built; run `make build tools`".into()));
    }
    println!("Debian {release}, profile {}, {}", paths::product_profile(), load());
    let figures = measure(&site, amount)?;
    println!("\n{}", Table(&figures));
    println!("{}; took {} s", load(), began.elapsed().as_secs());
    // A file with some of the figures would look complete.
    if amount.part.is_empty() {
        write(&figures)?;
    }
    match figures.iter().filter(|figure| !figure.is_measured()).count() {
        0 => Ok(()),
        missing => Err(Error::Refused(format!("{missing} figures could not be measured"))),
    }
}

/// A part of the bench: its name, its function, and the names of its figures.
type Part = (&'static str, fn(&Site, &Amount) -> Result<Vec<Figure>>, &'static [(&'static str, &'static str)]);

const PARTS: &[Part] = &[
    ("logins", logins::measure, &[("login_at_minus_publickey_ms", "ms"), ("login_mytoken_over_curl", "ms")]),
    ("authentications", authentications::measure, &[("pam_auth_at_ms", "ms"), ("pam_auth_at_ms_1000_left", "ms")]),
    (
        "logins that ask the provider",
        asking::measure,
        &[("login_userinfo_over_curl", "ms"), ("login_introspection_over_curl", "ms"), ("auth_child_rss_kib", "KiB")],
    ),
    ("the helper", ssh_helper::measure, &[("helper_start_ms", "ms"), ("helper_login_over_curl", "ms")]),
    (
        "submissions without --mytoken",
        submissions::without_credential,
        &[("sbatch_idle_minus_none_ms", "ms"), ("sbatch_idle_over_empty_plugin", "ms")],
    ),
    ("submissions with --mytoken", submissions::with_credential, &[("sbatch_optin_over_curl", "ms")]),
    ("loops of submissions", submissions::in_a_loop, &[("sbatch_loop_requests", "requests")]),
    ("loads of the plugin", plugin_load::measure, &[("plugin_load_us", "us")]),
    ("starts of steps", steps::measure, &[("step_start_minus_none_ms", "ms")]),
    ("modules", sizes::measure, &[("so_bytes_spank", "bytes"), ("so_bytes_pam", "bytes")]),
    ("the agent", agent_load::measure, &[("agent_rss_kib_1000_jobs", "KiB")]),
    (
        "the broker",
        broker_load::measure,
        &[
            ("broker_start_p99_s_10000_nodes", "s"),
            ("broker_rss_kib_10000_nodes", "KiB"),
            ("broker_reconnect_s_10000_nodes", "s"),
            ("upstream_requests_100000_tasks", "requests"),
            ("upstream_requests_10000_nodes", "requests"),
            ("upstream_requests_10000_nodes_reconnect", "requests"),
        ],
    ),
];

fn measure(site: &Site, amount: &Amount) -> Result<Vec<Figure>> {
    stacks::prepare(site)?;
    tokens::prepare(site)?;
    let mut figures = Vec::new();
    for (part, measure, expected) in PARTS.iter().filter(|(name, ..)| name.contains(&amount.part)) {
        let began = Instant::now();
        eprint!("measuring {part} ...");
        let (measured, reason) = match measure(site, amount) {
            Ok(measured) => (measured, "it was not measured".to_owned()),
            Err(error) => (Vec::new(), error.to_string()),
        };
        if measured.len() < expected.len() {
            eprint!(" failed: {reason}\n ");
        }
        eprintln!(" {} s", began.elapsed().as_secs());
        figures.extend(complete(measured, expected, &reason));
    }
    Ok(figures)
}

/// The measured figures of a part, and a missing figure for each expected one that was not measured.
fn complete(measured: Vec<Figure>, expected: &[(&'static str, &'static str)], reason: &str) -> Vec<Figure> {
    let missing: Vec<Figure> = expected
        .iter()
        .filter(|(name, _)| measured.iter().all(|figure| figure.name != *name))
        .map(|(name, unit)| Figure::missing(name, unit, reason))
        .collect();
    measured.into_iter().chain(missing).collect()
}

/// The load of the machine, which a reader needs to judge the figures.
fn load() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("{cores} cores, load {}", average.split(' ').next().unwrap_or("unknown"))
}

fn write(figures: &[Figure]) -> Result<()> {
    let path = paths::target().join("bench.json");
    let json =
        serde_json::to_string_pretty(figures).map_err(std::io::Error::from).with_context(|| "writing JSON".into())?;
    fs::write(&path, json + "\n").with_context(|| format!("writing {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_have_all_figures() {
        let mut names: Vec<&str> =
            PARTS.iter().flat_map(|(.., figures)| figures.iter().map(|(name, _)| *name)).collect();
        names.sort_unstable();
        let agreed = [
            "agent_rss_kib_1000_jobs",
            "auth_child_rss_kib",
            "broker_reconnect_s_10000_nodes",
            "broker_rss_kib_10000_nodes",
            "broker_start_p99_s_10000_nodes",
            "helper_login_over_curl",
            "helper_start_ms",
            "login_at_minus_publickey_ms",
            "login_introspection_over_curl",
            "login_mytoken_over_curl",
            "login_userinfo_over_curl",
            "pam_auth_at_ms",
            "pam_auth_at_ms_1000_left",
            "plugin_load_us",
            "sbatch_idle_minus_none_ms",
            "sbatch_idle_over_empty_plugin",
            "sbatch_loop_requests",
            "sbatch_optin_over_curl",
            "so_bytes_pam",
            "so_bytes_spank",
            "step_start_minus_none_ms",
            "upstream_requests_100000_tasks",
            "upstream_requests_10000_nodes",
            "upstream_requests_10000_nodes_reconnect",
        ];
        assert_eq!(names, agreed);
    }

    #[test]
    fn a_figure_that_was_not_measured_is_missing() {
        let expected = [("a", "ms"), ("b", "ms")];
        let figures = complete(vec![Figure::value("b", 1.0, "ms", 2.0, "")], &expected, "no sshd");
        assert_eq!(
            figures.iter().map(|figure| (figure.name, figure.is_measured())).collect::<Vec<_>>(),
            [("b", true), ("a", false)]
        );
    }

    #[test]
    fn a_small_scale_measures_at_least_three_times() {
        let amount = |percent| Amount { percent, part: String::new() };
        assert_eq!([amount(1).scale(60), amount(50).scale(60), amount(100).scale(60)], [3, 30, 60]);
    }
}
