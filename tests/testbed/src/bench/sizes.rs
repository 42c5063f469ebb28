// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes of the PAM module and the plugin, stripped as in packages.

use std::process::{Command, Stdio};

use super::amount::Amount;
use super::figure::Figure;
use crate::error::WithContext;
use crate::site::paths;
use crate::{Error, Result, Site};

/// Measures the plugin and the PAM module.
pub(super) fn measure(_site: &Site, _amount: &Amount) -> Result<Vec<Figure>> {
    let spank = module("so_bytes_spank", "libspank_mytoken.so", 430_000.0)?;
    Ok(vec![spank, module("so_bytes_pam", "libpam_mytoken.so", 3_000_000.0)?])
}

/// The size of one module that cargo built.
fn module(name: &'static str, file: &str, goal: f64) -> Result<Figure> {
    let built = paths::target().join(paths::product_profile()).join(file);
    let copy = tempfile::NamedTempFile::new().with_context(|| "a temporary file".into())?;
    let output = Command::new("strip")
        .args(["--strip-unneeded", "-o"])
        .args([copy.path(), &built])
        .stdin(Stdio::null())
        .output()
        .with_context(|| "starting strip (package binutils)".into())?;
    if !output.status.success() {
        return Err(Error::Refused(format!("strip: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    let bytes = std::fs::metadata(copy.path()).with_context(|| format!("size of {file}"))?.len();
    // Modules are far smaller than 2^52 bytes.
    #[allow(clippy::cast_precision_loss)]
    let bytes = bytes as f64;
    Ok(Figure::value(name, bytes, "bytes", goal, &format!("{file} of profile {}, stripped", paths::product_profile())))
}
