// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a release consists of: versions, archives, licences.
//!
//! A program of its own: it compiles, and stories measure times.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testbed::site::paths;
use testbed::skip;

/// The files that name the version, and the text that is changed in them.
const VERSIONS: [(&str, &str); 6] = [
    ("Cargo.toml", "\nversion = \""),
    ("Cargo.toml", "path = \"mytokend\", version = \""),
    ("CHANGELOG.md", "\n## "),
    ("packaging/debian/changelog", "mytoken-suite ("),
    ("packaging/rpm/mytoken.spec", "\nVersion:        "),
    ("packaging/rpm/mytoken.spec", "noreply.invalid> - "),
];

fn run(command: &mut Command) -> Output {
    // With MAKEFLAGS, a make that runs this test would be asked for its job server.
    command.env_remove("MAKEFLAGS").env_remove("CARGO_TARGET_DIR").output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    // Another process writes it, because some of these files are run: see `programs::write`.
    let output = run(Command::new("cp").arg(from).arg(to));
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_release_with_two_versions_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for file in VERSIONS.map(|(file, _)| file).into_iter().chain(["packaging/version"]) {
        copy(&paths::repository().join(file), &folder.path().join(file));
    }
    let script = folder.path().join("packaging/version");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(said(&run(&mut Command::new(&script))), format!("{version}\n"));
    for (file, before) in VERSIONS {
        let path = folder.path().join(file);
        let whole = fs::read_to_string(&path).unwrap();
        let place = format!("{before}{version}");
        assert!(whole.contains(&place), "{file} has no {place}");
        fs::write(&path, whole.replacen(&place, &format!("{before}9.9.9"), 1)).unwrap();
        let output = run(&mut Command::new(&script));
        let said = said(&output);
        assert!(!output.status.success() && said.contains(file) && said.contains("9.9.9"), "{file}: {said}");
        fs::write(&path, whole).unwrap();
    }
}

