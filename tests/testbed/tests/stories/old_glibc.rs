// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a built file needs from the system: the build of `packaging/rpm/build` must run on old systems.

use std::path::Path;
use std::process::Command;

use testbed::{Error, Result};

/// The highest version of glibc's symbols: RHEL 8 has this glibc, SUSE 15 a newer one.
const GLIBC: (u32, u32) = (2, 28);

/// Parts of glibc.
const LIBRARIES: [&str; 6] = ["libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1", "libutil.so.1"];

/// The versions of glibc in `GLIBC_2.17`, wherever they are in a text.
fn glibc_versions(text: &str) -> Vec<(u32, u32)> {
    let version = |rest: &str| {
        let digits: String = rest.chars().take_while(|letter| letter.is_ascii_digit() || *letter == '.').collect();
        let (major, minor) = digits.split_once('.')?;
        Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
    };
    text.split("GLIBC_").skip(1).filter_map(version).collect()
}

fn readelf(file: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("readelf")
        .arg("--wide")
        .args(arguments)
        .arg(file)
        .output()
        .map_err(|source| Error::Io { what: "starting readelf".into(), source })?;
    assert!(output.status.success(), "{}: {output:?}", file.display());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asserts that a file needs no newer glibc, no library but glibc and `others`, and has no debug symbols.
pub fn check(file: &Path, others: &[&str]) -> Result<()> {
    let name = file.display();
    let facts = readelf(file, &["--version-info", "--dynamic"])?;
    let versions = glibc_versions(&facts);
    assert!(!versions.is_empty(), "{name}: {facts}");
    let newer: Vec<_> = versions.into_iter().filter(|version| *version > GLIBC).collect();
    assert!(newer.is_empty(), "{name} needs glibc {newer:?}");
    for line in facts.lines().filter(|line| line.contains("(NEEDED)")) {
        let library = line.rsplit(['[', ']']).nth(1).unwrap_or_default();
        let is_allowed = LIBRARIES.contains(&library) || library.starts_with("ld-linux-") || others.contains(&library);
        assert!(is_allowed, "{name} needs {library}");
    }
    assert!(!readelf(file, &["--sections"])?.contains(" .debug_info"), "{name} has debug symbols");
    Ok(())
}
