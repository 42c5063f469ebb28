// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the file shows to Slurm, and what it wants from it. A symbol too much costs processes on every node, an undefined one too
//! much keeps old releases from loading it.

use std::path::Path;
use std::process::Command;

use super::host::{plugin, release_plugin};
use super::skipped::skip;

/// What `program` of binutils says about a file.
fn told(program: &str, options: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(options).arg(file).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn symbols(which: &str) -> Vec<String> {
    let text = told("nm", &["-D", which], plugin());
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
fn the_library_stays_loaded_and_is_bound_at_once() {
    let text = told("readelf", &["-dlW"], plugin());
    for wanted in ["NODELETE", "BIND_NOW", "GNU_RELRO", "soname: [spank_mytoken.so]"] {
        assert!(text.contains(wanted), "{wanted} is missing\n{text}");
    }
}

/// Each further library costs every sbatch the time to find, map and bind it.
fn needs_libc_and_the_loader_alone(file: &Path) {
    let text = told("readelf", &["-dW"], file);
    let needed: Vec<_> = text.lines().filter(|line| line.contains("(NEEDED)")).collect();
    assert!(needed.iter().any(|line| line.contains("[libc.so.6]")), "no dynamic section?\n{text}");
    for line in needed {
        assert!(["[libc.so.6]", "[ld-linux"].iter().any(|name| line.contains(name)), "{line}");
    }
}

#[test]
fn the_library_pulls_in_nothing() {
    needs_libc_and_the_loader_alone(plugin());
}

#[test]
fn the_release_build_pulls_in_nothing() {
    match release_plugin() {
        Some(file) => needs_libc_and_the_loader_alone(&file),
        None => skip("there is no release build of the plugin; run make build").unwrap(),
    }
}

/// Crates that a plugin with an HTTP client, TLS, the cryptography of tokens or a parser of TOML would hold.
const HEAVY: [&str; 15] = [
    "curve25519_dalek",
    "hpke",
    "http",
    "httparse",
    "hyper",
    "openssl",
    "p256",
    "reqwest",
    "ring",
    "rustls",
    "tokio",
    "toml",
    "toml_parser",
    "ureq",
    "webpki",
];

/// Whether a mangled name has an identifier: its length and itself, in both of rustc's manglings.
fn names(symbol: &str, identifier: &str) -> bool {
    let wanted = format!("{}{identifier}", identifier.len());
    symbol.match_indices(&wanted).any(|(at, _)| !symbol[..at].ends_with(|before: char| before.is_ascii_digit()))
}

fn holds_no_heavy_crate(file: &Path) {
    let text = told("nm", &[], file);
    assert!(text.lines().any(|symbol| names(symbol, "spank_mytoken")), "{} is stripped", file.display());
    for symbol in text.lines() {
        let found = HEAVY.iter().find(|name| names(symbol, name));
        assert_eq!(found, None, "{symbol}");
    }
}

#[test]
fn there_is_no_http_tls_or_toml_in_it() {
    holds_no_heavy_crate(plugin());
}

#[test]
fn there_is_no_http_tls_or_toml_in_the_release_build() {
    match release_plugin() {
        Some(file) => holds_no_heavy_crate(&file),
        None => skip("there is no release build of the plugin; run make build").unwrap(),
    }
}

#[test]
fn a_mangled_name_is_found_whole() {
    assert!(names("00 t _ZN6rustls4conn3new17h0123456789abcdefE", "rustls"));
    assert!(names("00 t _RNvCs1234_4toml5parse", "toml"));
    // Another crate whose name ends alike, and a length that ends alike.
    assert!(!names("00 t _ZN14something_http3new17h0123456789abcdefE", "http"));
    assert!(!names("00 t _ZN14http_like_name3new17h0123456789abcdefE", "http"));
}
