// SPDX-License-Identifier: MIT OR Apache-2.0
//! The symbols and libraries of the plugin's file. Each exported hook costs time on every node (SLURM-03). Old releases cannot load a
//! plugin that needs a symbol which they lack (SLURM-02).

use std::path::Path;
use std::process::Command;

use super::host::{plugin, release_plugin};
use super::skipped::skip;

/// The output of a program of binutils about a file.
fn binutils(program: &str, options: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(options).arg(file).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn symbols(which: &str) -> Vec<String> {
    let text = binutils("nm", &["-D", which], plugin());
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
    // All symbols that are not of the C library, the unwinder or the loader are Slurm's.
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
    let text = binutils("readelf", &["-dlW"], plugin());
    for wanted in ["NODELETE", "BIND_NOW", "GNU_RELRO", "soname: [spank_mytoken.so]"] {
        assert!(text.contains(wanted), "{wanted} is missing\n{text}");
    }
}

#[test]
fn the_file_tells_its_version() {
    let text = binutils("readelf", &["-nW"], plugin());
    assert!(text.contains("mytoken-version"), "{text}");
    let version = mytoken_wire::version::in_file(&std::fs::read(plugin()).unwrap()).map(str::to_owned);
    assert_eq!(version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
}

/// sbatch would have to find, map and bind each further library.
fn assert_needs_libc_and_the_loader_alone(file: &Path) {
    let text = binutils("readelf", &["-dW"], file);
    let needed: Vec<_> = text.lines().filter(|line| line.contains("(NEEDED)")).collect();
    assert!(needed.iter().any(|line| line.contains("[libc.so.6]")), "no dynamic section?\n{text}");
    for line in needed {
        assert!(["[libc.so.6]", "[ld-linux"].iter().any(|name| line.contains(name)), "{line}");
    }
}

#[test]
fn the_library_needs_only_libc_and_the_loader() {
    assert_needs_libc_and_the_loader_alone(plugin());
}

#[test]
fn the_release_build_needs_only_libc_and_the_loader() {
    match release_plugin() {
        Some(file) => assert_needs_libc_and_the_loader_alone(&file),
        None => skip("there is no release build of the plugin; run make build").unwrap(),
    }
}

/// Crates for HTTP, TLS, the cryptography of tokens or TOML.
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

/// Whether a mangled name contains an identifier. In both of rustc's manglings it stands after its length.
fn has_identifier(symbol: &str, identifier: &str) -> bool {
    let wanted = format!("{}{identifier}", identifier.len());
    symbol.match_indices(&wanted).any(|(at, _)| !symbol[..at].ends_with(|before: char| before.is_ascii_digit()))
}

fn assert_holds_no_heavy_crate(file: &Path) {
    let text = binutils("nm", &[], file);
    assert!(text.lines().any(|symbol| has_identifier(symbol, "spank_mytoken")), "{} is stripped", file.display());
    for symbol in text.lines() {
        let found = HEAVY.iter().find(|name| has_identifier(symbol, name));
        assert_eq!(found, None, "{symbol}");
    }
}

#[test]
fn the_library_contains_no_http_tls_or_toml() {
    assert_holds_no_heavy_crate(plugin());
}

#[test]
fn the_release_build_contains_no_http_tls_or_toml() {
    match release_plugin() {
        Some(file) => assert_holds_no_heavy_crate(&file),
        None => skip("there is no release build of the plugin; run make build").unwrap(),
    }
}

#[test]
fn crate_names_are_matched_whole_in_mangled_names() {
    assert!(has_identifier("00 t _ZN6rustls4conn3new17h0123456789abcdefE", "rustls"));
    assert!(has_identifier("00 t _RNvCs1234_4toml5parse", "toml"));
    // Another crate whose name ends in the same letters, and a length that ends in the same digits.
    assert!(!has_identifier("00 t _ZN14something_http3new17h0123456789abcdefE", "http"));
    assert!(!has_identifier("00 t _ZN14http_like_name3new17h0123456789abcdefE", "http"));
}
