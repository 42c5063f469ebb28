// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check` about the agent, the plugin and Slurm: a site that works, and the same site broken in one way after the
//! other.

use std::time::Duration;

use serde_json::Value;
use testbed::{Error, Options, Release, Result, Site, skip, story};

/// The ids of the findings of `mytokenctl check`, without those that say that all is well; its exit status; and their sentences.
fn findings(site: &Site) -> Result<(Vec<String>, i32, String)> {
    let checked = site.sh("root", "mytokenctl check --json")?;
    let report: Value =
        serde_json::from_str(&checked.stdout).map_err(|error| Error::Refused(format!("{error}: {checked:?}")))?;
    let all = report.get("findings").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |finding: &Value, key: &str| finding.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let of_interest: Vec<&Value> = all.iter().filter(|finding| text(finding, "level") != "ok").collect();
    let ids = of_interest.iter().map(|finding| text(finding, "id")).collect();
    Ok((ids, checked.code, of_interest.iter().map(|finding| format!("{finding}\n")).collect()))
}

/// A site whose configuration has nothing to be warned about.
fn healthy(site: &Site) -> Result<()> {
    site.sh("root", "sed -i 's/^audiences = .*/&\\nrequired_scopes = [\"openid\"]/' /etc/mytoken/mytoken.toml")?
        .ok()?;
    Ok(())
}

/// Checks that the site has no finding.
fn assert_healthy(site: &Site, after: &str) -> Result<()> {
    let (ids, status, text) = findings(site)?;
    assert!(ids.is_empty() && status == 0, "after {after}: {text}");
    Ok(())
}

/// Breaks the site, checks that the findings are this one alone, and mends the site.
fn assert_found(site: &Site, break_it: &str, id: &str, status: i32, repair: &str) -> Result<()> {
    site.sh("root", &format!("set -e; {break_it}"))?.ok()?;
    let (found, code, text) = findings(site)?;
    assert!(found == [id] && code == status, "{break_it}: {text}");
    site.sh("root", &format!("set -e; {repair}"))?.ok()?;
    Ok(())
}

const MODULE: &str = "/usr/lib/x86_64-linux-gnu/security/pam_mytoken.so";
const PLUGIN: &str = "/usr/lib/x86_64-linux-gnu/slurm-wlm/spank_mytoken.so";
const LINE: &str = "/etc/slurm/plugstack.conf.d/mytoken.conf";
const SNIPPET: &str = "/usr/share/mytoken/plugstack.conf";
const SLURM_CONF: &str = "/etc/slurm/slurm.conf";
const KEYS: &str = "/etc/mytoken/keys";

/// Another version of the same length in a library, as a file of its own: running processes have the old one in their memory.
fn of_another_version(library: &str) -> String {
    format!(
        "sed 's/mytoken-version\\x00...../mytoken-version\\x000.0.9/' {library} >{library}.new; \
         ! cmp -s {library} {library}.new; cp {library} /root/library; mv {library}.new {library}"
    )
}

/// slurmctld reads slurm.conf again. Its answer can take a moment.
const RECONFIGURE: &str = "scontrol reconfigure; sleep 1";

