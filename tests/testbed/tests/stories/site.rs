// SPDX-License-Identifier: MIT OR Apache-2.0
//! The site itself, without tokens.

use std::net::IpAddr;
use std::time::Duration;

use testbed::drive::journal::Journal;
use testbed::site::addresses;
use testbed::site::servers::{CA, MYTOKEN_SERVER};
use testbed::{Error, Options, Result, Site, story, story_with_own_servers};

fn without_product() -> Result<Options> {
    Ok(Options { product: false, foreign: None, ..Options::new()? })
}

#[test]
fn four_nodes_run_a_job_with_inner_srun() -> Result<()> {
    story(without_product()?, |site| {
        let nodes = site.run("alice", ["srun", "-N4", "sh", "-c", "echo $SLURMD_NODENAME"])?.ok()?;
        let mut names = nodes.lines();
        names.sort_unstable();
        assert_eq!(names, ["n1", "n2", "n3", "n4"]);

        let job = "#!/bin/sh\n#SBATCH -N3 -o job.out\nsrun -l sh -c 'id -un; echo $SLURMD_NODENAME'\n";
        site.script("alice", "cat >job.sh && sbatch -W job.sh").stdin(job).run()?.ok()?;
        let output = site.run("alice", ["sort", "job.out"])?.ok()?;
        assert_eq!(output.lines(), ["0: alice", "0: n1", "1: alice", "1: n2", "2: alice", "2: n3"]);
        Ok(())
    })
}

/// What writes the log is stopped for a second.
#[test]
fn the_system_log_is_read_with_all_lines_that_were_sent() -> Result<()> {
    story(without_product()?, |site| {
        let signal = |name: &str| site.sh("root", &format!("pkill -{name} -f '[t]estbed syslog'"))?.ok();
        signal("STOP")?;
        site.sh("root", "logger -t story 'sent before'")?.ok()?;
        assert!(!site.read("/var/log/all.log")?.contains("sent before"), "the writer was not stopped");
        let log = std::thread::scope(|scope| {
            let read = scope.spawn(|| site.system_log());
            std::thread::sleep(Duration::from_secs(1));
            signal("CONT")?;
            read.join().map_err(|_| Error::Refused("a thread of the story panicked".into()))?
        })?;
        assert!(log.contains("story: sent before") && !log.contains("testbed: read "), "{log}");
        Ok(())
    })
}

#[test]
fn a_key_logs_in_over_ssh() -> Result<()> {
    story(without_product()?, |site| {
        let login = site.run("alice", ["ssh", "-i", ".ssh/site_key", "testbed", "id", "-un"])?.ok()?;
        assert_eq!(login.lines(), ["alice"]);
        let log = site.system_log()?;
        assert!(log.contains("Accepted publickey for alice from 192.0.2.10"), "{log}");

        let other_account =
            site.run("alice", ["ssh", "-i", ".ssh/site_key", "-oBatchMode=yes", "bob@testbed", "id"])?;
        assert_eq!(other_account.code, 255, "alice's key logged in to bob's account: {other_account:?}");
        Ok(())
    })
}

#[test]
fn clients_can_have_different_addresses() -> Result<()> {
    story(without_product()?, |site| {
        let mut clients = vec![site.new_client()?, site.new_client()?];
        if std::path::Path::new("/proc/net/if_inet6").exists() {
            for address in ["2001:db8:1::7", "2001:db8:2::7", "2001:db8:2::8"] {
                clients.push(site.client_at(address.parse().unwrap())?);
            }
        }
        for client in &clients {
            let login = format!("ssh -i .ssh/site_key {} 'echo $SSH_CONNECTION'", client.destination());
            let inside = site.sh("alice", &login)?.ok()?;
            let from = inside.stdout.split(' ').next().and_then(|address| address.parse::<IpAddr>().ok());
            assert_eq!(from, Some(client.address()), "{inside:?}");
        }
        let log = site.system_log()?;
        for client in &clients {
            let accepted = format!("Accepted publickey for alice from {} port", client.address());
            assert_eq!(log.matches(&accepted).count(), 1, "{accepted}: {log}");
        }
        Ok(())
    })
}

/// Sends `count` requests to the mytoken server from the login node, or from `node`, and returns their statuses.
fn send_requests(site: &Site, node: Option<&str>, count: u32) -> Result<Vec<String>> {
    let url = format!("{MYTOKEN_SERVER}/.well-known/mytoken-configuration?[1-{count}]");
    let command =
        site.command("root", ["curl", "-sS", "--cacert", CA, "-o", "/dev/null", "-w", "%{http_code}\\n", &url]);
    let command = if let Some(node) = node { command.on(node) } else { command };
    Ok(command.run()?.ok()?.stdout.lines().map(str::to_owned).collect())
}

