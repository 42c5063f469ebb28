// SPDX-License-Identifier: MIT OR Apache-2.0
//! `testbed msrv`: checks that the workspace compiles with `rust-version`, the compiler of Debian 12.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use testbed::site::namespace::Namespace;
use testbed::site::paths;
use testbed::site::plan::{Network, Plan};
use testbed::site::root::{Recipe, Root};
use testbed::{Error, Result, can_hold_a_site};

/// The directory of the host's cargo with its downloads.
pub(crate) fn registry() -> Result<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    home.map(|home| home.join("registry"))
        .filter(|registry| registry.is_dir())
        .ok_or_else(|| Error::Refused("cargo's registry is empty; run `cargo fetch --locked` first".into()))
}

/// Compiles the workspace in a minimal root file system, with the host's downloads and without a network.
pub(crate) fn check() -> Result<ExitCode> {
    can_hold_a_site()?;
    let root = Root::open(&Recipe::oldest_compiler())?;
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
    // A point release of Debian may bring a newer compiler. Then this check would prove nothing.
    let oldest = concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), ".");
    // The plugin is linked too: its unwinder is chosen by the linker, which is GNU ld here and lld with newer
    // compilers.
    let script = "cd /src && rustc --version && case $(rustc --version) in \"$1\"*) ;; \
                  *) echo \"this root file system does not have $1x\" >&2; exit 1 ;; esac && \
                  cargo check --locked --offline --workspace && \
                  cargo build --locked --offline --package slurm-spank && \
                  readelf -d /tmp/target/debug/libspank_mytoken.so >/tmp/needed && ! grep libgcc_s /tmp/needed";
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
        .args(["sh", "-c", script, "sh", oldest])
        .status()
        .map_err(|source| Error::Io { what: "entering the namespace".into(), source })?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
