// SPDX-License-Identifier: MIT OR Apache-2.0
//! An Ansible that cannot set up hosts with Debian 13, on this machine, of which a test plays the Python.

use std::fs;
use std::process::Command;

use testbed::{Result, programs, skip};

use super::{io, program, recap, role};

const INVENTORY: &str = "mytoken_login:\n  hosts:\n    localhost:\n      ansible_connection: local\n      \
                         ansible_python_interpreter: '{{ ansible_playbook_python }}'\n      ansible_become: false\n";

#[test]
fn an_ansible_that_is_too_old_for_a_host_is_refused_before_anything_is_changed() -> Result<()> {
    let Some(program) = program::from_pypi("ansible-old", "ansible-core>=2.16,<2.17") else {
        return skip("PyPI has no ansible-core 2.16 for the Python of this machine");
    };
    let temp = tempfile::tempdir().map_err(io("making a directory"))?;
    let (inventory, python) = (temp.path().join("inventory.yml"), temp.path().join("python3"));
    fs::write(&inventory, INVENTORY).map_err(io("writing the inventory"))?;
    let path = format!("{}:{}", temp.path().display(), std::env::var("PATH").unwrap_or_default());
    let play = |version: &str| {
        programs::write(&python, &format!("#!/bin/sh\necho python {version}\n")).map_err(io("writing a program"))?;
        let mut command = Command::new(&program);
        command.arg("-i").arg(&inventory).arg(role().join("site.yml"));
        command.env("PATH", &path).env("HOME", temp.path()).envs([("ANSIBLE_NOCOLOR", "1"), ("LC_ALL", "C.UTF-8")]);
        let output = command.output().map_err(io("starting ansible-playbook"))?;
        Ok::<_, testbed::Error>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let refused = play("3.13")?;
    assert_eq!(recap(&refused, "localhost", "failed"), Some(1), "{refused}");
    assert!(refused.contains("cannot set up hosts with Python 3.13 (Debian 13). Use 2.18 or newer"), "{refused}");
    assert!(!refused.contains("TASK [Gather the facts]"), "{refused}");
    // It sets up others: the role refuses only that this inventory has no mytoken_toml.
    let begun = play("3.11")?;
    assert!(begun.contains("missing required arguments: mytoken_toml"), "{begun}");
    Ok(())
}
