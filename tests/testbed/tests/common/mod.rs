// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packages in a site, for the stories about packages and about the life of an installation.

use std::fs;
use std::path::PathBuf;

use testbed::site::packages;
use testbed::{Error, Result, Site};

/// Purges everything that `bring_packages` brought.
#[allow(dead_code)] // not every story purges
pub const PURGE: &str = "DEBIAN_FRONTEND=noninteractive dpkg --purge $(cd /root/packages && ls | cut -d_ -f1)";

/// The packages; an error names the command that makes them.
pub fn built() -> Result<Vec<PathBuf>> {
    packages::built().ok_or_else(|| Error::Refused("there are no packages; run `make deb`".into()))
}

/// Copies the packages into the site, to /root/packages.
pub fn bring_packages(site: &Site) -> Result<()> {
    site.sh("root", "mkdir /root/packages")?.ok()?;
    for package in built()? {
        let content = fs::read(&package).map_err(|source| Error::Io { what: package.display().to_string(), source })?;
        let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        site.script("root", &format!("cat >/root/packages/{name}")).stdin(content).run()?.ok()?;
    }
    Ok(())
}
