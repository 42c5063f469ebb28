// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Ansible role sets up a login host and a node, both booted, over ssh. The inventory is the documented example.

mod keys;
mod old;
mod penalties;
mod program;
mod repository;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testbed::drive::cluster::{Cluster, NODE, cluster_story};
use testbed::drive::jobs;
use testbed::drive::machine::Machine;
use testbed::drive::people::{self, Session};
use testbed::site::plan::Network;
use testbed::site::servers::{AUDIENCE, MYTOKEN_SERVER, PROVIDER};
use testbed::site::{addresses, paths};
use testbed::{Error, Result, Site, has_program, skip, wait};

use crate::built_packages::{EARLIER, bring_earlier_packages, bring_packages, built, login_by_key};

/// The names of the site in place of the example's.
const NAMES: &[(&str, &str)] = &[
    ("https://mytoken.example.org", MYTOKEN_SERVER),
    ("https://op.example.org", PROVIDER),
    ("https://cluster.example.org", AUDIENCE),
    ("login.cluster.example.org", "testbed"),
    ("n[01:16].cluster.example.org", NODE),
];

/// The versions of two packages that go together.
const VERSIONS: &str = "dpkg-query --show --showformat='${Version} ' mytokend slurm-spank-mytoken";

/// A play needs half a minute; it must not hang.
const LIMIT: &str = "300";

fn role() -> PathBuf {
    paths::repository().join("packaging/ansible")
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    |source| Error::Io { what, source }
}

/// The machine that runs Ansible: a directory with inventories and a key that both hosts accept.
struct Controller<'a> {
    site: &'a Site,
    /// `ansible-playbook`.
    program: &'a Path,
    directory: tempfile::TempDir,
}

impl<'a> Controller<'a> {
    fn new(site: &'a Site, program: &'a Path, hosts: &[&Machine<'_>]) -> Result<Self> {
        let directory = tempfile::tempdir().map_err(io("making a directory"))?;
        let key = directory.path().join("key");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.map_err(io("starting ssh-keygen"))?.success());
        let public = fs::read_to_string(key.with_extension("pub")).map_err(io("reading the key"))?;
        for host in hosts {
            host.sh(&format!("umask 077; mkdir -p /root/.ssh; echo '{}' >>/root/.ssh/authorized_keys", public.trim()))?
                .ok()?;
        }
        let (login_host, node) = (Network::Own.address(), addresses::node(1));
        let connections = format!(
            "all:\n  hosts:\n    testbed:\n      ansible_host: {login_host}\n    {NODE}:\n      ansible_host: {node}\n  \
             vars:\n    ansible_user: root\n    ansible_ssh_private_key_file: {}\n    \
             ansible_python_interpreter: /usr/bin/python3\n",
            key.display()
        );
        fs::write(directory.path().join("connections.yml"), connections).map_err(io("writing the inventory"))?;
        Ok(Self { site, program, directory })
    }

    /// Plays site.yml with the example's inventory, after `change`. Returns its output.
    fn play(&self, change: impl Fn(String) -> String) -> Result<String> {
        self.play_with(&[], change)
    }

    /// What a play would change, by Ansible's check mode.
    fn predict(&self) -> Result<String> {
        let output = self.play_with(&["--check"], |inventory| inventory)?;
        for host in ["testbed", NODE] {
            assert_eq!(recap(&output, host, "failed"), Some(0), "{host}:\n{output}");
        }
        Ok(output)
    }