#[test]
fn each_fault_of_the_agent_is_found_alone() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        assert_healthy(site, "the start")?;
        let socket = "/run/mytoken/agent.sock";
        let key = site.sh("root", "mytokenctl check | awk '/^public key/ { printf $4 }'")?.ok()?.stdout;
        let rows = [
            (format!("chmod 600 {socket}"), "agent-socket-mode", 1, format!("chmod 666 {socket}")),
            ("chmod 700 /run/mytoken".into(), "runtime-dir-mode", 2, "chmod 711 /run/mytoken".into()),
            ("chmod 777 /run/mytoken".into(), "runtime-dir-writable", 2, "chmod 711 /run/mytoken".into()),
            ("chown alice /run/mytoken".into(), "runtime-dir-writable", 2, "chown root /run/mytoken".into()),
            ("chmod 1777 /run/mytoken/jobs".into(), "runtime-dir-writable", 2, "chmod 711 /run/mytoken/jobs".into()),
            (
                // The agent that runs is asked at the configured place.
                "mkdir -m 711 /var/lib/runtime; ln -s /run/mytoken/agent.sock /var/lib/runtime/agent.sock; \
                 printf '[agent]\\nruntime_dir = \"/var/lib/runtime\"\\n' >>/etc/mytoken/jobs.toml"
                    .into(),
                "runtime-dir-on-disk",
                1,
                "head -n -2 /etc/mytoken/jobs.toml >/root/jobs; cat /root/jobs >/etc/mytoken/jobs.toml".into(),
            ),
            (
                "install -d -m 0700 /run/mytoken/unreadable; echo damaged >/run/mytoken/unreadable/000001-job-7.json"
                    .into(),
                "leases-unreadable",
                1,
                "rm -r /run/mytoken/unreadable".into(),
            ),
            (
                format!("mv {KEYS}/cluster.key /root/"),
                "agent-key-file",
                1,
                format!("mv /root/cluster.key {KEYS}/cluster.key"),
            ),
            // An agent of another version, and an older one that does not tell it. The site's own comes back with the last command.
            (other_agent(&format!(r#","version":"0.0.9","keys":["{key}"]"#)), "agent-version", 1, end_other_agent()),
            (other_agent(""), "agent-version", 1, end_other_agent()),
            (other_agent(r#"},"x":{"#).replace("\"v\":1", "\"v\":9"), "agent-protocol", 2, end_other_agent()),
            (of_another_version(MODULE), "pam-module-version", 1, format!("mv /root/library {MODULE}")),
        ];
        for (break_it, id, status, repair) in rows {
            assert_found(site, &break_it, id, status, &repair)?;
            assert_healthy(site, &break_it)?;
        }
        site.stop("agent", "TERM")?;
        let (found, status, text) = findings(site)?;
        assert!(found == ["agent-not-running"] && status == 2, "{text}");
        site.restart("agent")?;
        site.wait_for("the agent", Duration::from_secs(10), "root", "mytokenctl check >/dev/null")?;
        assert_healthy(site, "the agent's start")
    })
}

/// An answer of another agent at the socket. `more` is added to its status.
fn other_agent(more: &str) -> String {
    let answer = format!(r#"{{"v":1,"status":{{"node":"n","jobs":[]{more}}}}}"#);
    format!(
        "cd /run/mytoken; mv agent.sock agent.away; \
         setsid --fork perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Local => \"agent.sock\", Listen => 5) or die; \
         chmod 0666, \"agent.sock\"; while ($c = $s->accept) {{ <$c>; print $c q({answer}), \"\\n\"; close $c }}' \
         >/dev/null 2>&1 </dev/null; \
         for i in $(seq 50); do test -S agent.sock && break; sleep 0.1; done"
    )
}

fn end_other_agent() -> String {
    "pkill -f '[I]O::Socket::UNIX'; mv /run/mytoken/agent.away /run/mytoken/agent.sock".to_owned()
}

/// When both keys are replaced and the agent is not told, jobs get no token.
#[test]
fn keys_that_the_agent_has_not_read_are_found_with_the_command_that_mends_it() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        let key = site.sh("root", "mytokenctl check | awk '/^public key/ { printf $4 }'")?.ok()?.stdout;
        let replace = format!("rm {KEYS}/*; mytokenctl keygen");
        assert_found(site, &replace, "agent-key", 2, "pkill -HUP -x mytokend; sleep 1")?;
        assert_healthy(site, "the reload")?;
        let log = site.logs();
        let told = log.contains(&format!("until a restart also jobs of the replaced key {key}"));
        assert!(told && log.contains("reloaded: node n1 serves"), "{log}");
        // Without jobs.toml its jobs would lose their tokens. `systemctl reload` runs the check first.
        let check = "mv /etc/mytoken/jobs.toml /root/; mytokend agent --check";
        let refused = site.sh("root", &format!("{check}; test $? = 1; mv /root/jobs.toml /etc/mytoken/"))?.ok()?;
        assert!(refused.stderr.contains("/etc/mytoken/jobs.toml is gone; put it back"), "{refused:?}");
        site.sh("root", "mytokend agent --check")?.ok()?;
        site.sh("root", "mv /etc/mytoken/jobs.toml /root/; pkill -HUP -x mytokend; sleep 1")?.ok()?;
        let log = site.logs();
        assert!(log.contains("not reloaded: /etc/mytoken/jobs.toml is gone; put it back"), "{log}");
        // The file is good again, and the agent has not been told.
        let reload = "pkill -HUP -x mytokend; sleep 1";
        assert_found(site, "mv /root/jobs.toml /etc/mytoken/", "agent-reload-refused", 1, reload)?;
        assert_healthy(site, "the reload with jobs.toml")?;
        assert_found(site, "mytokenctl key new", "agent-key-not-read", 1, reload)?;
        assert_healthy(site, "the reload with the next key")
    })
}

