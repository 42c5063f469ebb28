// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of the host: its programs, and whether it can hold a site.

use std::env;
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// The namespaces of a site, as options of `unshare`.
pub(crate) const NAMESPACES: &[&str] = &["--mount", "--pid", "--uts", "--ipc"];

/// Whether a program is on the search path.
#[must_use]
pub fn has_program(name: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|directory| directory.join(name).is_file()))
}

/// Checks that this process can make namespaces and mounts.
///
/// # Errors
/// [`Error::Impossible`] with the reason when it cannot.
pub fn can_hold_a_site() -> Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        return Err(Error::Impossible("only root can mount and make namespaces; run as root or with sudo".into()));
    }
    let probe = Command::new("unshare")
        .args(NAMESPACES)
        .args(["--net", "--fork", "--kill-child", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .stdin(Stdio::null())
        .output();
    match probe {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Error::Impossible(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(error) => Err(Error::Impossible(format!("unshare (package util-linux): {error}"))),
    }
}
