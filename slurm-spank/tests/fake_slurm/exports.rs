// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the file shows to Slurm, and what it wants from it. A symbol too much costs processes on every node, an undefined one too
//! much keeps old releases from loading it.

use std::process::Command;

use super::host::plugin;

fn symbols(which: &str) -> Vec<String> {
    let output = Command::new("nm").args(["-D", which]).arg(plugin()).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn exactly_these_symbols_are_exported() {
    let wanted = [
        "plugin_name",
        "plugin_type",
        "plugin_version",
        "slurm_spank_init",
        "slurm_spank_init_post_opt",
        "slurm_spank_job_epilog",
        "slurm_spank_task_init",
    ];
    assert_eq!(symbols("--defined-only"), wanted);
}

#[test]
fn exactly_these_symbols_of_slurm_are_needed() {
    let wanted = [
        "slurm_error",
        "slurm_info",
        "spank_context",
        "spank_get_item",
        "spank_getenv",
        "spank_job_control_setenv",
        "spank_option_register",
        "spank_setenv",
        "spank_unsetenv",
    ];
    // What is not of the C library, the unwinder or the loader is Slurm's.
    let foreign: Vec<_> = symbols("--undefined-only")
        .into_iter()
        .filter(|name| {
            !name.contains('@')
                && !name.starts_with("_ITM_")
                && name != "__gmon_start__"
                && name != "__cxa_thread_atexit_impl"
        })
        .collect();
    assert_eq!(foreign, wanted);
}

#[test]
fn the_library_stays_loaded_is_bound_at_once_and_pulls_in_nothing() {
    let output = Command::new("readelf").args(["-dlW"]).arg(plugin()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for wanted in ["NODELETE", "BIND_NOW", "GNU_RELRO", "soname: [spank_mytoken.so]"] {
        assert!(text.contains(wanted), "{wanted} is missing\n{text}");
    }
    let needed: Vec<_> = text.lines().filter(|line| line.contains("(NEEDED)")).collect();
    for line in &needed {
        assert!(["libc.so", "libgcc_s", "ld-linux", "libm.so"].iter().any(|name| line.contains(name)), "{line}");
    }
}