const DROP_IN: &str = "/etc/mytoken/jobs.d/default.toml";

/// Gives the plugin this default, and jobs.toml one for this partition.
fn with_default(default: &str, partition: &str) -> String {
    let table =
        "printf '[cluster]\\ndefault_partition = \"main\"\\n[[default]]\\nmytoken = \"off\"\\npartition = \"%s\"\\n'";
    let write = if partition.is_empty() {
        String::new()
    } else {
        format!("mkdir -p /etc/mytoken/jobs.d; {table} {partition} >{DROP_IN}; ")
    };
    format!("{write}sed -i --follow-symlinks 's/^optional.*/& default={default}/' {LINE}")
}

fn without_default() -> String {
    format!("rm -f {DROP_IN}; sed -i --follow-symlinks 's/ default=.*//' {LINE}")
}

/// The command of a finding about a configless cluster, after which nothing is found; then the site as it was.
fn moved_and_back() -> String {
    format!(
        "sh -c \"$(mytokenctl check | sed -n 's/^ *fix: \\({{ grep .*plugstack.*\\)/\\1/p')\"; sleep 1; mytokenctl check; \
         test ! -e {LINE}; grep ^optional {SNIPPET}; test \"$(grep -c ^optional /etc/slurm/plugstack.conf)\" = 1; \
         sed -i /enable_configless/d {SLURM_CONF}; ln -s {SNIPPET} {LINE}; \
         echo 'include /etc/slurm/plugstack.conf.d/*.conf' >/etc/slurm/plugstack.conf; {RECONFIGURE}"
    )
}

