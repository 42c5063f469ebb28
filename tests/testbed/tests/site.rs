// SPDX-License-Identifier: MIT OR Apache-2.0
//! The site itself: what stands before any token is involved.

use testbed::{Options, Result, story};

fn bare() -> Result<Options> {
    Ok(Options { product: false, foreign: None, ..Options::new()? })
}

#[test]
fn four_nodes_run_a_job_with_inner_srun() -> Result<()> {
    story(bare()?, |site| {
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

#[test]
fn a_key_logs_in_over_ssh() -> Result<()> {
    story(bare()?, |site| {
        let login = site.run("alice", ["ssh", "-i", ".ssh/site_key", "testbed", "id", "-un"])?.ok()?;
        assert_eq!(login.lines(), ["alice"]);
        let log = site.read("/var/log/all.log")?;
        assert!(log.contains("Accepted publickey for alice from 192.0.2.10"), "{log}");

        let stranger = site.run("alice", ["ssh", "-i", ".ssh/site_key", "-oBatchMode=yes", "bob@testbed", "id"])?;
        assert_eq!(stranger.code, 255, "alice's key opened bob's account: {stranger:?}");
        Ok(())
    })
}

#[test]
fn two_sites_at_once() -> Result<()> {
    story(bare()?, |one| {
        story(bare()?, |two| {
            for (site, mark) in [(one, "one"), (two, "two")] {
                site.write("/etc/mark", mark, "0644")?;
                site.run("bob", ["srun", "-N4", "true"])?.ok()?;
            }
            // Same host name, address, ports and paths, and yet each sees its own.
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
    story(bare()?, |site| {
        for node in site.nodes() {
            site.on_node(&node, &format!("echo {node} >/run/mytoken/mark"))?.ok()?;
        }
        assert!(!site.exists("/run/mytoken/mark")?, "a node's file is visible on the login node");
        let seen =
            site.run("alice", ["srun", "-N4", "sh", "-c", "echo $SLURMD_NODENAME $(cat /run/mytoken/mark)"])?.ok()?;
        let mut lines = seen.lines();
        lines.sort_unstable();
        assert_eq!(lines, ["n1 n1", "n2 n2", "n3 n3", "n4 n4"], "a job sees the files of its own node");
        // The rest of the file system is shared, as homes are on a cluster.
        site.run("alice", ["srun", "-w", "n2", "sh", "-c", "echo hello >shared"])?.ok()?;
        assert_eq!(site.on_node("n3", "cat /home/alice/shared")?.ok()?.stdout, "hello\n");
        Ok(())
    })
}

#[test]
fn a_stopped_daemon_comes_back() -> Result<()> {
    story(bare()?, |site| {
        site.stop("slurmd.n2", "KILL")?;
        assert!(!site.is_running("slurmd.n2")?);
        site.restart("slurmd.n2")?;
        assert!(site.is_running("slurmd.n2")?);
        site.run("alice", ["srun", "-w", "n2", "true"])?.ok().map(drop)
    })
}
