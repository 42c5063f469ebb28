// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two machines that boot: a host that is login host and Slurm's controller, and a node.
//!
//! The first is a [`Machine`] as in other stories. The node has its own files, over the same root file system, its own name and its
//! own address. As on a cluster, both have the same users, home directories and key of munge. Neither has packages of the product, and
//! each lacks Slurm's daemon of the other.

use crate::drive::machine::{Machine, SLURM, configure_slurm, with_journals};
use crate::drive::story;
use crate::site::addresses;
use crate::site::plan::ROOT_INSIDE;
use crate::site::servers::CA;
use crate::site::services::slurm;
use crate::{Error, Options, Result, Site};

/// The node's host name, in Slurm too.
pub const NODE: &str = "n1";

/// Makes the node's root from the unchanged one, and puts it above the site's: then nsenter enters it too. Without `pivot_root`, which is
/// an optional package on sid. What a reboot keeps is in a directory of the site.
const ENTER: &str = "
    base=/run/testbed/machine.n1
    mkdir -p $base/upper $base/work $base/root
    mount -t overlay overlay -o lowerdir=$ROOT,upperdir=$base/upper,workdir=$base/work $base/root
    cd $base/root
    if ! test -e etc/is-a-node; then
        cp -a /etc/passwd /etc/group /etc/shadow /etc/gshadow /etc/hosts etc
        cp -a /etc/slurm/*.conf etc/slurm
        cp -a $CA etc/ssl
        echo n1 >etc/hostname
        chroot . dpkg --purge slurmctld >/dev/null
        touch etc/is-a-node
    fi
    for shared in dev sys home; do mount --rbind /$shared $shared; done
    mount -t proc -o nosuid,noexec,nodev proc proc
    mount --move . /
    new_root=.";

/// The two machines.
#[derive(Debug)]
pub struct Cluster<'a> {
    /// Login host and controller; its files are those of the site.
    pub login_host: Machine<'a>,
    /// The node.
    pub node: Machine<'a>,
}

/// A story on two machines that have no packages of the product yet, in a site with the test server. If it fails, the journals of both
/// are printed. `python` is for Ansible.
///
/// # Errors
/// As [`story::story`].
pub fn cluster_story(python: bool, tell: impl FnOnce(&Site, &Cluster<'_>) -> Result<()>) -> Result<()> {
    let options = Options { systemd: true, second_machine: true, python, product: false, nodes: 1, ..Options::new()? };
    if options.foreign.is_some() {
        return story::skip("it needs a site of its own");
    }
    story::story_without_services(options, |site| {
        site.start_servers()?;
        let cluster = match Cluster::boot(site) {
            Err(error @ Error::Impossible(_)) => return story::skip(&error.to_string()),
            cluster => cluster?,
        };
        with_journals(&[&cluster.login_host, &cluster.node], || tell(site, &cluster))
    })
}

impl<'a> Cluster<'a> {
    fn boot(site: &'a Site) -> Result<Self> {
        let address = addresses::node(1);
        site.sh("root", &format!("echo '{address} {NODE}' >>/etc/hosts && dpkg --purge slurmd"))?.ok()?;
        configure_slurm(site, &SLURM.replace("NodeName=testbed", &format!("NodeName={NODE}")))?;
        let login_host = Machine::boot_configured(site)?;
        // The link of the node before a reboot may still be there.
        let connect = slurm::veth_commands(site, 1, NODE);
        let prepare = format!(
            "ROOT={ROOT_INSIDE}; CA={CA}
             nsenter --net --target 1 ip link delete {NODE} 2>/dev/null || true
             {connect} hostname {NODE}; {ENTER}"
        );
        let node = Machine::start(site, "machine.n1", &["--net", "--uts"], &prepare)?;
        Ok(Self { login_host, node })
    }
}