#[test]
fn each_fault_of_slurm_and_the_plugin_is_found_alone() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        assert_healthy(site, "the start")?;
        let rows = [
            (format!("mv {PLUGIN} /root/library"), "plugin-file", 2, format!("mv /root/library {PLUGIN}")),
            (format!("rm {LINE}"), "plugin-line", 2, format!("ln -s {SNIPPET} {LINE}")),
            (
                format!("mv {PLUGIN} /root/library; cp $(dirname {PLUGIN})/cred_munge.so {PLUGIN}"),
                "plugin-not-loaded",
                2,
                format!("mv /root/library {PLUGIN}"),
            ),
            // A wrong line: the command replaces it.
            (
                format!("rm {LINE}; echo 'optional spank_mytokn.so' >{LINE}"),
                "plugin-line",
                2,
                // A copy beside it would be read, too: many sites include all files of the directory.
                "sh -c \"$(mytokenctl check | sed -n 's/^ *fix: \\(mkdir .*\\)/\\1/p')\"; \
                 test \"$(ls -A /etc/slurm/plugstack.conf.d)\" = mytoken.conf; rm /etc/slurm/mytoken.conf"
                    .into(),
            ),
            // Then srun and sbatch of each user fail.
            (
                format!("chmod 0600 {SNIPPET}; ! runuser -u alice -- srun --help"),
                "users-cannot-read",
                2,
                "sh -c \"$(mytokenctl check | sed -n 's/^ *fix: \\(chmod .*\\)/\\1/p')\"".into(),
            ),
            (
                format!("chmod 0600 {PLUGIN}; ! runuser -u alice -- srun --help | grep mytoken"),
                "plugin-users",
                2,
                format!("chmod 0644 {PLUGIN}"),
            ),
            (
                format!("sed -i 's/^optional.*/& defualt=x/' {SNIPPET}"),
                "plugin-argument",
                2,
                format!("sed -i 's/ defualt=x//' {SNIPPET}"),
            ),
            // To users this is a directory without files, so their srun and sbatch have no --mytoken.
            (
                "chmod 0700 /etc/slurm/plugstack.conf.d; ! runuser -u alice -- srun --help | grep mytoken".into(),
                "users-cannot-read",
                2,
                "sh -c \"$(mytokenctl check | sed -n 's/^ *fix: \\(chmod .*\\)/\\1/p')\"; \
                 runuser -u alice -- srun --help | grep mytoken"
                    .into(),
            ),
            (
                "chmod 0700 /etc/slurm; ! runuser -u alice -- srun --help | grep mytoken".into(),
                "users-cannot-read",
                2,
                "sh -c \"$(mytokenctl check | sed -n 's/^ *fix: \\(chmod .*\\)/\\1/p')\"; \
                 runuser -u alice -- srun --help | grep mytoken"
                    .into(),
            ),
            (
                format!("chmod 0600 {SLURM_CONF}; ! runuser -u alice -- srun --help"),
                "users-cannot-read",
                2,
                "sh -c \"$(mytokenctl check | sed -n 's/^ *fix: \\(chmod .*\\)/\\1/p')\"; \
                 runuser -u alice -- srun --help | grep mytoken"
                    .into(),
            ),
            (
                format!("sed -i 's/^optional/required/' {SNIPPET}"),
                "plugin-required",
                1,
                // The command of the finding. The link stays one: packages own it.
                format!("sh -c \"$(mytokenctl check | sed -n 's/^ *fix: \\(sed .*\\)/\\1/p')\"; test -L {LINE}"),
            ),
            (format!("sed -i '1i Nonsense=1' {SLURM_CONF}"), "slurm-controller", 1, format!("sed -i 1d {SLURM_CONF}")),
            (of_another_version(PLUGIN), "plugin-version", 1, format!("mv /root/library {PLUGIN}")),
            (
                format!(
                    "echo SlurmctldParameters=enable_configless >>{SLURM_CONF}; \
                     echo 'include plugstack.conf.d/*.conf' >/etc/slurm/plugstack.conf; {RECONFIGURE}"
                ),
                "plugin-configless",
                1,
                moved_and_back(),
            ),
            // The line was moved before, and something has made the link again.
            (
                format!(
                    "echo SlurmctldParameters=enable_configless >>{SLURM_CONF}; \
                     printf 'include plugstack.conf.d/*.conf\\noptional spank_mytoken.so\\n' >/etc/slurm/plugstack.conf; {RECONFIGURE}"
                ),
                "plugin-twice",
                1,
                moved_and_back(),
            ),
            (
                "kill -STOP $(cat /run/slurmctld.pid)".into(),
                "slurm-controller",
                1,
                "kill -CONT $(cat /run/slurmctld.pid); scontrol ping".into(),
            ),
            ("mv /usr/bin/scontrol /root/".into(), "slurm-missing", 1, "mv /root/scontrol /usr/bin/".into()),
            (
                format!("echo AccountingStoreFlags=job_env >>{SLURM_CONF}; {RECONFIGURE}"),
                "slurm-job-env",
                1,
                format!(
                    "sh -c \"$(mytokenctl check | sed -n 's/^ *fix: \\(grep -in .*\\)/\\1/p')\" | grep =job_env; \
                     sed -i /AccountingStoreFlags/d {SLURM_CONF}; {RECONFIGURE}"
                ),
            ),
            (with_default("other", ""), "plugin-default-profile", 2, without_default()),
            (
                with_default("off", "main"),
                "plugin-default-off",
                1,
                // The editor's arguments are the line.
                format!(
                    "EDITOR=echo sh -c \"$(mytokenctl check | sed -n 's/^ *fix: \\(.* add default=.*\\)/\\1/p')\" | \
                     {{ read -r line file; sed -n \"${{line#+}}p\" $file; }} | grep '^optional spank_mytoken.so default=off'; {}",
                    without_default()
                ),
            ),
            (with_default("jobs.toml", "gone"), "slurm-partition", 1, without_default()),
            (
                format!("{}; sed -i /default_partition/d {DROP_IN}", with_default("jobs.toml", "main")),
                "slurm-default-partition",
                1,
                without_default(),
            ),
        ];
        for (break_it, id, status, repair) in rows {
            assert_found(site, &break_it, id, status, &repair)?;
            assert_healthy(site, &break_it)?;
        }
        Ok(())
    })
}

