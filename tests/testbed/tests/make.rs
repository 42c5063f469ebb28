// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Makefile: what it installs on the host, and its messages when something is missing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testbed::programs;
use testbed::site::paths;

/// Programs that the Makefile itself needs.
const NEEDED_BY_MAKEFILE: [&str; 6] = ["make", "sh", "sed", "uname", "sleep", "env"];

fn make(arguments: &[&str]) -> Command {
    let mut command = Command::new("make");
    // If make runs this test, its flags and job server are in the environment.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("CARGO_TARGET_DIR");
    command.arg("-C").arg(paths::repository()).args(arguments);
    command
}

fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn find(program: &str) -> PathBuf {
    let directories = ["/usr/bin", "/bin", "/usr/local/bin"].map(Path::new);
    directories.iter().map(|directory| directory.join(program)).find(|path| path.exists()).unwrap()
}

/// A Debian without compilers: a directory of programs. Its `apt-get` records its arguments and installs nothing.
struct BareHost(tempfile::TempDir);

impl BareHost {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for program in NEEDED_BY_MAKEFILE {
            symlink(find(program), host.0.path().join(program)).unwrap();
        }
        host.script("id", "echo 0");
        host.script("apt-get", &format!("echo \"$*\" >>{}", host.0.path().join("installed").display()));
        host
    }

    fn script(&self, name: &str, line: &str) {
        let path = self.0.path().join(name);
        programs::write(path, &format!("#!{}\n{line}\n", find("sh").display())).unwrap();
    }

    fn make(&self, target: &str) -> Output {
        make(&[target]).env("PATH", self.0.path()).output().unwrap()
    }

    /// The arguments of `apt-get`.
    fn installed(&self) -> String {
        fs::read_to_string(self.0.path().join("installed")).unwrap_or_default()
    }
}

#[test]
fn toolchain_demo_and_test_install_packages() {
    for target in ["toolchain", "demo", "test", "test-long"] {
        let host = BareHost::new();
        host.make(target);
        let installed = host.installed();
        for package in [" gcc ", " libc6-dev ", "rustc", "cargo", " mmdebstrap"] {
            assert!(installed.contains(package), "{target}: {package}: {installed}");
        }
    }
}

#[test]
fn other_targets_name_missing_packages_and_install_nothing() {
    for target in [
        "build",
        "rpm",
        "tarball",
        "wheel",
        "image",
        "site",
        "tools",
        "lint",
        "fuzz",
        "shell",
        "bench",
        "soak",
        "matrix",
        "brokers",
        "msrv",
        "portable",
        "reproducible",
        "dist",
        "deb-source",
    ] {
        let host = BareHost::new();
        let output = host.make(target);
        let text = text_of(&output);
        assert!(!output.status.success(), "{target}: {text}");
        assert!(text.contains("lacks a C compiler, Rust 1.85 or newer"), "{target}: {text}");
        assert!(text.contains("`make toolchain` installs: gcc libc6-dev"), "{target}: {text}");
        assert_eq!(host.installed(), "", "{target}");
    }
}

/// Programs without which a test of `make test-all` is skipped.
const EXTRAS: [&str; 19] = [
    "valgrind",
    "ruby",
    "rpmspec",
    "piuparts",
    "rpmlint",
    "podman",
    "buildah",
    "go",
    "npm",
    "pipx",
    "ansible-playbook",
    "ansible-lint",
    "twine",
    "mdbook",
    "chromium",
    "chromedriver",
    "zig",
    "cargo-zigbuild",
    "maturin",
];

/// Those that `make test` and the builds of packages have.
const OTHERS: [&str; 11] = [
    "cc",
    "cargo",
    "mmdebstrap",
    "dh",
    "dpkg-buildpackage",
    "lintian",
    "mandoc",
    "zsh",
    "fish",
    "cargo-auditable",
    "cargo-cyclonedx",
];

impl BareHost {
    /// With all programs of `make test-all` but these. shellcheck and rustc are there too.
    fn with_extras_but(missing: &[&str]) -> Self {
        let host = Self::new();
        for program in ["chmod", "cp", "mkdir", "mktemp", "rm"] {
            symlink(find(program), host.0.path().join(program)).unwrap();
        }
        host.script("rustc", "echo 'rustc 1.99.0 (of a test)'");
        for program in EXTRAS.iter().chain(&OTHERS).chain(&["shellcheck"]).filter(|name| !missing.contains(name)) {
            host.script(program, "true");
        }
        host
    }

    /// Shell commands that make a program.
    fn making(&self, program: &str) -> String {
        let path = self.0.path().join(program);
        format!("echo '#!/bin/sh' >{0} && chmod 755 {0}", path.display())
    }

    fn has(&self, program: &str) -> bool {
        self.0.path().join(program).exists()
    }
}

#[test]
fn test_all_begins_with_the_programs_that_its_tests_lack() {
    let host = BareHost::new();
    let output = host.make("test-all");
    let text = text_of(&output);
    assert!(!output.status.success() && text.contains("`make extras` installs them."), "{text}");
    for program in EXTRAS {
        assert!(text.contains(program), "{program}: {text}");
    }
    assert_eq!(host.installed(), "");
    for missing in EXTRAS {
        let host = BareHost::with_extras_but(&[missing]);
        let text = text_of(&host.make("test-all"));
        assert!(text.contains("This machine lacks ") && text.contains(missing), "{missing}: {text}");
        assert_eq!(host.installed(), "", "{missing}");
    }
}

