// SPDX-License-Identifier: MIT OR Apache-2.0
//! The archives of `make tarball`: what is in them, and that they run elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::drive::people;
use testbed::site::namespace::Namespace;
use testbed::site::paths;
use testbed::site::plan::{Network, Plan};
use testbed::site::root::{Recipe, Root};
use testbed::{Error, Need, Options, Release, Result, can_hold_a_site, skip, story_needing};

use super::{built, read, run, temporary, text};
use crate::{build_paths, old_glibc};

/// All files, without the directory that holds them.
const HELPER: &[&str] = &[
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "THIRD-PARTY.txt",
    "bin/mytoken-ssh",
    "share/bash-completion/completions/mytoken-ssh",
    "share/fish/vendor_completions.d/mytoken-ssh.fish",
    "share/man/man1/mytoken-ssh.1",
    "share/man/man5/mytoken-ssh-config.5",
    "share/mytoken/samples/config.toml",
    "share/zsh/site-functions/_mytoken-ssh",
];
const DAEMON: &[&str] = &[
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "THIRD-PARTY.txt",
    "bin/mytokenctl",
    "lib/systemd/system/mytokend-broker.service",
    "lib/systemd/system/mytokend.service",
    "lib/tmpfiles.d/mytoken.conf",
    "sbin/mytokend",
    "share/bash-completion/completions/mytokenctl",
    "share/bash-completion/completions/mytokend",
    "share/fish/vendor_completions.d/mytokenctl.fish",
    "share/fish/vendor_completions.d/mytokend.fish",
    "share/man/man1/mytokenctl.1",
    "share/man/man5/mytoken.toml.5",
    "share/man/man8/mytokend.8",
    "share/mytoken/monitoring/mytoken-broker.dashboard.json",
    "share/mytoken/monitoring/mytoken-broker.rules.yml",
    "share/mytoken/monitoring/prometheus.yml",
    "share/mytoken/samples/mytoken.toml",
    "share/zsh/site-functions/_mytokenctl",
    "share/zsh/site-functions/_mytokend",
];

/// The archives of mytoken-ssh and mytokend; `None` after the test was recorded as skipped.
fn archives() -> Result<Option<[PathBuf; 2]>> {
    let Some(files) = built("tarball", ".tar.gz")? else { return Ok(None) };
    let archives = files.try_into().map_err(|files| Error::Refused(format!("not two archives: {files:?}")))?;
    Ok(Some(archives))
}

/// The directory that an archive makes below `to`.
fn unpack(archive: &Path, to: &Path) -> Result<PathBuf> {
    text(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(to))?;
    let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(to.join(name.trim_end_matches(".tar.gz")))
}

/// The lines of the block of code in a README.
fn block(readme: &str) -> String {
    readme.split("```\n").nth(1).unwrap_or_default().to_owned()
}

#[test]
fn the_archives_have_these_files_and_need_nothing_but_an_old_glibc() -> Result<()> {
    let Some(archives) = archives()? else { return Ok(()) };
    for (archive, expected, programs) in
        [(&archives[0], HELPER, &["bin/mytoken-ssh"][..]), (&archives[1], DAEMON, &["bin/mytokenctl", "sbin/mytokend"])]
    {
        let folder = temporary()?;
        let directory = unpack(archive, folder.path())?;
        let found = text(
            Command::new("sh")
                .args(["-c", "cd \"$1\" && find . -type f | cut -c3- | LC_ALL=C sort", "sh"])
                .arg(&directory),
        )?;
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{}", archive.display());
        build_paths::check(&directory)?;
        for program in programs {
            old_glibc::check(&directory.join(program), &[])?;
        }
        let readme = read(&directory.join("README.md"))?;
        assert!(readme.contains(env!("CARGO_PKG_VERSION")) && !readme.contains('@'), "{readme}");
    }
    Ok(())
}