    fn play_with(&self, options: &[&str], change: impl Fn(String) -> String) -> Result<String> {
        let example = fs::read_to_string(role().join("inventory.example.yml")).map_err(io("reading the example"))?;
        let packages = "{{ playbook_dir }}/../../target/deb";
        assert!(example.contains(packages), "{example}");
        let inventory = NAMES.iter().fold(example, |text, (examples, ours)| {
            assert!(text.contains(examples), "the example no longer has {examples}");
            text.replace(examples, ours)
        });
        let inventory = change(inventory.replace(packages, &paths::packages().display().to_string()));
        let file = self.directory.path().join("inventory.yml");
        fs::write(&file, inventory).map_err(io("writing the inventory"))?;
        // Only the network is the site's: ssh reaches its hosts, and Ansible's files stay in the directory.
        // It ends with this process: `timeout` passes the signal on.
        let output = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "nsenter", "--net", "--target", &self.site.init_pid().to_string()])
            .args(["timeout", LIMIT])
            .arg(self.program)
            .arg("-i")
            .arg(&file)
            .arg("-i")
            .arg(self.directory.path().join("connections.yml"))
            .arg(role().join("site.yml"))
            .args(options)
            .env("HOME", self.directory.path())
            .envs([("ANSIBLE_HOST_KEY_CHECKING", "False"), ("ANSIBLE_NOCOLOR", "1"), ("LC_ALL", "C.UTF-8")])
            .output()
            .map_err(io("starting ansible-playbook"))?;
        Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }
}

/// A number of a host in the recap: `n1 : ok=30 changed=11 unreachable=0 failed=0 ...`.
fn recap(output: &str, host: &str, of: &str) -> Option<u32> {
    let (_, recap) = output.split_once("PLAY RECAP")?;
    let line = recap.lines().find(|line| line.split_whitespace().next() == Some(host))?;
    line.split_whitespace().find_map(|word| word.strip_prefix(of)?.strip_prefix('=')?.parse().ok())
}

fn assert_good(output: &str) {
    for host in ["testbed", NODE] {
        for problem in ["failed", "unreachable"] {
            assert_eq!(recap(output, host, problem), Some(0), "{problem} on {host}:\n{output}");
        }
    }
    assert!(output.contains("0 errors"), "the check is not in it:\n{output}");
}

