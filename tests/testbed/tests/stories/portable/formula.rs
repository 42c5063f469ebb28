// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Homebrew formula. Homebrew itself is not at hand: a stand-in for its classes runs the formula's steps in a copy of the sources.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use testbed::site::paths;
use testbed::{Error, Result, has_program, skip};

use super::{run, temporary, text};

const URL: &str = "https://files.example.org/releases/mytoken-suite-0.1.0.tar.gz";

fn make(archive: &Path, url: &str) -> Command {
    let mut command = Command::new(paths::repository().join("packaging/make-formula"));
    command.arg(archive).arg(url);
    command
}

#[test]
fn the_formula_installs_files_of_the_sources() -> Result<()> {
    if !has_program("ruby") {
        return skip("ruby is not installed");
    }
    let folder = temporary()?;
    let io = |source| Error::Io { what: "writing a file".into(), source };
    let archive = folder.path().join("mytoken-suite-0.1.0.tar.gz");
    fs::write(&archive, "sources").map_err(io)?;
    let formula = folder.path().join("mytoken-ssh.rb");
    fs::write(&formula, text(&mut make(&archive, URL))?).map_err(io)?;
    text(Command::new("ruby").args(["-w", "-c"]).arg(&formula))?;
    // The test of the formula runs the program of this build.
    let program = paths::testbed_program()?.with_file_name("mytoken-ssh");
    if !program.exists() {
        return skip("mytoken-ssh is not built; run `make site`");
    }
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).map_err(io)?;
    symlink(&program, bin.join("mytoken-ssh")).map_err(io)?;
    let said = text(
        Command::new("ruby")
            .arg(paths::repository().join("tests/testbed/tests/stories/portable/homebrew.rb"))
            .arg(&formula)
            .current_dir(paths::repository())
            .env("BIN", &bin)
            .env("VERSION", env!("CARGO_PKG_VERSION"))
            .env("HOME", folder.path())
            .env_remove("XDG_CONFIG_HOME"),
    )?;
    // sha256 of "sources".
    let sum = text(Command::new("sha256sum").arg(&archive))?;
    let sum = sum.split(' ').next().unwrap_or_default();
    let expected = format!(
        "{URL} {sum} Apache-2.0 MIT
system cargo install --locked --root=/prefix --path=ssh-helper
man1 packaging/man/mytoken-ssh.1
man5 packaging/man/mytoken-ssh-config.5
bash_completion packaging/completions/bash/mytoken-ssh
zsh_completion packaging/completions/zsh/_mytoken-ssh
fish_completion packaging/completions/fish/mytoken-ssh.fish
pkgshare packaging/samples/config.toml
"
    );
    assert_eq!(said, expected);
    Ok(())
}

#[test]
fn an_address_that_is_not_the_archives_is_refused() -> Result<()> {
    let folder = temporary()?;
    let archive = folder.path().join("mytoken-suite-0.1.0.tar.gz");
    fs::write(&archive, "sources").map_err(|source| Error::Io { what: "writing a file".into(), source })?;
    for url in ["http://files.example.org/mytoken-suite-0.1.0.tar.gz", "https://files.example.org/latest.tar.gz"] {
        let output = run(&mut make(&archive, url))?;
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{url}");
    }
    Ok(())
}
