// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs of `tests/ssh_clients` in a site.

use std::process::{Command, Stdio};

use testbed::{Error, Result, Site};

use super::sources;

/// Where a site has them.
pub(super) const FOLDER: &str = "/usr/local/lib/ssh_clients";

fn source(name: &str) -> Result<Vec<u8>> {
    let path = sources().join(name);
    std::fs::read(&path).map_err(|source| Error::Io { what: path.display().to_string(), source })
}

/// Writes a program of this content.
pub(super) fn put(site: &Site, name: &str, content: Vec<u8>) -> Result<()> {
    let write = format!("mkdir -p {FOLDER} && cat >{FOLDER}/{name} && chmod 755 {FOLDER}/{name}");
    site.script("root", &write).stdin(content).run()?.ok().map(drop)
}

/// Writes those that need no compiler.
pub(super) fn install(site: &Site) -> Result<()> {
    for name in ["type_answers.exp", "paramiko_client.py", "asyncssh_client.py", "hostile_server.py"] {
        put(site, name, source(name)?)?;
    }
    Ok(())
}

/// Compiles `NAME.c` in the site, with the library of its release.
pub(super) fn compile(site: &Site, name: &str, library: &str) -> Result<()> {
    let source = source(&format!("{name}.c"))?;
    let compile = format!("gcc -Wall -x c -o {FOLDER}/{name} - {library}");
    site.script("root", &compile).stdin(source).run()?.ok().map(drop)
}

/// Builds the program in Go on this machine, because a site does not reach the proxy with the library. The oldest Go is
/// that of Debian 12. It fails with a reason to skip the story: there is no Go, or it cannot fetch the library.
pub(super) fn build_with_go() -> std::result::Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
    let program = folder.path().join("go_client");
    // In the directory of the sources, which it leaves as they are.
    let output = Command::new("go")
        .args(["build", "-mod=readonly", "-buildvcs=false", "-o"])
        .arg(&program)
        .current_dir(sources().join("go"))
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("it needs Go: go: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "it needs Go and its library x/crypto: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    std::fs::read(&program).map_err(|error| format!("{}: {error}", program.display()))
}
