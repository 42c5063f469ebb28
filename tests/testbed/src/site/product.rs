// SPDX-License-Identifier: MIT OR Apache-2.0
//! The built files of the product, and whether they are older than their sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::site::paths;

/// The built files. cargo writes the sources of each to `NAME.d` in the same directory.
const BUILT: &[&str] =
    &["libpam_mytoken.so", "libspank_mytoken.so", "mytoken-ssh", "mytokenctl", "mytokend", "mytoken-submit"];

/// Whether all files that `make install` needs exist.
pub(crate) fn is_built(profile: &str) -> bool {
    BUILT.iter().all(|name| paths::target().join(profile).join(name).is_file())
}

/// The make target that builds the product in a profile.
pub(crate) fn target_of(profile: &str) -> &'static str {
    if profile == "debug" { "site" } else { "deb" }
}

/// Warns on standard error if a built file is older than one of its sources: the stories would test an old build.
pub(crate) fn warn_when_outdated(profile: &str) {
    let directory = paths::target().join(profile);
    for built in BUILT.iter().map(|name| directory.join(name)) {
        if let Some(source) = newer_source(&built) {
            let (built, source, target) = (built.display(), source.display(), target_of(profile));
            eprintln!("testbed: {built} is older than {source}; run `make {target}`");
        }
    }
}

/// Warns on standard error when a package is older than the files it was made from, because stories would test an old build.
pub(crate) fn warn_when_packages_are_outdated(packages: &[PathBuf]) {
    let made = packages.iter().filter_map(|package| modified(package)).min();
    let built = BUILT.iter().filter_map(|name| modified(&paths::target().join("release").join(name))).max();
    if built > made {
        eprintln!("testbed: the packages in {} are older than the build; run `make deb`", paths::packages().display());
    }
}

fn newer_source(built: &Path) -> Option<PathBuf> {
    let made = modified(built)?;
    let listing = fs::read_to_string(built.with_extension("d")).ok()?;
    let (_, sources) = listing.split_once(": ")?;
    sources.split_whitespace().map(PathBuf::from).find(|source| modified(source).is_some_and(|time| time > made))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
