// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths on the host: the repository, its build results, the cache of root file systems.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::WithContext;
use crate::{Error, Result};

/// The repository this crate was built from, unless `TESTBED_REPOSITORY` names another.
#[must_use]
pub fn repository() -> PathBuf {
    match env::var_os("TESTBED_REPOSITORY") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("/")).to_path_buf(),
    }
}

/// Cargo's target directory.
#[must_use]
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(path) => repository().join(path),
        None => repository().join("target"),
    }
}

/// The cache of root file systems.
#[must_use]
pub fn roots() -> PathBuf {
    target().join("roots")
}

/// The keys of the test server's provider, which all sites share.
#[must_use]
pub fn provider_keys() -> PathBuf {
    target().join("testbed-provider-keys.json")
}

/// Where `make deb` puts the product's Debian packages.
#[must_use]
pub fn packages() -> PathBuf {
    target().join("deb")
}

/// Where `make earlier` puts packages of an earlier commit.
#[must_use]
pub fn earlier_packages() -> PathBuf {
    target().join("earlier")
}

/// Where `make earlier` puts programs of an earlier commit that has brokers.
#[must_use]
pub fn earlier_programs() -> PathBuf {
    earlier_packages().join("brokers")
}

/// Where `make arm64` puts the Debian packages for arm64.
#[must_use]
pub fn arm64_packages() -> PathBuf {
    target().join("deb-arm64")
}

/// Where `make rpm` puts the product's RPM packages.
#[must_use]
pub fn rpm_packages() -> PathBuf {
    target().join("rpm")
}

/// An empty directory to mount a site on, made on first use. The mount is only visible inside the site.
///
/// # Errors
/// When it cannot be made.
pub fn mount_point() -> Result<PathBuf> {
    let path = roots().join("mnt");
    fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}

/// The cargo profile whose build is installed in the site: the value of `TESTBED_PROFILE`, else `release`.
#[must_use]
pub fn product_profile() -> String {
    env::var("TESTBED_PROFILE").unwrap_or_else(|_| "release".into())
}

/// The `testbed` program: this process, or the one that cargo built beside the running test.
///
/// # Errors
/// When there is none because the library is used outside the workspace.
pub fn testbed_program() -> Result<PathBuf> {
    program_beside("testbed")
}

/// The test server's program beside this one, if it is built.
#[must_use]
pub fn testserver_program() -> Option<PathBuf> {
    program_beside("testserver").ok()
}

/// Tests run from `target/<profile>/deps/`, programs from `target/<profile>/`.
fn program_beside(name: &str) -> Result<PathBuf> {
    let me = env::current_exe().with_context(|| "finding the running program".into())?;
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| Error::Refused(format!("there is no program `{name}` beside {}; build it first", me.display())))
}