#[test]
fn the_archives_do_not_depend_on_the_environment() -> Result<()> {
    let built = paths::target().join(format!("{}-unknown-linux-gnu/release", std::env::consts::ARCH));
    if !built.join("mytokend").exists() {
        return skip("the build against an old glibc is missing; run `make tarball`");
    }
    let script = paths::repository().join("packaging/make-tarball");
    let make = |umask: &str, zone: &str| -> Result<String> {
        let folder = temporary()?;
        let call = format!("umask {umask}; exec \"$@\"");
        text(Command::new("sh").args(["-c", &call, "sh"]).arg(&script).arg(folder.path()).arg(&built).env("TZ", zone))
    };
    let (one, other) = (make("022", "UTC")?, make("077", "Asia/Tokyo")?);
    assert!(one.lines().count() == 2 && one == other, "{one}{other}");
    Ok(())
}

#[test]
fn a_user_without_root_installs_the_archive_and_logs_in() -> Result<()> {
    let Some([helper, _]) = archives()? else { return Ok(()) };
    story_needing(&[Need::Browser], Options { nodes: 1, ..Options::new()? }, |site| {
        // Only the archive's program can be used.
        site.sh("root", "rm /usr/bin/mytoken-ssh")?.ok()?;
        let content = fs::read(&helper).map_err(|source| Error::Io { what: "reading the archive".into(), source })?;
        site.script("alice", "tar -xz").stdin(content).run()?.ok()?;
        let readme = site.sh("alice", "cat mytoken-ssh-*/README.md")?.ok()?.stdout;
        let version = site.sh("alice", &format!("cd mytoken-ssh-*\n{}", block(&readme)))?.ok()?.stdout;
        assert_eq!(version.trim(), concat!("mytoken-ssh ", env!("CARGO_PKG_VERSION")));
        people::log_in_by_link(site, "alice", &format!(".local/bin/{}", people::login_command(site)))?;
        let inside =
            site.sh("alice", ".local/bin/mytoken-ssh ssh testbed 'id -un; test -s $BEARER_TOKEN_FILE && echo token'")?;
        assert_eq!(inside.ok()?.lines(), ["alice", "token"]);
        Ok(())
    })
}

#[test]
fn the_programs_start_on_each_release_of_debian() -> Result<()> {
    let Some(archives) = archives()? else { return Ok(()) };
    match can_hold_a_site() {
        Err(error @ Error::Impossible(_)) => return skip(&error.to_string()),
        other => other?,
    }
    let folder = temporary()?;
    let directories = [unpack(&archives[0], folder.path())?, unpack(&archives[1], folder.path())?];
    let recipes = [Release::Bookworm, Release::Trixie, Release::Sid].map(Recipe::site);
    for recipe in recipes.into_iter().chain([Recipe::older_glibc()]) {
        let root = Root::open(&recipe)?;
        let plan = Plan {
            root: root.directory().to_owned(),
            layer: None,
            mount_point: paths::mount_point()?,
            network: Network::Callers,
            binds: vec![(directories[0].clone(), "/helper".into()), (directories[1].clone(), "/daemon".into())],
            users: false,
            install: None,
            emulated: false,
        };
        let namespace = Namespace::create(&plan)?;
        for program in ["/helper/bin/mytoken-ssh", "/daemon/bin/mytokenctl", "/daemon/sbin/mytokend"] {
            let said = text(namespace.enter().args([program, "--version"]))?;
            assert!(said.contains(env!("CARGO_PKG_VERSION")), "{recipe:?}: {program}: {said}");
        }
        // The daemon's archive, as its README says, up to the start of the service: no service manager runs here.
        let readme = read(&directories[1].join("README.md"))?;
        let lines = block(&readme);
        let copy = lines.lines().next().unwrap_or_default();
        assert!(copy.contains("cp -R"), "{lines}");
        let check = format!("cd /daemon && {copy} && mytokend agent --check");
        let output = run(namespace.enter().args(["sh", "-c", &check]))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("/etc/mytoken/mytoken.toml"), "{recipe:?}: {output:?}");
    }
    Ok(())
}
