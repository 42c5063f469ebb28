// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which host makes the cluster's key: none while another one may have it, in whatever part of the cluster a play is. And no host's other
//! key is replaced.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use testbed::{Result, skip};

use super::{io, program, role};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

const PLAY: &str = r#"- hosts: all
  gather_facts: false
  serial: SERIAL
  tasks:
    - ansible.builtin.include_vars: ROLE/vars/main.yml
    - ansible.builtin.include_tasks: ROLE/tasks/holder.yml
      vars:
        mytoken_file: /etc/mytoken/keys/cluster.key
        mytoken_candidates: "{{ mytoken_key_candidates }}"
    - ansible.builtin.debug:
        msg: "holder={{ mytoken_holder }}."
"#;

/// Hosts are directories of this machine, each with an /etc of its own in front of the machine's.
const INTERPRETER: &str = r#"#!/bin/sh
exec unshare --mount sh -c 'mount -t overlay overlay -o lowerdir=ETC:/etc /etc && exec /usr/bin/python3 "$@"' sh "$@"
"#;

/// Plays for the hosts of `limit`, where those of `holders` have the key. `away` does not answer. The holder for each host, or nothing if
/// the play failed.
fn holders_of(program: &Path, holders: &[&str], away: &[&str], limit: &str, serial: &str) -> Result<Vec<String>> {
    let home = tempfile::tempdir().map_err(io("making a directory"))?;
    let mut inventory = "all:\n  hosts:\n".to_owned();
    for node in NODES {
        let keys = home.path().join(node).join("mytoken/keys");
        fs::create_dir_all(&keys).map_err(io("making a host"))?;
        if holders.contains(&node) {
            fs::write(keys.join("cluster.key"), "key").map_err(io("writing a key"))?;
        }
        let python = home.path().join(format!("python-{node}"));
        let script = INTERPRETER.replace("ETC", &home.path().join(node).display().to_string());
        fs::write(&python, script).map_err(io("writing a program"))?;
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).map_err(io("writing a program"))?;
        let connection = if away.contains(&node) {
            "ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 9".to_owned()
        } else {
            format!("ansible_connection: local, ansible_python_interpreter: {}", python.display())
        };
        inventory += &format!("    {node}: {{{connection}}}\n");
    }
    inventory += &format!("mytoken_node:\n  hosts: {{{}}}\n", NODES.map(|node| format!("{node}: ")).join(", "));
    let [inventory_file, play] = ["inventory.yml", "play.yml"].map(|name| home.path().join(name));
    fs::write(&inventory_file, inventory).map_err(io("writing the inventory"))?;
    let roles = role().join("roles/mytoken");
    fs::write(&play, PLAY.replace("ROLE", &roles.display().to_string()).replace("SERIAL", serial))
        .map_err(io("writing the play"))?;
    let output = Command::new("timeout")
        .arg("100")
        .arg(program)
        .arg("-i")
        .args([&inventory_file, &play])
        .args(["--limit", limit])
        .env("HOME", home.path())
        .envs([("ANSIBLE_NOCOLOR", "1"), ("LC_ALL", "C.UTF-8")])
        .output()
        .map_err(io("starting ansible-playbook"))?;
    if !output.status.success() {
        return Ok(Vec::new());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let holders = said.split("holder=").skip(1).filter_map(|rest| rest.split('.').next());
    Ok(holders.map(str::to_owned).collect())
}

/// Writes `content` as the key of a host that has `before`. Whether the play succeeded, what it said, and the key then.
fn written(program: &Path, before: Option<&str>, content: &str) -> Result<(bool, String, Option<String>)> {
    let home = tempfile::tempdir().map_err(io("making a directory"))?;
    let key = home.path().join("cluster.key");
    if let Some(before) = before {
        fs::write(&key, before).map_err(io("writing a key"))?;
    }
    let tasks = role().join("roles/mytoken/tasks/private_file.yml");
    let play = format!(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - ansible.builtin.include_tasks: {}\n      vars:\n        \
         mytoken_file: {}\n        mytoken_content: \"{content}\"\n",
        tasks.display(),
        key.display()
    );
    let file = home.path().join("play.yml");
    fs::write(&file, play).map_err(io("writing the play"))?;
    let output = Command::new("timeout")
        .arg("100")
        .arg(program)
        .args(["-i", "localhost,", "-c", "local", "-e", "ansible_python_interpreter=/usr/bin/python3"])
        .arg(&file)
        .env("HOME", home.path())
        .envs([("ANSIBLE_NOCOLOR", "1"), ("LC_ALL", "C.UTF-8")])
        .output()
        .map_err(io("starting ansible-playbook"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.success(), said, fs::read_to_string(&key).ok()))
}

#[test]
fn another_key_is_not_replaced() -> Result<()> {
    let Some(program) = program::playbook() else { return skip(program::MISSING) };
    for (before, content, is_written) in [
        (None, "key\\n", true),
        // With or without a newline it is the same key.
        (Some("key\n"), "key", true),
        (Some("key"), "key\\n", true),
        (Some("another key\n"), "key\\n", false),
        (Some(""), "key\\n", false),
    ] {
        let (succeeded, said, after) = written(program, before, content)?;
        assert_eq!(succeeded, is_written, "{before:?} {content:?}: {said}");
        if is_written {
            assert_eq!(after.as_deref().map(str::trim_end), Some("key"), "{before:?}: {said}");
        } else {
            assert!(said.contains("cluster.key is another key than the cluster's"), "{said}");
            assert_eq!(after.as_deref(), before, "{said}");
        }
    }
    Ok(())
}

#[test]
fn no_second_key_is_made_while_a_host_has_one_or_may_have_one() -> Result<()> {
    let Some(program) = program::playbook() else { return skip(program::MISSING) };
    type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a str, &'a str, &'a [&'a str]);
    let table: [Row<'_>; 10] = [
        // holders, away, limit, serial, and the holder that each host of the play sees
        (&["n2"], &[], "all", "100%", &["n2", "n2", "n2"]),
        (&["n2"], &[], "n1", "100%", &["n2"]),
        (&["n2"], &[], "n2", "100%", &["n2"]),
        (&["n2"], &["n3"], "n1,n2", "100%", &["n2", "n2"]),
        (&[], &[], "all", "100%", &["n1", "n1", "n1"]),
        (&[], &[], "n3", "100%", &["n3"]),
        (&["n3"], &[], "all", "1", &["n3", "n3", "n3"]),
        // Nothing makes a key here.
        (&[], &[], "all", "1", &["n1", "n2", "n3"]),
        (&[], &["n3"], "n1", "100%", &[]),
        (&[], &["n3"], "all", "100%", &[]),
    ];
    let mut wrong = Vec::new();
    for (holders, away, limit, serial, expected) in table {
        let found = holders_of(program, holders, away, limit, serial)?;
        if found != expected {
            wrong.push(format!(
                "{holders:?}, away {away:?}, --limit {limit}, serial {serial}: {found:?} instead of {expected:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