#[test]
fn the_role_sets_up_a_login_host_and_a_node_and_changes_nothing_the_second_time() -> Result<()> {
    let Some(program) = program::playbook() else { return skip(program::MISSING) };
    built()?;
    cluster_story(true, |site, Cluster { login_host, node }| {
        for machine in [login_host, node] {
            machine.trust_the_servers()?;
        }
        login_host.wait_for_slurm()?;
        let controller = Controller::new(site, program, &[login_host, node])?;

        let predicted = controller.predict()?;
        for machine in [login_host, node] {
            machine
                .sh("! test -e /etc/mytoken && ! test -e /usr/sbin/mytokend && ! test -e /var/cache/mytoken-packages")?
                .ok()?;
        }
        assert!(predicted.contains("TASK [mytoken : Write mytoken.toml]"), "{predicted}");

        // A mistake stops before anything that concerns logins or Slurm. The agent does not read login.toml.
        for (right, typo) in [("required_scopes", "audience_typo"), ("template", "rule_typo")] {
            let output = controller.play(|inventory| inventory.replace(right, typo))?;
            assert_eq!(recap(&output, "testbed", "failed"), Some(1), "{output}");
            assert!(output.contains(&format!("unknown key \\\"{typo}\\\"")), "{output}");
            for untouched in ["! grep -rq mytoken /etc/pam.d", "! test -e /etc/ssh/sshd_config.d/10-mytoken.conf"] {
                login_host.sh(untouched)?.ok()?;
            }
            // The second mistake is in a file that only the login host has.
            if right == "required_scopes" {
                node.sh("! test -e /etc/slurm/plugstack.conf.d/mytoken.conf")?.ok()?;
            }
        }
        login_by_key(site)?;

        // Half a pair of keys stops all hosts, also those that do not need the other half.
        for half in ["mytoken_cluster_public_key: half", "mytoken_cluster_private_key: half"] {
            let output = controller
                .play(|inventory| inventory.replace("mytoken_toml:", &format!("{half}\n    mytoken_toml:")))?;
            assert_eq!(recap(&output, NODE, "failed"), Some(1), "{output}");
            let sentence = "Give both mytoken_cluster_public_key and mytoken_cluster_private_key, or none of them.";
            assert!(output.contains(sentence) && !output.contains("mytoken.toml"), "{output}");
        }

        // An sshd that takes passwords itself would give them to the module.
        let first_line = "PasswordAuthentication yes";
        login_host.sh(&format!("sed -i '1i {first_line}' /etc/ssh/sshd_config"))?.ok()?;
        let output = controller.play(|inventory| inventory)?;
        assert!(output.contains("sshd takes passwords itself"), "{output}");
        login_host.sh("! grep -rq mytoken /etc/pam.d")?.ok()?;
        login_host.sh(&format!("sed -i '1{{/{first_line}/d}}' /etc/ssh/sshd_config"))?.ok()?;

        let output = controller.play(|inventory| inventory)?;
        assert_good(&output);
        // sshd has followed its drop-in before PAM asks for tokens.
        let drop_in = "/etc/ssh/sshd_config.d/10-mytoken.conf";
        let reloaded = "$(systemctl show --timestamp=us+utc --value --property=StateChangeTimestamp ssh)";
        let newer = format!("find {drop_in} /etc/pam.d/common-auth -newerct \"{reloaded}\"");
        assert_eq!(login_host.sh(&newer)?.ok()?.stdout, "/etc/pam.d/common-auth\n");
        for machine in [login_host, node] {
            machine.sh("systemctl is-active mytokend && systemctl is-enabled mytokend")?.ok()?;
        }
        assert!(!site.exists("/etc/mytoken/keys/cluster.key")?, "the private key is on the login host");
        login_host.wait_for_slurm()?;
        login_by_key(site)?;

        bring_packages(site)?;
        login_host.sh("dpkg --install /root/packages/mytoken-ssh_*.deb")?.ok()?;
        people::first_mytoken(site, "alice")?;
        let mut session = Session::open(site, "alice", "mytoken-ssh ssh --delegate testbed")?;
        let call = people::call("-s -o /dev/null -w '%{http_code}'");
        let script = format!("cat >job.sh <<'END'\n#!/bin/bash\nhostname\n{call}\nEND");
        session.run(&script, Duration::from_secs(10))?.ok()?;
        let submitted = session.run("sbatch --mytoken=required job.sh", Duration::from_secs(30))?;
        let job = jobs::Job::submitted("alice", &submitted)?;
        let output = wait::until("the job's output", Duration::from_secs(60), || {
            let output = session.run(&format!("cat slurm-{}.out", job.id), Duration::from_secs(10))?.stdout;
            Ok(output.ends_with("200").then_some(output))
        })?;
        assert_eq!(output, format!("{NODE}\n200"));

        let output = controller.play(|inventory| inventory)?;
        assert_good(&output);
        for host in ["testbed", NODE] {
            assert_eq!(recap(&output, host, "changed"), Some(0), "on {host}:\n{output}");
        }
        let alive = session.run(&call, Duration::from_secs(20))?;
        assert_eq!(alive.stdout, "200", "the session after the second run");
        let predicted = controller.predict()?;
        for host in ["testbed", NODE] {
            assert_eq!(recap(&predicted, host, "changed"), Some(0), "on {host}:\n{predicted}");
        }

        // A run before this one wrote files, and failed before services read them.
        login_host.sh(&format!("touch {drop_in} /etc/mytoken/jobs.toml"))?.ok()?;
        node.sh("touch --no-dereference /etc/slurm/plugstack.conf.d/mytoken.conf")?.ok()?;
        let output = controller.play(|inventory| inventory)?;
        assert_good(&output);
        assert_eq!(recap(&output, "testbed", "changed"), Some(2), "agent and sshd:\n{output}");
        assert_eq!(recap(&output, NODE, "changed"), Some(1), "slurmd:\n{output}");
        login_host.wait_for_slurm()?;

        // The next run upgrades packages, of which one depends on the same version of another.
        bring_earlier_packages(site)?;
        login_host.sh("cp -r /root/earlier /home/earlier")?.ok()?;
        for machine in [login_host, node] {
            let earlier = "/home/earlier/mytokend_*.deb /home/earlier/slurm-spank-mytoken_*.deb";
            let apt = "DEBIAN_FRONTEND=noninteractive apt-get -q -y --allow-downgrades install";
            machine.sh(&format!("{apt} {earlier}"))?.ok()?;
            assert_eq!(machine.sh(VERSIONS)?.ok()?.stdout, format!("{EARLIER} {EARLIER} "));
        }

        let with_broker = |inventory: String| {
            let group = "mytoken_broker:\n  hosts:\n    testbed:\nall:\n  vars:";
            assert_eq!(inventory.matches("all:\n  vars:").count(), 1, "{inventory}");
            inventory
                .replace("all:\n  vars:", group)
                .replace("[cluster]", "[broker]\n      names = [\"testbed\"]\n      [cluster]")
        };
        let key = node.sh("sha256sum </etc/mytoken/keys/cluster.key")?.ok()?.stdout;
        assert_good(&controller.play(with_broker)?);
        for machine in [login_host, node] {
            let versions = machine.sh(VERSIONS)?.ok()?.stdout;
            assert!(versions.split(' ').count() == 3 && !versions.contains(EARLIER), "{versions}");
        }
        assert_eq!(login_host.sh("sha256sum </etc/mytoken/keys/cluster.key")?.ok()?.stdout, key, "another key");
        node.sh("! test -e /etc/mytoken/keys/cluster.key && ! test -e /etc/mytoken/keys/broker-ca.key")?.ok()?;
        login_host.sh("systemctl is-active mytokend-broker && systemctl is-enabled mytokend-broker")?.ok()?;
        login_host.wait_for_slurm()?;
        let submitted = session.run("sbatch --mytoken=required job.sh", Duration::from_secs(30))?;
        let job = jobs::Job::submitted("alice", &submitted)?;
        wait::until("the output of the job with a broker", Duration::from_secs(60), || {
            let output = session.run(&format!("cat slurm-{}.out", job.id), Duration::from_secs(10))?.stdout;
            Ok(output.ends_with("200").then_some(()))
        })?;
        let output = controller.play(with_broker)?;
        assert_good(&output);
        for host in ["testbed", NODE] {
            assert_eq!(recap(&output, host, "changed"), Some(0), "on {host}:\n{output}");
        }
        // Another key than the broker's may be the only copy. What the check says of it does not matter here.
        node.sh("umask 077; echo another key >/etc/mytoken/keys/cluster.key")?.ok()?;
        controller.play(with_broker)?;
        assert_eq!(node.sh("cat /etc/mytoken/keys/cluster.key")?.ok()?.stdout, "another key\n");
        session.close()
    })
}

