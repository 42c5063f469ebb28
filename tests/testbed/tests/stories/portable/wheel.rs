// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wheel of `make wheel`.

use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::{Result, has_program, skip};

use super::{built, read, run, temporary, text};
use crate::{build_paths, old_glibc};

/// The wheel; `None` after the test was recorded as skipped.
fn wheel() -> Result<Option<PathBuf>> {
    if !has_program("python3") {
        skip("python3 is not installed")?;
        return Ok(None);
    }
    Ok(built("wheel", ".whl")?.map(|mut wheels| {
        assert_eq!(wheels.len(), 1, "{wheels:?}");
        wheels.remove(0)
    }))
}

fn assert_version(program: &Path) -> Result<()> {
    let version = text(Command::new(program).arg("--version"))?;
    assert_eq!(version.trim(), concat!("mytoken-ssh ", env!("CARGO_PKG_VERSION")));
    Ok(())
}

#[test]
fn the_wheel_holds_the_program_and_its_manual() -> Result<()> {
    let Some(wheel) = wheel()? else { return Ok(()) };
    let name = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let expected =
        format!("mytoken_ssh-{}-py3-none-manylinux_2_28_{}.whl", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    assert_eq!(name, expected);
    let folder = temporary()?;
    text(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder.path()))?;
    build_paths::check(folder.path())?;
    let stem = format!("mytoken_ssh-{}", env!("CARGO_PKG_VERSION"));
    let data = folder.path().join(format!("{stem}.data"));
    old_glibc::check(&data.join("scripts/mytoken-ssh"), &[])?;
    let info = folder.path().join(format!("{stem}.dist-info"));
    let metadata = read(&info.join("METADATA"))?;
    for line in ["Name: mytoken-ssh", "License-Expression: MIT OR Apache-2.0", "License-File: LICENSE-MIT"] {
        assert!(metadata.lines().any(|known| known == line), "{line}: {metadata}");
    }
    assert!(metadata.contains("pipx install mytoken-ssh"), "the README is missing: {metadata}");
    for file in [
        "man/man1/mytoken-ssh.1",
        "man/man5/mytoken-ssh-config.5",
        "bash-completion/completions/mytoken-ssh",
        "zsh/site-functions/_mytoken-ssh",
        "fish/vendor_completions.d/mytoken-ssh.fish",
    ] {
        assert!(data.join("data/share").join(file).is_file(), "{file}");
    }
    Ok(())
}

#[test]
fn the_metadata_passes_twine() -> Result<()> {
    let Some(wheel) = wheel()? else { return Ok(()) };
    if !has_program("twine") {
        return skip("twine is not installed");
    }
    text(Command::new("twine").args(["check", "--strict"]).arg(&wheel)).map(drop)
}

#[test]
fn pip_installs_the_wheel_and_removes_it() -> Result<()> {
    let Some(wheel) = wheel()? else { return Ok(()) };
    let folder = temporary()?;
    if !run(Command::new("python3").args(["-m", "venv"]).arg(folder.path()))?.status.success() {
        return skip("python3 makes no environments here (python3-venv is not installed)");
    }
    let bin = folder.path().join("bin");
    text(Command::new(bin.join("pip")).args(["install", "--quiet", "--no-index"]).arg(&wheel))?;
    assert_version(&bin.join("mytoken-ssh"))?;
    assert!(folder.path().join("share/man/man1/mytoken-ssh.1").is_file());
    text(Command::new(bin.join("pip")).args(["uninstall", "--quiet", "--yes", "mytoken-ssh"]))?;
    assert!(!bin.join("mytoken-ssh").exists() && !folder.path().join("share/man/man1/mytoken-ssh.1").exists());
    Ok(())
}

#[test]
fn pipx_installs_the_wheel() -> Result<()> {
    let Some(wheel) = wheel()? else { return Ok(()) };
    if !has_program("pipx") {
        return skip("pipx is not installed");
    }
    let (home, bin) = (temporary()?, temporary()?);
    let mut command = Command::new("pipx");
    command.arg("install").arg(&wheel).env("PIPX_HOME", home.path()).env("PIPX_BIN_DIR", bin.path());
    let output = run(&mut command)?;
    if !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("pip") && !has_network()? {
        return skip("pipx gets pip from a registry, which is not reached");
    }
    assert!(output.status.success(), "{output:?}");
    assert_version(&bin.path().join("mytoken-ssh"))
}

/// Whether pip reaches its registry.
fn has_network() -> Result<bool> {
    let folder = temporary()?;
    let download =
        ["-m", "pip", "download", "--quiet", "--no-deps", "--timeout", "5", "--retries", "0", "pip", "--dest"];
    Ok(run(Command::new("python3").args(download).arg(folder.path()))?.status.success())
}
