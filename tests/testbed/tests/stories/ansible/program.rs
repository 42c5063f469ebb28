// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which `ansible-playbook` plays the role: that of this machine, or one from `PyPI` if there is none or it is too old for Debian 13.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use testbed::site::paths;

/// Why nothing is played.
pub const MISSING: &str = "there is no ansible-core 2.18 or newer, and none from PyPI; run `make extras`";

/// The oldest ansible-core that can set up hosts with Python 3.13.
const OLDEST: (u32, u32) = (2, 18);

/// The program. It is looked for once: the download takes a while, and tests run at the same time.
pub fn playbook() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(find).as_deref()
}

fn find() -> Option<PathBuf> {
    let is_new = |program: &PathBuf| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| version(&String::from_utf8_lossy(&output.stdout)) >= Some(OLDEST))
    };
    let own = paths::target().join("ansible/bin/ansible-playbook");
    let found = [PathBuf::from("ansible-playbook"), own].into_iter().find(&is_new);
    found.or_else(|| from_pypi("ansible", "ansible-core>=2.18,<2.20").filter(is_new))
}

/// The program of a version from `PyPI`, which needs Python 3.11 or 3.12, in a directory of the target directory.
pub fn from_pypi(directory: &str, version: &str) -> Option<PathBuf> {
    let environment = paths::target().join(directory);
    let is_done = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    let [pip, program] = ["bin/pip", "bin/ansible-playbook"].map(|file| environment.join(file));
    let is_installed = is_done(Command::new("python3").args(["-m", "venv"]).arg(&environment))
        && is_done(Command::new(pip).args(["install", "--quiet", "--retries=1", version]));
    is_installed.then_some(program)
}

/// The version in the first line: `ansible-playbook [core 2.19.14]`.
fn version(text: &str) -> Option<(u32, u32)> {
    let (_, text) = text.lines().next()?.split_once("[core ")?;
    let mut numbers = text.split('.').map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[test]
fn the_version_of_ansible_is_read() {
    for (text, expected) in [
        ("ansible-playbook [core 2.19.14]\n  config file = None", Some((2, 19))),
        ("ansible-playbook [core 2.18.0rc1]", Some((2, 18))),
        ("ansible-playbook 2.9.27", None),
        ("", None),
    ] {
        assert_eq!(version(text), expected, "{text}");
    }
    assert!(version("ansible-playbook [core 2.9.1]") < Some(OLDEST));
}