#[test]
fn extras_that_are_there_are_not_installed_again() {
    let host = BareHost::with_extras_but(&[]);
    let output = host.make("extras");
    assert!(output.status.success(), "{}", text_of(&output));
    assert_eq!(host.installed(), "");
}

#[test]
fn an_extra_that_cannot_be_installed_is_named_and_keeps_no_other_from_it() {
    let host = BareHost::with_extras_but(&["podman", "rpmlint", "twine", "ansible-lint", "mdbook"]);
    // This Debian has no rpmlint, and the registry of Python packages no twine.
    host.script("apt-cache", "[ \"$2\" != rpmlint ]");
    let installed = host.0.path().join("installed");
    host.script("apt-get", &format!("echo \"$*\" >>{} && {}", installed.display(), host.making("podman")));
    let ansible = host.making("ansible-lint");
    host.script("pipx", &format!("case $* in *ansible-lint) {ansible} ;; *) exit 1 ;; esac"));
    // Its arguments end with --root DIRECTORY mdbook.
    let built = "echo '#!/bin/sh' >\"$1/bin/mdbook\" && chmod 755 \"$1/bin/mdbook\"";
    host.script("cargo", &format!("while [ $# -gt 2 ]; do shift; done; mkdir -p \"$1/bin\" && {built}"));
    let bootstrap = paths::repository().join("tests/testbed/bootstrap");
    let mut command = Command::new(bootstrap);
    let output = command
        .args(["install", "extras"])
        .env("PATH", host.0.path())
        .env("EXTRAS_BIN", host.0.path())
        .output()
        .unwrap();
    let text = text_of(&output);
    assert!(!output.status.success() && text.contains("Could not install rpmlint, twine. See"), "{text}");
    assert!(host.has("podman") && host.has("ansible-lint") && host.has("mdbook"), "{text}");
    assert!(host.installed().contains(" podman") && !host.installed().contains("rpmlint"), "{}", host.installed());
}

#[test]
fn only_the_long_test_plays_the_long_forms_of_stories() {
    for (target, expected) in [("test", "long: no\n"), ("test-long", "long: 1\n")] {
        // In place of the program that runs the tests, and without what it needs.
        let program = "TESTBED=echo long: $${TESTBED_LONG:-no} #";
        let needs = ["-o", "mmdebstrap", "-o", "deb", "-o", "tools"];
        let output = make(&[target, program]).args(needs).env_remove("TESTBED_LONG").output().unwrap();
        let text = text_of(&output);
        assert!(output.status.success() && text.contains(expected), "{target}: {text}");
    }
}

#[test]
fn an_unknown_target_fails_with_a_message() {
    // "tests" is also a directory, which make takes for a finished target.
    for target in ["tset", "tests"] {
        let output = make(&[target]).output().unwrap();
        assert!(!output.status.success());
        assert!(
            text_of(&output).contains(&format!("There is no target {target}; `make help` lists")),
            "{}",
            text_of(&output)
        );
    }
}

#[test]
fn install_without_a_build_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let to = format!("DESTDIR={}", folder.path().display());
    let output = make(&["install", &to, "BUILT=/no/such/directory"]).output().unwrap();
    assert!(!output.status.success());
    assert!(text_of(&output).contains("Run `make build` first."), "{}", text_of(&output));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn installed_files_are_stripped_unless_strip_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let (built, to) = (folder.path().join("built"), folder.path().join("to"));
    fs::create_dir(&built).unwrap();
    // Any program with symbols can take the place of the built files.
    for name in ["libpam_mytoken.so", "libspank_mytoken.so", "mytoken-ssh", "mytokenctl", "mytokend", "mytoken-submit"]
    {
        symlink(paths::testbed_program().unwrap(), built.join(name)).unwrap();
    }
    let variables = [format!("BUILT={}", built.display()), format!("DESTDIR={}", to.display()), "TRIPLET=here".into()];
    for (strip, symbols) in [(None, false), (Some("STRIP="), true)] {
        let output = make(&["install"]).args(&variables).args(strip).output().unwrap();
        assert!(output.status.success(), "{}", text_of(&output));
        for file in ["usr/bin/mytoken-ssh", "usr/sbin/mytokend", "usr/lib/here/slurm-wlm/spank_mytoken.so"] {
            let listed = Command::new("nm").arg(to.join(file)).output().unwrap();
            assert!(listed.status.success(), "{}", text_of(&listed));
            assert_eq!(!listed.stdout.is_empty(), symbols, "{file}");
        }
    }
    for file in ["mytoken.toml", "login.toml", "jobs.toml", "config.toml"] {
        assert!(to.join("usr/share/mytoken/samples").join(file).exists(), "{file}");
    }
    for (folder, places) in [
        ("man", &["man1", "man5", "man7", "man8"][..]),
        ("completions/bash", &["bash-completion/completions"]),
        ("completions/zsh", &["zsh/vendor-completions"]),
        ("completions/fish", &["fish/vendor_completions.d"]),
    ] {
        let names = |folder: PathBuf| -> BTreeSet<_> {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        let places = places.iter().map(|place| {
            let share = if folder == "man" { "usr/share/man" } else { "usr/share" };
            names(to.join(share).join(place))
        });
        let expected = names(paths::repository().join("packaging").join(folder));
        assert!(!expected.is_empty() && places.flatten().collect::<BTreeSet<_>>() == expected, "{folder}");
    }
}
