// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds in tests what cargo does not build for them: modules that no test can link to, and programs of other packages.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for tests may end when nobody reads what it prints"
)]

use std::process::Command;

/// The variables in which cargo describes the package of a test. Build scripts that read variables of the same names (that of ring does)
/// would run again, and everything that depends on them would be compiled again, for each package with such a test.
const OF_THE_TEST: [&str; 3] = ["CARGO_MANIFEST_", "CARGO_PKG_", "OUT_DIR"];

/// `cargo build` of the locked dependencies, as in the shell that has started the test.
///
/// With the package of a program alone its dependencies have other features and are compiled again. So `--workspace` should be among the
/// arguments, unless the target directory is the test's own.
#[must_use]
pub fn cargo_build() -> Command {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked"]);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| OF_THE_TEST.iter().any(|start| name.starts_with(start))) {
            build.env_remove(name);
        }
    }
    build
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_the_test_is_unknown_to_the_build() {
        let described = |name: &str| OF_THE_TEST.iter().any(|start| name.starts_with(start));
        let own: Vec<_> = std::env::vars().map(|(name, _)| name).filter(|name| described(name)).collect();
        assert!(own.iter().any(|name| name == "CARGO_MANIFEST_DIR"), "cargo describes this package: {own:?}");
        let mut printed = Command::new("env");
        for (name, value) in cargo_build().get_envs() {
            match value {
                Some(value) => printed.env(name, value),
                None => printed.env_remove(name),
            };
        }
        let output = String::from_utf8(printed.output().unwrap().stdout).unwrap();
        assert!(output.contains("PATH=") && !output.lines().any(described), "{output}");
    }
}
