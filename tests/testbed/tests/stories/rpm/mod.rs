// SPDX-License-Identifier: MIT OR Apache-2.0
//! The RPM packages of `make rpm`: what they need, what they change on a host, and their `SELinux` module.
//!
//! No system with RPM can be had as a root file system. The packages are installed by rpm into a root of Debian, whose reference
//! policy stands for the policies of other distributions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testbed::site::paths;
use testbed::{Error, Result, has_program, skip};

use crate::{build_paths, old_glibc};

mod host;
mod installation;
mod selinux;

/// Scripts of a package, as tags of rpm.
const SCRIPTS: [&str; 4] = ["PREIN", "POSTIN", "PREUN", "POSTUN"];

/// The packages, for all systems first; `None` after the test was recorded as skipped.
fn built(programs: &[&str]) -> Result<Option<Vec<PathBuf>>> {
    if let Some(missing) = programs.iter().find(|program| !has_program(program)) {
        skip(&format!("{missing} is not installed"))?;
        return Ok(None);
    }
    let directory = paths::rpm_packages();
    let Ok(list) = fs::read_to_string(directory.join("packages")) else {
        skip("there are no RPM packages; run `make rpm`")?;
        return Ok(None);
    };
    let packages: Vec<PathBuf> = list.lines().map(|name| directory.join(name)).collect();
    assert_eq!(packages.len(), 8, "{packages:#?}");
    Ok(Some(packages))
}

fn run(command: &mut Command) -> Result<Output> {
    command.output().map_err(|source| Error::Io { what: format!("running {command:?}"), source })
}

fn text(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    assert!(output.status.success(), "{command:?}: {output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What rpm says about a package that is not installed.
fn query(package: &Path, arguments: &[&str]) -> Result<String> {
    text(Command::new("rpm").args(["--query", "--package"]).args(arguments).arg(package))
}

fn is_for_all(package: &Path) -> bool {
    package.parent().is_some_and(|directory| directory == paths::rpm_packages())
}

/// The content of a package in a directory of the host.
fn unpack(package: &Path, to: &Path) -> Result<()> {
    let script = "rpm2archive - <\"$1\" | tar -xz -C \"$2\"";
    text(Command::new("sh").args(["-c", script, "sh"]).args([package, to])).map(drop)
}

#[test]
fn requires_and_provides_are_those_of_the_list() -> Result<()> {
    let Some(packages) = built(&["rpm"])? else { return Ok(()) };
    if std::env::consts::ARCH != "x86_64" {
        return skip("the list is that of x86_64");
    }
    let mut found = String::new();
    for package in packages.iter().filter(|package| is_for_all(package)) {
        found.push_str(&format!("{}\n", query(package, &["--queryformat", "%{NAME}"])?));
        let version = query(package, &["--queryformat", "%{VERSION}-%{RELEASE}"])?;
        for relation in ["requires", "provides", "recommends"] {
            let mut lines: Vec<String> = query(package, &[&format!("--{relation}")])?
                .lines()
                .filter(|line| !line.starts_with("rpmlib(") && !line.contains("(GLIBC_"))
                .map(|line| format!("    {relation} {}\n", line.replace(&version, "VERSION")))
                .collect();
            lines.sort();
            lines.dedup();
            found.extend(lines);
        }
    }
    assert_eq!(found, include_str!("relations.txt"), "packages now:\n{found}");
    Ok(())
}

#[test]
fn no_file_needs_a_newer_glibc_or_another_library_or_names_a_directory_of_this_host() -> Result<()> {
    let Some(packages) = built(&["rpm", "rpm2archive", "readelf"])? else { return Ok(()) };
    let mut seen = 0;
    for package in packages {
        let folder = tempfile::tempdir().map_err(|source| Error::Io { what: "making a directory".into(), source })?;
        unpack(&package, folder.path())?;
        build_paths::check(folder.path())?;
        let files = text(Command::new("find").arg(folder.path()).args(["-type", "f"]))?;
        for file in files.lines() {
            if !fs::read(file).is_ok_and(|content| content.starts_with(b"\x7fELF")) {
                continue;
            }
            seen += 1;
            let name = file.rsplit('/').next().unwrap_or_default();
            // The module also needs the library that loads it.
            let others: &[&str] = if name == "pam_mytoken.so" { &["libpam.so.0"] } else { &[] };
            old_glibc::check(Path::new(file), others)?;
        }
    }
    assert_eq!(seen, 7, "programs and modules, one of them twice");
    Ok(())
}

#[test]
fn suse_15_differs_in_the_directory_of_the_module() -> Result<()> {
    let Some(packages) = built(&["rpm"])? else { return Ok(()) };
    let mut modules = Vec::new();
    for package in packages {
        let files = query(&package, &["--list"])?;
        modules.extend(files.lines().filter(|file| file.ends_with("/pam_mytoken.so")).map(str::to_owned));
    }
    assert_eq!(modules, ["/usr/lib64/security/pam_mytoken.so", "/lib64/security/pam_mytoken.so"]);
    Ok(())
}

#[test]
fn rpmlint_has_no_complaint() -> Result<()> {
    let Some(packages) = built(&["rpm", "rpmlint"])? else { return Ok(()) };
    let packaging = paths::repository().join("packaging/rpm");
    let mut command = Command::new("rpmlint");
    command.arg("--config").arg(packaging.join("rpmlint.toml")).args(&packages).arg(packaging.join("mytoken.spec"));
    let said = String::from_utf8_lossy(&run(&mut command)?.stdout).into_owned();
    assert!(said.contains(" 0 errors, 0 warnings, "), "{said}");
    Ok(())
}

#[test]
fn scripts_of_packages_pass_shellcheck() -> Result<()> {
    let Some(packages) = built(&["rpm", "shellcheck"])? else { return Ok(()) };
    let mut checked = 0;
    for package in packages {
        for tag in SCRIPTS {
            let script = query(&package, &["--queryformat", &format!("%{{{tag}}}")])?;
            if script == "(none)" {
                continue;
            }
            checked += 1;
            let folder =
                tempfile::tempdir().map_err(|source| Error::Io { what: "making a directory".into(), source })?;
            let file = folder.path().join(tag);
            fs::write(&file, &script).map_err(|source| Error::Io { what: "writing a script".into(), source })?;
            let output = run(Command::new("shellcheck").args(["--shell", "sh"]).arg(&file))?;
            assert!(output.status.success(), "{}: {}", package.display(), String::from_utf8_lossy(&output.stdout));
        }
    }
    assert_eq!(checked, 7, "pam_mytoken twice, mytokend three times, mytoken-selinux twice");
    Ok(())
}

#[test]
fn the_spec_has_the_version_of_the_workspace_and_also_builds_the_sources() -> Result<()> {
    if !has_program("rpmspec") {
        return skip("rpmspec is not installed");
    }
    let spec = paths::repository().join("packaging/rpm/mytoken.spec");
    let parse = |arguments: &[&str]| text(Command::new("rpmspec").arg("--parse").args(arguments).arg(&spec));
    let from_source = parse(&[])?;
    let version = env!("CARGO_PKG_VERSION");
    assert!(from_source.lines().any(|line| line.split_whitespace().eq(["Version:", version])), "{from_source}");
    assert!(from_source.contains("\npackaging/compile build"), "{from_source}");
    let prebuilt = parse(&["--define", "mytoken_built /built"])?;
    assert!(!prebuilt.contains("compile build") && prebuilt.contains("BUILT=/built"), "{prebuilt}");
    Ok(())
}
