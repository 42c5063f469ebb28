// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check` about plugstack.conf: its command brings the plugin's line to where this Slurm reads it.

use testbed::{Options, Result, Site, story};

use crate::checked::{findings, healthy, sees_alone};

const FILE: &str = "/etc/slurm/plugstack.conf";
const OF_SITE: &str = "/etc/slurm/site/plugstack.conf";
const OTHER: &str = "/etc/slurm/other/plugstack.conf";
const INCLUDE: &str = "include /usr/share/mytoken/plugstack.conf";

/// Breaks the site, pastes the command twice, and sees the include once.
fn mends(site: &Site, break_it: &str, file: &str) -> Result<()> {
    let found = sees_alone(site, "", break_it, "plugin-line", 2)?;
    assert!(found.len() == 1 && found.iter().all(|one| one.text.contains(file)), "{found:?}");
    for fix in found.iter().chain(&found).map(|one| &one.fix) {
        site.sh("root", fix)?.ok()?;
        assert_eq!(findings(site, "")?, (vec![], 0), "{break_it}: {fix}");
    }
    let count = site.sh("root", &format!("grep -cx '{INCLUDE}' {file}"))?.ok()?.stdout;
    assert_eq!(count.trim(), "1", "{break_it}");
    // Users read it, too.
    site.sh("alice", "srun --help | grep -- --mytoken")?.ok()?;
    Ok(())
}

#[test]
fn the_line_comes_to_where_this_slurm_reads_it() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        assert_eq!(findings(site, "")?, (vec![], 0));
        // As with SchedMD's packages, which have no plugstack.conf.
        mends(site, &format!("rm {FILE}"), FILE)?;
        mends(site, &format!("printf '# no include' >{FILE}"), FILE)?;
        let elsewhere =
            format!("echo PlugStackConfig={OF_SITE} >>/etc/slurm/slurm.conf; scontrol reconfigure; sleep 1");
        mends(site, &elsewhere, OF_SITE)?;
        // slurmctld still shows the one before; srun reads the file on this host.
        mends(site, &format!("sed -i s,{OF_SITE},{OTHER}, /etc/slurm/slurm.conf"), OTHER)?;
        // Where jobs.toml is missing, this file says that it is needed. slurmd would say so, too.
        site.stop("slurmd.n1", "TERM")?;
        site.sh("root", &format!("echo '# nothing' >{FILE}"))?.ok()?;
        let found = sees_alone(site, "", "mv /etc/mytoken/jobs.toml /root/", "jobs-toml-missing", 2)?;
        assert!(found[0].fix.starts_with("test -e /etc/mytoken/jobs.toml || "), "{found:?}");
        Ok(())
    })
}

/// Slurm that was built by hand has its files in a directory of its own. `SLURM_CONF` names it, and sudo does not pass it on.
#[test]
fn jobs_toml_is_missed_where_slurm_has_another_directory() -> Result<()> {
    story(Options { nodes: 1, ..Options::new()? }, |site| {
        healthy(site)?;
        let elsewhere = "/opt/slurm/etc";
        let moved = format!(
            "mkdir -p {elsewhere}; cp -a /etc/slurm/. {elsewhere}/; echo '{INCLUDE}' >{elsewhere}/plugstack.conf; \
             rm {FILE}; mv /etc/mytoken/jobs.toml /root/"
        );
        site.sh("root", &moved)?.ok()?;
        let is_missed = |environment: &str| -> Result<bool> {
            let checked = site.sh("root", &format!("{environment} mytokenctl check --json"))?;
            assert!(checked.stdout.contains("\"findings\""), "{checked:?}");
            Ok(checked.stdout.contains("\"jobs-toml-missing\""))
        };
        // slurmd has the plugin in its memory, whatever root knows.
        assert!(is_missed("")?);
        site.stop("slurmd.n1", "TERM")?;
        assert!(!is_missed("")?, "nothing here loads the plugin");
        assert!(is_missed(&format!("SLURM_CONF={elsewhere}/slurm.conf"))?);
        Ok(())
    })
}