#[test]
fn the_mytoken_server_counts_requests_per_address_like_the_original() -> Result<()> {
    story_with_own_servers(Options { nodes: 2, ..Options::new()? }, |site| {
        Journal::clear(site)?;
        let here = send_requests(site, None, 101)?;
        assert!(here[..100].iter().all(|status| status == "200") && here[100] == "429", "{here:?}");
        assert_eq!(send_requests(site, Some("n1"), 1)?, ["200"], "each node must have its own address");
        assert_eq!(send_requests(site, Some("n2"), 1)?, ["200"]);
        let peers: Vec<IpAddr> =
            Journal::read(site)?.requests().iter().rev().take(3).map(|request| request.peer).collect();
        assert_eq!(peers, [addresses::node(2).into(), addresses::node(1).into(), IpAddr::V4(site.network().address())]);
        Ok(())
    })
}

#[test]
fn sshd_is_as_shipped_with_the_products_example_and_keys_work() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        let link = site.sh("root", "readlink -f /etc/ssh/sshd_config.d/10-mytoken.conf")?.ok()?;
        assert_eq!(link.lines(), ["/usr/share/mytoken/sshd.conf"]);
        // SSH-33: OpenSSH 10.6 writes the keywords in both letter cases, and "5.000000" for 5.
        let settings = site.sh("root", "sshd -T")?.ok()?.stdout.to_lowercase();
        let has = |line: &str| settings.lines().any(|found| found == line);
        for line in
            ["usepam yes", "kbdinteractiveauthentication yes", "passwordauthentication no", "maxstartups 100:30:200"]
        {
            assert!(has(line), "{line}: {settings}");
        }
        let penalties = settings.lines().find(|line| line.starts_with("persourcepenalties "));
        assert!(penalties.is_none_or(|line| line.contains(" authfail:5") && line.contains(" min:15")), "{penalties:?}");
        site.sh("alice", "ssh -i .ssh/site_key testbed true")?.ok().map(drop)
    })
}

#[test]
fn two_sites_at_once_are_separate() -> Result<()> {
    story(without_product()?, |one| {
        story(without_product()?, |two| {
            for (site, mark) in [(one, "one"), (two, "two")] {
                site.write("/etc/mark", mark, "0644")?;
                site.run("bob", ["srun", "-N4", "true"])?.ok()?;
            }
            // Both have the same host name, address, ports and paths. Each must see its own file.
            for (site, mark) in [(one, "one"), (two, "two")] {
                let seen = site.run("alice", ["ssh", "-i", ".ssh/site_key", "testbed", "cat", "/etc/mark"])?.ok()?;
                assert_eq!(seen.stdout, mark);
            }
            Ok(())
        })
    })
}

#[test]
fn nodes_do_not_see_each_others_runtime_files() -> Result<()> {
    story(without_product()?, |site| {
        for node in site.nodes() {
            site.on_node(&node, &format!("echo {node} >/run/mytoken/mark"))?.ok()?;
        }
        assert!(!site.exists("/run/mytoken/mark")?, "a node's file is visible on the login node");
        let seen =
            site.run("alice", ["srun", "-N4", "sh", "-c", "echo $SLURMD_NODENAME $(cat /run/mytoken/mark)"])?.ok()?;
        let mut lines = seen.lines();
        lines.sort_unstable();
        assert_eq!(lines, ["n1 n1", "n2 n2", "n3 n3", "n4 n4"], "a job must see the files of its own node");
        // The rest of the file system is shared, like home directories on a cluster.
        site.run("alice", ["srun", "-w", "n2", "sh", "-c", "echo hello >shared"])?.ok()?;
        assert_eq!(site.on_node("n3", "cat /home/alice/shared")?.ok()?.stdout, "hello\n");
        Ok(())
    })
}

#[test]
fn a_stopped_daemon_can_be_restarted() -> Result<()> {
    story(without_product()?, |site| {
        site.stop("slurmd.n2", "KILL")?;
        assert!(!site.is_running("slurmd.n2")?);
        site.restart("slurmd.n2")?;
        assert!(site.is_running("slurmd.n2")?);
        site.run("alice", ["srun", "-w", "n2", "true"])?.ok().map(drop)
    })
}
