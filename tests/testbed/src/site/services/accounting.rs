// SPDX-License-Identifier: MIT OR Apache-2.0
//! Accounting of a site: a database and slurmdbd, which stores the environment and the script of each job.

use std::time::Duration;

use crate::site::daemon::Daemon;
use crate::{Result, Site};

/// root's own account of the database needs no password at its socket.
const SLURMDBD: &str = "AuthType=auth/munge
DbdHost=testbed
SlurmUser=root
DebugLevel=debug5
LogFile=/var/log/slurm/slurmdbd.log
PidFile=/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
";

const SLURM: &str = "AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=testbed
AccountingStoreFlags=job_comment,job_env,job_script
";

/// Starts the database and slurmdbd in a site with [`crate::Options::accounting`], and slurmctld again with it. `more` are further
/// lines of slurm.conf.
///
/// # Errors
/// When one of them does not start.
pub fn start(site: &Site, more: &str) -> Result<()> {
    let limit = Duration::from_secs(60);
    site.sh("root", "install -d -o mysql -g mysql /run/mysqld && install -d -o mysql -g mysql /var/lib/mysql")?.ok()?;
    site.start_daemon(Daemon::new("mariadbd", ["mariadbd", "--user=mysql", "--skip-networking"]))?;
    site.wait_for_daemon("mariadbd", None, limit, "mariadb -e 'select 1'")?;
    site.write("/etc/slurm/slurmdbd.conf", SLURMDBD, "0600")?;
    site.start_daemon(Daemon::new("slurmdbd", ["slurmdbd", "-D"]))?;
    configure(site, &format!("{SLURM}{more}"))?;
    // With a new database Slurm does not know the name of the cluster.
    site.wait_for(
        "slurmdbd",
        limit,
        "root",
        "sacctmgr -i add cluster testbed || sacctmgr -n show cluster | grep -w testbed",
    )?;
    restart_slurm(site, "")
}

/// Adds lines to slurm.conf and starts Slurm again.
///
/// # Errors
/// When it does not start.
pub fn restart_slurm(site: &Site, lines: &str) -> Result<()> {
    configure(site, lines)?;
    for daemon in site.nodes().iter().map(|node| format!("slurmd.{node}")).chain(["slurmctld".to_owned()]) {
        site.stop(&daemon, "TERM")?;
        site.restart(&daemon)?;
    }
    let idle = format!("test $(sinfo -h -N -o %T | grep -cx idle) = {}", site.options().nodes);
    site.wait_for("idle nodes", Duration::from_secs(60), "root", &idle).map(drop)
}

fn configure(site: &Site, lines: &str) -> Result<()> {
    site.script("root", "cat >>/etc/slurm/slurm.conf").stdin(lines).run()?.ok().map(drop)
}
