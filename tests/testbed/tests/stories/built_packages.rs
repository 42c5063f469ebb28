// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packages in a site, for the stories about packages and about the life of an installation.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use testbed::site::packages;
use testbed::{Error, Result, Site};

/// Purges everything that `bring_packages` brought.
pub const PURGE: &str = "DEBIAN_FRONTEND=noninteractive dpkg --purge $(cd /root/packages && ls | cut -d_ -f1)";

/// The packages; an error names the command that makes them.
pub fn built() -> Result<Vec<PathBuf>> {
    packages::built().ok_or_else(|| Error::Refused("there are no packages; run `make deb`".into()))
}

/// Copies the packages into the site, to /root/packages.
pub fn bring_packages(site: &Site) -> Result<()> {
    bring(site, &built()?, "/root/packages")
}

/// Copies packages into a new directory of the site.
pub fn bring(site: &Site, packages: &[PathBuf], directory: &str) -> Result<()> {
    site.sh("root", &format!("mkdir {directory}"))?.ok()?;
    for package in packages {
        let content = fs::read(package).map_err(|source| Error::Io { what: package.display().to_string(), source })?;
        let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        site.script("root", &format!("cat >{directory}/{name}")).stdin(content).run()?.ok()?;
    }
    Ok(())
}

/// The version of [`bring_earlier_packages`] and of the packages of an earlier commit.
pub const EARLIER: &str = "0.0.9";

/// Makes packages of an earlier version in the site, in /root/earlier: the same files and scripts as in /root/packages.
pub fn bring_earlier_packages(site: &Site) -> Result<()> {
    let repack = format!(
        "set -e; mkdir /root/earlier; cd /root/earlier
         for package in /root/packages/*.deb; do
             version=$(dpkg-deb --field $package Version); rm -rf tree; dpkg-deb --raw-extract $package tree
             sed -i \"s/^Version: .*/Version: {EARLIER}/; s/(= $version)/(= {EARLIER})/\" tree/DEBIAN/control
             dpkg-deb -Zgzip -z1 --build tree .
         done; rm -rf tree"
    );
    site.script("root", &repack).timeout(Duration::from_secs(120)).run()?.ok().map(drop)
}

/// All files below /etc with their contents, and links, one per line.
pub fn etc(site: &Site) -> Result<String> {
    let list = "cd /etc && find . -type f -exec sha256sum {} + -o -type l -printf '- %p -> %l\\n' | LC_ALL=C sort -k2";
    let lines = site.sh("root", list)?.ok()?.stdout;
    Ok(lines
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(sum, path)| format!("{} {sum}\n", path.trim()))
        .collect())
}

/// Lines that only one of two snapshots by [`etc`] has.
pub fn difference<'a>(before: &'a str, after: &'a str) -> Vec<&'a str> {
    let only = |some: &'a str, other: &'a str| some.lines().filter(move |line| !other.lines().any(|its| its == *line));
    only(before, after).chain(only(after, before)).collect()
}

/// A login of bob by his key. While sshd reloads it refuses connections for some milliseconds; ssh then tries again.
pub fn login_by_key(site: &Site) -> Result<()> {
    let ssh = "ssh -o BatchMode=yes -o ConnectionAttempts=3 -i .ssh/site_key testbed id -un";
    let login = site.sh("bob", ssh)?.ok()?;
    assert_eq!(login.stdout.trim(), "bob");
    Ok(())
}
