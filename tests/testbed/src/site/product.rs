// SPDX-License-Identifier: MIT OR Apache-2.0
//! What cargo built of the product, and whether that is still what the sources say.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::site::paths;

/// Built files, and beside each what it was made of, as cargo writes it down (`NAME.d`).
const BUILT: &[&str] =
    &["libpam_mytoken.so", "libspank_mytoken.so", "mytoken-ssh", "mytokenctl", "mytokend", "mytoken-submit"];

/// Whether everything that `make install` wants is there.
pub(crate) fn is_built(profile: &str) -> bool {
    BUILT.iter().all(|name| paths::target().join(profile).join(name).is_file())
}

/// The make target that builds the product in a profile.
pub(crate) fn target_of(profile: &str) -> &'static str {
    if profile == "debug" { "site" } else { "build" }
}

/// Says on standard error which built file is older than one of its sources: a story would test yesterday's product.
pub(crate) fn warn_when_outdated(profile: &str) {
    let directory = paths::target().join(profile);
    for built in BUILT.iter().map(|name| directory.join(name)) {
        if let Some(source) = newer_source(&built) {
            let (built, source, target) = (built.display(), source.display(), target_of(profile));
            eprintln!("testbed: {built} is older than {source}; run `make {target}`");
        }
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