#[test]
fn ansible_lint_has_no_complaint() -> Result<()> {
    if !has_program("ansible-lint") {
        return skip("ansible-lint is not installed; run `make extras`");
    }
    let home = tempfile::tempdir().map_err(io("making a directory"))?;
    // It leaves a cache in its directory, so it gets a copy.
    let copy = home.path().join("ansible");
    let copied = Command::new("cp").arg("-r").arg(role()).arg(&copy).status().map_err(io("copying the role"))?;
    assert!(copied.success());
    let output = lint(&copy, home.path())?;
    assert!(output.0, "{}", output.1);
    Ok(())
}

fn lint(directory: &Path, home: &Path) -> Result<(bool, String)> {
    let mut command = Command::new("ansible-lint");
    command.args(["--nocolor", "--offline"]).current_dir(directory).env("HOME", home);
    let output = command.output().map_err(io("starting ansible-lint"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), said))
}

#[test]
fn the_recap_is_read_by_host() {
    let output =
        "ok: [n1]\n\nPLAY RECAP ****\nn1   : ok=3    changed=1    unreachable=0    failed=2\nn10  : ok=4 changed=5\n";
    assert_eq!(recap(output, "n1", "failed"), Some(2));
    assert_eq!(recap(output, "n10", "changed"), Some(5));
    assert_eq!(recap(output, "n2", "changed"), None);
}
