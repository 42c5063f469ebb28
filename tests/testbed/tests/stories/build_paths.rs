// SPDX-License-Identifier: MIT OR Apache-2.0
//! Directories of the host that built a package: a file that names them differs with each host, and tells where it was built.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use testbed::site::paths;
use testbed::{Error, Result};

/// Asserts that no file below a directory names the sources or cargo's downloads by their paths on this host.
pub fn check(directory: &Path) -> Result<()> {
    let repository = paths::repository();
    // With the name of a crate: the path of the repository alone can be as short as /src.
    let crates = fs::read_dir(&repository).into_iter().flatten().flatten().map(|entry| entry.path());
    let crates = crates.filter(|path| path.join("Cargo.toml").is_file());
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    let mut command = Command::new("grep");
    command.args(["--recursive", "--files-with-matches", "--text", "--fixed-strings"]);
    let mut known = 0;
    for path in crates.chain(home.map(|home| home.join("registry"))) {
        known += 1;
        command.arg("-e").arg(path);
    }
    assert!(known > 4, "{}: no crates found", repository.display());
    let output = command.arg("--").arg(directory).output();
    let output = output.map_err(|source| Error::Io { what: "starting grep".into(), source })?;
    // 1: nothing was found.
    assert_eq!(output.status.code(), Some(1), "files that name directories of this host: {output:?}");
    Ok(())
}