/// Runs `make-dist` and returns the checksums that it printed.
fn make_dist(to: &Path, umask: &str, timezone: &str) -> String {
    let script = paths::repository().join("packaging/make-dist");
    let mut command = Command::new("sh");
    command.args(["-c", r#"umask "$1" && exec "$2" --uncommitted "$3""#, "sh", umask]).arg(script).arg(to);
    // The fastest compression: what is compared is what the archives contain.
    let output = run(command.env("TZ", timezone).env("XZ_OPT", "-0"));
    assert!(output.status.success(), "{}", said(&output));
    fs::read_to_string(to.join("SHA256SUMS")).unwrap()
}

fn archive(folder: &Path, suffix: &str) -> PathBuf {
    folder.join(format!("mytoken-suite-{}{suffix}", env!("CARGO_PKG_VERSION")))
}

#[test]
fn the_archives_are_reproducible_and_compile_without_git_and_network() {
    let namespace = ["--user", "--map-root-user", "--net"];
    if !Command::new("unshare").args(namespace).arg("true").status().is_ok_and(|status| status.success()) {
        skip("unshare cannot make a namespace without network here").unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other/longer-path"));
    fs::create_dir(folder.path().join("other")).unwrap();
    let sums = make_dist(&one, "022", "UTC");
    for file in
        [".tar.gz", "-vendor.tar.xz"].map(|suffix| archive(&one, suffix)).iter().chain([&one.join("THIRD-PARTY.txt")])
    {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(file.is_file() && sums.contains(&format!("  {name}\n")), "{name}: {sums}");
    }
    assert_eq!(make_dist(&other, "077", "Asia/Tokyo"), sums);

    let tree = archive(folder.path(), "");
    for (from, to) in [(archive(&one, ".tar.gz"), folder.path()), (archive(&one, "-vendor.tar.xz"), tree.as_path())] {
        let output = run(Command::new("tar").arg("-xf").arg(from).arg("-C").arg(to));
        assert!(output.status.success(), "{}", said(&output));
    }
    let alone = |program: &str, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(namespace).arg(program).args(arguments).current_dir(&tree);
        // Without the downloads of this host, and without the repository around the directory, if there is one.
        command.env("CARGO_HOME", folder.path().join("cargo")).env("GIT_CEILING_DIRECTORIES", folder.path());
        run(command.env("CARGO_TARGET_DIR", folder.path().join("target")))
    };
    let cargo = |arguments: &[&str]| alone("cargo", &[&["--config", "vendor/config.toml"], arguments].concat());
    for arguments in [
        // Resolves all packages, also those of the tests.
        &["metadata", "--offline", "--locked", "--format-version", "1"][..],
        &["check", "--offline", "--locked", "-p", "slurm-spank"],
    ] {
        let output = cargo(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }

    // In a tree without git the same file is the archive. The crates are not in it.
    let output = alone("packaging/archive", &["../again"]);
    assert!(output.status.success(), "{}", said(&output));
    let again = archive(&folder.path().join("again"), ".tar.gz");
    assert!(
        fs::read(again).unwrap() == fs::read(archive(&one, ".tar.gz")).unwrap(),
        "the archive of the archive differs"
    );
}

/// Of a pipe, the shell sees only the last status: an archive without some files looked like a success.
#[test]
fn an_archive_that_lacks_a_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    if Command::new("git").arg("--version").output().is_err() {
        skip("git is not installed").unwrap();
        return;
    }
    let copy = r#"mkdir "$1" && cp -a Cargo.toml CHANGELOG.md packaging "$1" && cd "$1" && git init -q . && git add . && rm packaging/sshd.conf"#;
    let script = ["-c", copy, "sh"];
    let made = run(Command::new("sh").args(script).arg(&tree).current_dir(paths::repository()));
    assert!(made.status.success(), "{}", said(&made));
    let output = run(Command::new(tree.join("packaging/archive")).arg(folder.path().join("out")));
    assert!(!output.status.success() && said(&output).contains("packaging/sshd.conf"), "{}", said(&output));
    assert!(!folder.path().join("out").read_dir().is_ok_and(|mut files| files.next().is_some()), "a file is left");
}

#[test]
fn the_file_of_licences_matches_the_crates_that_are_shipped() {
    let script = paths::repository().join("packaging/licences/check");
    let output = run(&mut Command::new(&script));
    assert!(output.status.success(), "{}", said(&output));
    let text = fs::read_to_string(paths::repository().join("THIRD-PARTY.txt")).unwrap();
    // Texts of each kind, and a crate that only the tests use.
    for part in ["\nMIT, of ", "\nISC, of ", "\nBSD-3-Clause, of ", "\nGPL-3.0, of pamsm ", "\nApache-2.0, of "] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("\nproptest ") && !text.contains("\nsyn "));
    let listed = text.lines().skip_while(|line| *line != "CRATES").skip(2).take_while(|line| !line.is_empty());
    let (_, texts) = text.split_once("\nLICENCES\n").unwrap();
    for line in listed {
        let name = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let has_text = texts.lines().any(|line| line.contains(", of ") && line.contains(&format!(" {name}")));
        assert!(has_text, "no text for {name}");
    }
}

#[test]
fn a_file_of_licences_with_another_version_is_refused() {
    // The check reads the file beside its own directory; the rest is that of the repository.
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(paths::repository()).unwrap() {
        let entry = entry.unwrap();
        if !["THIRD-PARTY.txt", "packaging", "target"].map(Into::into).contains(&entry.file_name()) {
            std::os::unix::fs::symlink(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    for file in ["packaging/licences/check", "packaging/licences/shipped"] {
        copy(&paths::repository().join(file), &folder.path().join(file));
    }
    std::os::unix::fs::symlink(paths::repository().join("packaging/manual"), folder.path().join("packaging/manual"))
        .unwrap();
    let text = fs::read_to_string(paths::repository().join("THIRD-PARTY.txt")).unwrap();
    let line = text.lines().find(|line| line.starts_with("ring ")).unwrap();
    fs::write(folder.path().join("THIRD-PARTY.txt"), text.replacen(line, "ring 0.0.1 ISC", 1)).unwrap();
    let output = run(&mut Command::new(folder.path().join("packaging/licences/check")));
    let said = said(&output);
    assert!(!output.status.success() && said.contains(line) && said.contains("packaging/licences/update"), "{said}");
}
