// SPDX-License-Identifier: GPL-3.0-or-later
//! The exported symbols of the built module and the libraries that it needs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::PathBuf;
use std::process::Command;

use nested_cargo::cargo_build;

const EXPORTS: [&str; 6] = [
    "pam_sm_acct_mgmt",
    "pam_sm_authenticate",
    "pam_sm_chauthtok",
    "pam_sm_close_session",
    "pam_sm_open_session",
    "pam_sm_setcred",
];

/// Builds the module. cargo does not build it for an integration test, because no test can link to it.
fn build_module() -> PathBuf {
    let test_binary = std::env::current_exe().unwrap();
    let directory = test_binary.ancestors().nth(2).unwrap();
    let built = cargo_build().args(["--workspace", "--target-dir"]).arg(directory.parent().unwrap()).status();
    assert!(built.unwrap().success());
    directory.join("libpam_mytoken.so")
}

fn run(program: &str, options: &[&str]) -> String {
    let output = Command::new(program).args(options).arg(build_module()).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn only_the_entry_points_are_exported() {
    let listed = run("nm", &["-D", "--defined-only", "--format=posix"]);
    let mut names: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    assert_eq!(names, EXPORTS);
}

#[test]
fn the_module_stays_mapped_and_lists_its_libraries() {
    let dynamic = run("readelf", &["-dW"]);
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    assert!(dynamic.contains("[libpam.so.0]"), "{dynamic}");
    assert!(dynamic.contains("[pam_mytoken.so]"), "{dynamic}");
    assert!(dynamic.contains("BIND_NOW") || dynamic.contains("Flags: NOW"), "{dynamic}");
}
