// SPDX-License-Identifier: MIT OR Apache-2.0
//! `testbed portable`: checks that mytoken-ssh compiles for macOS and FreeBSD.
//!
//! No compiled standard library of these systems is at hand, and none is needed: cargo checks the library's sources, from Debian's package
//! rust-src, together with the program. This takes an unstable option of cargo, so it is a check only. Nothing is linked or run.

use std::process::{Command, ExitCode};

use testbed::site::namespace::Namespace;
use testbed::site::paths;
use testbed::site::plan::{Network, Plan};
use testbed::site::root::{Recipe, Root};
use testbed::{Error, Result, can_hold_a_site};

use crate::oldest_compiler::registry;

/// The systems, as targets of rustc.
const TARGETS: [&str; 3] = ["aarch64-apple-darwin", "x86_64-apple-darwin", "x86_64-unknown-freebsd"];

/// Checks the program for each system, in a root file system with Debian's compiler and without a network.
pub(crate) fn check() -> Result<ExitCode> {
    can_hold_a_site()?;
    let root = Root::open(&Recipe::library_sources())?;
    let library = root.directory().join("usr/lib/rustlib/src/rust/library/sysroot/Cargo.toml");
    let fetched = Command::new("cargo")
        .args(["fetch", "--quiet", "--locked", "--manifest-path"])
        .arg(&library)
        .env("RUSTC_BOOTSTRAP", "1")
        .status()
        .map_err(|source| Error::Io { what: "starting cargo".into(), source })?;
    if !fetched.success() {
        return Err(Error::Refused(format!("cargo could not download the dependencies of {}", library.display())));
    }
    let plan = Plan {
        root: root.directory().to_owned(),
        layer: None,
        mount_point: paths::mount_point()?,
        network: Network::Callers,
        binds: vec![(paths::repository(), "/src".into()), (registry()?, "/cargo/registry".into())],
        users: false,
        emulated: false,
        install: None,
    };
    let namespace = Namespace::create(&plan)?;
    // ring's build script compiles C and assembler. That needs headers of the system, and a check does not need its result.
    let script = "cd /src && for target; do \
                  name=$(echo $target | tr - _) && export CC_$name=true AR_$name=true && \
                  RUSTFLAGS='-D warnings' cargo check --locked --offline -Z build-std=std,panic_unwind --target $target -p ssh-helper || exit 1; \
                  done";
    let status = namespace
        .enter()
        .args([
            "--",
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "CARGO_HOME=/cargo",
            "CARGO_TARGET_DIR=/tmp/target",
        ])
        .args(["RUSTC_BOOTSTRAP=1", "sh", "-c", script, "sh"])
        .args(TARGETS)
        .status()
        .map_err(|source| Error::Io { what: "entering the namespace".into(), source })?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    println!("mytoken-ssh compiles for {}", TARGETS.join(", "));
    Ok(ExitCode::SUCCESS)
}
