// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys of the cluster: which host makes one (none while another one may have it, in whatever part of the cluster a play is), that no
//! host's other key is replaced, and which further keys a host gets. The tasks are played alone, on hosts that are directories.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::{Result, skip};

use super::{io, program, role};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// `/etc` of a host is the machine's with another `/etc/mytoken`.
const INTERPRETER: &str = r#"#!/bin/sh
exec unshare --mount sh -c 'mount -t overlay overlay -o lowerdir=ETC:/etc /etc && mount --bind ETC/mytoken /etc/mytoken && exec /usr/bin/python3 "$@"' sh "$@"
"#;

/// Hosts on this machine, each with a directory of its own in the place of `/etc/mytoken`.
struct Hosts(tempfile::TempDir);

impl Hosts {
    fn new() -> Result<Self> {
        let hosts = Self(tempfile::tempdir().map_err(io("making a directory"))?);
        for node in NODES {
            fs::create_dir_all(hosts.keys(node)).map_err(io("making a host"))?;
            let script = INTERPRETER.replace("ETC", &hosts.0.path().join(node).display().to_string());
            fs::write(hosts.python(node), script).map_err(io("writing a program"))?;
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(hosts.python(node), executable).map_err(io("writing a program"))?;
        }
        Ok(hosts)
    }

    /// The directory of the keys of a host.
    fn keys(&self, node: &str) -> PathBuf {
        self.0.path().join(node).join("mytoken/keys")
    }

    fn python(&self, node: &str) -> PathBuf {
        self.0.path().join(format!("python-{node}"))
    }

