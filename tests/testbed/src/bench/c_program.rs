// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles C programs and plugins on the host and installs them in the site.

use std::process::{Command, Stdio};

use crate::error::WithContext;
use crate::{Error, Result, Site};

/// Compiles `source` with these additional arguments for `cc` and writes the result to `path` in the site, executable
/// by all users.
///
/// # Errors
/// When the host has no compiler, or this one refuses the source.
pub fn install(site: &Site, source: &str, arguments: &[&str], path: &str) -> Result<()> {
    let folder = tempfile::tempdir().with_context(|| "a temporary folder".into())?;
    let (file, built) = (folder.path().join("source.c"), folder.path().join("built"));
    std::fs::write(&file, source).with_context(|| format!("writing {}", file.display()))?;
    let output = Command::new("cc")
        .args(["-Os", "-s", "-o"])
        .args([&built, &file])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| "starting cc".into())?;
    if !output.status.success() {
        return Err(Error::Refused(format!("cc: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let bytes = std::fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    site.script("root", &format!("cat >{path} && chmod 755 {path}")).stdin(bytes).run()?.ok().map(drop)
}