/// SLURM-04: slurmd looks for plugins with an epilog only when it starts.
#[test]
fn a_slurmd_that_was_started_before_the_plugin_was_there_is_found() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        site.sh("root", &format!("rm {LINE}"))?.ok()?;
        site.stop("slurmd.n1", "TERM")?;
        site.restart("slurmd.n1")?;
        // slurmctld's view of the node is of before the restart, so wait for slurmd's own line: by then it has read plugstack.conf.
        let runs = "test $(grep -c ' started on ' /var/log/slurm/slurmd.n1.log) -ge 2";
        site.wait_for("slurmd", Duration::from_secs(30), "root", runs)?;
        let later = format!("ln -s {SNIPPET} {LINE}");
        assert_found(site, &later, "slurmd-without-plugin", 1, "true")?;
        site.stop("slurmd.n1", "TERM")?;
        site.restart("slurmd.n1")?;
        let loaded = "grep -q spank_mytoken /proc/$(pgrep -x slurmd)/maps";
        site.wait_for("slurmd with the plugin", Duration::from_secs(30), "root", loaded)?;
        assert_healthy(site, "slurmd's start")
    })
}

/// slurmd keeps the plugin that it loaded, whatever an upgrade puts in its place.
#[test]
fn a_slurmd_that_was_started_before_an_upgrade_is_found() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        let restart = |starts: usize| {
            site.stop("slurmd.n1", "TERM")?;
            site.restart("slurmd.n1")?;
            let runs = format!("test $(grep -c ' started on ' /var/log/slurm/slurmd.n1.log) -ge {starts}");
            site.wait_for("slurmd", Duration::from_secs(30), "root", &runs)
        };
        site.sh("root", &format!("set -e; {}", of_another_version(PLUGIN)))?.ok()?;
        restart(2)?;
        assert_found(site, &format!("mv /root/library {PLUGIN}"), "slurmd-before-upgrade", 1, "true")?;
        restart(3)?;
        assert_healthy(site, "slurmd's start")
    })
}

/// A job that has a `/run` of its own cannot see its token file.
#[test]
fn a_run_directory_of_each_job_is_found() -> Result<()> {
    let options = Options { nodes: 1, ..Options::new()? };
    if options.release == Release::Bookworm {
        return skip("job_container/tmpfs of Slurm 22.05 knows no Dirs");
    }
    story(options, |site| {
        healthy(site)?;
        let (parameter, plugin) = if site.options().release == Release::Sid {
            ("NamespaceType", "namespace")
        } else {
            ("JobContainerType", "job_container")
        };
        let restart = || {
            site.stop("slurmctld", "TERM")?;
            site.restart("slurmctld")?;
            site.wait_for("slurmctld", Duration::from_secs(30), "root", "scontrol ping | grep -q UP")
        };
        site.write(
            "/etc/slurm/job_container.conf",
            "AutoBasePath=true\nBasePath=/var/lib/jobs Dirs=/tmp,/dev/shm\n",
            "0644",
        )?;
        site.sh("root", &format!("printf 'PrologFlags=Contain\n{parameter}={plugin}/tmpfs\n' >>{SLURM_CONF}"))?.ok()?;
        restart()?;
        assert_healthy(site, "a private /tmp")?;
        let private = "sed -i s,/dev/shm,/run, /etc/slurm/job_container.conf";
        assert_found(site, private, "slurm-run-hidden", 2, "sed -i s,/run,/dev/shm, /etc/slurm/job_container.conf")?;
        assert_healthy(site, "the change")
    })
}