    /// Plays these tasks of the role, with `options`. `brokers` are in their group, and `away` does not answer. Whether it succeeded, and
    /// what it said.
    fn play(
        &self,
        program: &Path,
        (brokers, away): (&[&str], &[&str]),
        tasks: &str,
        serial: &str,
        options: &[&str],
    ) -> Result<(bool, String)> {
        let connection = |node| {
            if away.contains(&node) {
                "ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 9".to_owned()
            } else {
                let python = self.python(node);
                format!("ansible_connection: local, ansible_python_interpreter: {}", python.display())
            }
        };
        let group = |name: &str, nodes: &[&str]| {
            let nodes: Vec<String> = nodes.iter().map(|node| format!("{node}: ")).collect();
            if nodes.is_empty() { String::new() } else { format!("{name}:\n  hosts: {{{}}}\n", nodes.join(", ")) }
        };
        let hosts = NODES.map(|node| format!("    {node}: {{{}}}\n", connection(node))).concat();
        let inventory =
            format!("all:\n  hosts:\n{hosts}{}{}", group("mytoken_node", &NODES), group("mytoken_broker", brokers));
        let directory = role().join("roles/mytoken").display().to_string();
        let play = format!(
            "- hosts: all\n  gather_facts: false\n  serial: {serial}\n  tasks:\n    - ansible.builtin.include_vars: \
             ROLE/vars/main.yml\n{tasks}"
        );
        let [inventory_file, play_file] = ["inventory.yml", "play.yml"].map(|name| self.0.path().join(name));
        fs::write(&inventory_file, inventory).map_err(io("writing the inventory"))?;
        fs::write(&play_file, play.replace("ROLE", &directory)).map_err(io("writing the play"))?;
        let output = Command::new("timeout")
            .arg("100")
            .arg(program)
            .arg("-i")
            .args([&inventory_file, &play_file])
            .args(options)
            .env("HOME", self.0.path())
            .envs([("ANSIBLE_NOCOLOR", "1"), ("LC_ALL", "C.UTF-8")])
            .output()
            .map_err(io("starting ansible-playbook"))?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}

const HOLDER: &str = r#"    - ansible.builtin.include_tasks: ROLE/tasks/holder.yml
      vars:
        mytoken_file: /etc/mytoken/keys/cluster.key
        mytoken_candidates: "{{ mytoken_key_candidates }}"
        mytoken_owners: "{{ mytoken_key_hosts }}"
    - ansible.builtin.debug:
        msg: "holder={{ mytoken_holder }}."
"#;

#[test]
fn no_second_key_is_made_while_a_host_has_one_or_may_have_one() -> Result<()> {
    let Some(program) = program::playbook() else { return skip(program::MISSING) };
    type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], &'a str, &'a str, &'a [&'a str]);
    let table: [Row<'_>; 13] = [
        // holders, brokers, away, limit, serial, and the holder that each host of the play sees
        (&["n2"], &[], &[], "all", "100%", &["n2", "n2", "n2"]),
        (&["n2"], &[], &[], "n1", "100%", &["n2"]),
        (&["n2"], &[], &[], "n2", "100%", &["n2"]),
        (&["n2"], &[], &["n3"], "n1,n2", "100%", &["n2", "n2"]),
        (&[], &[], &[], "all", "100%", &["n1", "n1", "n1"]),
        (&[], &[], &[], "n3", "100%", &["n3"]),
        (&["n3"], &[], &[], "all", "1", &["n3", "n3", "n3"]),
        // Nothing makes a key here.
        (&[], &[], &[], "all", "1", &["n1", "n2", "n3"]),
        (&[], &[], &["n3"], "n1", "100%", &[]),
        (&[], &[], &["n3"], "all", "100%", &[]),
        // With brokers, no node makes one, but one that has it gives it.
        (&[], &["n3"], &[], "all", "100%", &["n3", "n3", "n3"]),
        (&[], &["n3"], &[], "n1", "100%", &[]),
        (&["n2"], &["n3"], &[], "n3", "100%", &["n2"]),
    ];
    let mut wrong = Vec::new();
    for (holders, brokers, away, limit, serial, expected) in table {
        let hosts = Hosts::new()?;
        for node in holders {
            fs::write(hosts.keys(node).join("cluster.key"), "key").map_err(io("writing a key"))?;
        }
        let (succeeded, said) = hosts.play(program, (brokers, away), HOLDER, serial, &["--limit", limit])?;
        let found: Vec<&str> = said.split("holder=").skip(1).filter_map(|rest| rest.split('.').next()).collect();
        if succeeded == expected.is_empty() || (succeeded && found != expected) {
            wrong.push(format!(
                "{holders:?}, brokers {brokers:?}, away {away:?}, --limit {limit}, serial {serial}: {found:?} instead of {expected:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

const WRITE: &str = r#"    - ansible.builtin.include_tasks: ROLE/tasks/private_file.yml
      vars:
        mytoken_file: /etc/mytoken/keys/cluster.key
        mytoken_content: "CONTENT"
"#;

#[test]
fn another_key_is_not_replaced() -> Result<()> {
    let Some(program) = program::playbook() else { return skip(program::MISSING) };
    for (before, content, is_written) in [
        (None, "s3cret\\n", true),
        // With or without a newline it is the same key.
        (Some("s3cret\n"), "s3cret", true),
        (Some("s3cret"), "s3cret\\n", true),
        (Some("an0ther\n"), "s3cret\\n", false),
        (Some(""), "s3cret\\n", false),
    ] {
        let hosts = Hosts::new()?;
        let key = hosts.keys("n1").join("cluster.key");
        if let Some(before) = before {
            fs::write(&key, before).map_err(io("writing a key"))?;
        }
        let tasks = WRITE.replace("CONTENT", content);
        let (succeeded, said) = hosts.play(program, (&[], &[]), &tasks, "100%", &["--limit", "n1", "-vvv"])?;
        assert!(!said.contains("s3cret") && !said.contains("an0ther"), "{said}");
        let after = fs::read_to_string(&key).ok();
        assert_eq!(succeeded, is_written, "{before:?} {content:?}: {said}");
        if is_written {
            assert_eq!(after.as_deref().map(str::trim_end), Some("s3cret"), "{before:?}: {said}");
        } else {
            assert!(said.contains("cluster.key is another key than the cluster's"), "{said}");
            assert_eq!(after.as_deref(), before, "{said}");
        }
    }
    Ok(())
}

const FURTHER: &str = r#"    - ansible.builtin.include_tasks: ROLE/tasks/further_keys.yml
      vars:
        mytoken_holder: n1
"#;

/// While keys are replaced, jobs are sealed to the next one or to an earlier one.
#[test]
fn hosts_get_the_further_keys_but_none_that_was_retired_there() -> Result<()> {
    let Some(program) = program::playbook() else { return skip(program::MISSING) };
    let hosts = Hosts::new()?;
    for (node, names) in
        [("n1", &["aaaaaaaa.key", "bbbbbbbb.key", "cccccccc.retired"][..]), ("n2", &["bbbbbbbb.retired"])]
    {
        let directory = hosts.keys(node).join("private.d");
        fs::create_dir(&directory).map_err(io("making a directory"))?;
        for name in names {
            fs::write(directory.join(name), name).map_err(io("writing a key"))?;
        }
    }
    let (succeeded, said) = hosts.play(program, (&[], &[]), FURTHER, "100%", &[])?;
    assert!(succeeded, "{said}");
    for (node, expected) in [
        ("n2", &["aaaaaaaa.key", "bbbbbbbb.retired", "cccccccc.retired"]),
        ("n3", &["aaaaaaaa.key", "bbbbbbbb.key", "cccccccc.retired"]),
    ] {
        let directory = hosts.keys(node).join("private.d");
        let entries = fs::read_dir(&directory).map_err(io("listing the keys"))?.flatten();
        let names: BTreeSet<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        assert_eq!(names, BTreeSet::from(expected.map(str::to_owned)), "{node}: {said}");
        let mode = |path: &Path| fs::metadata(path).map(|meta| meta.permissions().mode() & 0o7777);
        let modes = [mode(&directory), mode(&directory.join("aaaaaaaa.key"))];
        assert!(matches!(modes, [Ok(0o700), Ok(0o600)]), "{node}: {modes:?}");
    }
    Ok(())
}

const NODE_KEY: &str =
    "    - ansible.builtin.include_tasks: ROLE/tasks/node_key.yml\n      when: inventory_hostname == 'n1'\n";

/// With a broker, only what it has too is taken from a node: any other key may be the only copy.
#[test]
fn a_node_keeps_the_keys_that_its_broker_does_not_have() -> Result<()> {
    let Some(program) = program::playbook() else { return skip(program::MISSING) };
    let further = ["private.d/aaaaaaaa.key", "private.d/bbbbbbbb.key", "private.d/bbbbbbbb.retired"];
    for (key_of_broker, further_of_broker, expected) in [
        (Some("key"), &["private.d/aaaaaaaa.key"][..], &further[1..]),
        (Some("another"), &[], &["cluster.key", further[0], further[1], further[2]]),
        (None, &further[..2], &["cluster.key", further[2]]),
    ] {
        let hosts = Hosts::new()?;
        let of_broker = key_of_broker.map(|key| ("n3", "cluster.key", key)).into_iter();
        let of_broker = of_broker.chain(further_of_broker.iter().map(|name| ("n3", *name, "further")));
        let of_node = [("n1", "cluster.key", "key")].into_iter().chain(further.map(|name| ("n1", name, "further")));
        for (node, name, content) in of_broker.chain(of_node) {
            let file = hosts.keys(node).join(name);
            fs::create_dir_all(file.parent().unwrap_or(&file)).map_err(io("making a directory"))?;
            fs::write(file, content).map_err(io("writing a key"))?;
        }
        let (succeeded, said) = hosts.play(program, (&["n3"], &[]), NODE_KEY, "100%", &[])?;
        let candidates = ["cluster.key", further[0], further[1], further[2]];
        let left: Vec<&str> = candidates.into_iter().filter(|name| hosts.keys("n1").join(name).exists()).collect();
        assert!(succeeded && left == expected, "{left:?} instead of {expected:?}: {said}");
    }
    Ok(())
}
