// SPDX-License-Identifier: MIT OR Apache-2.0
//! A credential that the site requires by a `[[default]]`, under each fault that keeps mytoken-submit from saying so: the job for which it
//! is required is refused with the reason, and a job for which nothing is required is submitted.

use testbed::drive::journal::Journal;
use testbed::drive::people;
use testbed::{Options, Result, Site, story_with_own_servers};

use super::rows::HELPERS;
use super::{panicking, use_plugin};

const TABLES: &str = "[[default]]\npartition = \"secured\"\nmytoken = \"required:default\"\n";

/// Arguments of the plugin, and why there is no credential. A panic is in a build that can.
const FAULTS: &[(&str, &str)] = &[
    ("submit=/usr/local/bin/killed", "was ended by signal 9"),
    ("submit=/usr/local/bin/hanging", "did not answer within 3 s"),
    ("submit=/usr/local/bin/huge", "gave an answer that is too long"),
    ("submit=/nonexistent", "cannot be started: No such file or directory (os error 2)"),
    ("submit=/bin/true", "gave no answer"),
    ("nonsense=1", "submit_seconds, agent_seconds"),
    ("panic=init_post_opt", "internal error"),
];

#[test]
fn a_credential_that_the_site_requires_stays_required_without_mytoken_submit() -> Result<()> {
    story_with_own_servers(Options { nodes: 1, ..Options::new()? }, |site| {
        people::first_mytoken(site, "alice")?;
        for (path, script) in HELPERS {
            site.write(path, &format!("#!/bin/sh\n{script}\n"), "0755")?;
        }
        let partition = "echo 'PartitionName=secured Nodes=ALL' >>/etc/slurm/slurm.conf && scontrol reconfigure && mkdir -p /etc/mytoken/jobs.d";
        site.sh("root", partition)?.ok()?;
        site.write("/etc/mytoken/jobs.d/demanded.toml", TABLES, "0644")?;
        let with = |arguments: &str| {
            let plugin = if arguments.starts_with("panic") { panicking(site)? } else { "spank_mytoken.so" };
            use_plugin(site, plugin, &format!("default=jobs.toml {arguments}"))
        };
        with("")?;
        Journal::clear(site)?;
        submits(site, "-p secured", "")?;
        assert_eq!(Journal::read(site)?.sub_tokens(), 1);
        for (arguments, reason) in FAULTS {
            with(arguments)?;
            refuses(site, "-p secured", &format!("{reason}; the site requires one for this job\n"))?;
            let quiet = arguments.starts_with("panic");
            submits(site, "-p main", if quiet { "" } else { reason })?;
            submits(site, "-p secured --mytoken=off", "")?;
        }
        // mytoken-submit lives, and cannot read the tables.
        with("")?;
        site.write("/etc/mytoken/jobs.d/broken.toml", "x = 1\n", "0644")?;
        refuses(site, "-p secured", "; the site requires one for this job\n")?;
        submits(site, "-p main", "broken.toml:1")?;
        site.sh("root", "rm /etc/mytoken/jobs.d/broken.toml && chmod 600 /etc/mytoken/jobs.d/demanded.toml")?.ok()?;
        let told = "/etc/mytoken/jobs.d/demanded.toml cannot be read, so the site may require one for this job. --mytoken=off submits without one\n";
        refuses(site, "-p main", told)?;
        submits(site, "-p main --mytoken=off", "")
    })
}

/// One line says why.
fn refuses(site: &Site, options: &str, reason: &str) -> Result<()> {
    let refused = site.sh("alice", &format!("sbatch --hold {options} --wrap true"))?;
    assert!(refused.code == 1 && refused.stdout.is_empty(), "{options}: {refused:?}");
    let line = refused.stderr.strip_prefix("sbatch: error: mytoken: no credential: ");
    assert!(line.is_some_and(|line| line.ends_with(reason) && line.lines().count() == 1), "{reason}: {refused:?}");
    Ok(())
}

/// One line says why there is no credential, or nothing is printed.
fn submits(site: &Site, options: &str, reason: &str) -> Result<()> {
    let submitted = site.sh("alice", &format!("sbatch --hold {options} --wrap true"))?.ok()?;
    let told = submitted.stderr.contains(reason) && submitted.stderr.ends_with("(submitting without)\n");
    assert!(if reason.is_empty() { submitted.stderr.is_empty() } else { told }, "{options}: {submitted:?}");
    Ok(())
}
