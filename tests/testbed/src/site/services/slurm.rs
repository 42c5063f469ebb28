// SPDX-License-Identifier: MIT OR Apache-2.0
//! Slurm: one slurmctld and several slurmd on one kernel. Each slurmd has its own mount namespace.

use std::fmt::Write as _;
use std::time::Duration;

use crate::site::addresses;
use crate::site::daemon::Daemon;
use crate::site::plan::{HOST_NAME, Network, STATE_DIR, node_holder};
use crate::site::product_config;
use crate::site::services::munge;
use crate::{Result, Site};

/// The directory that is separate on each node, as on separate machines. It has the files of jobs and the agent's
/// socket.
const NODE_DIRECTORY: &str = "/run/mytoken";

const PRODUCT_SNIPPET: &str = "/usr/share/mytoken/plugstack.conf";

/// Makes the mount namespaces of the nodes. In the site's own network each node also gets a network namespace with a
/// `veth` pair to the login node, so that servers see the node's address.
///
/// A process keeps each namespace alive, and other processes enter the namespace by its process id. A bind mount of the
/// namespace would need no process, but kernel 6.18 sometimes refuses it.
pub(crate) fn create_nodes(site: &Site) -> Result<()> {
    let has_own_network = site.network() == Network::Own;
    let brokers = site.brokers();
    if !brokers.is_empty() {
        write_host_names(site)?;
    }
    let nodes = (1..).zip(site.nodes());
    for (number, node) in nodes.clone().chain((addresses::BROKERS + 1..).zip(brokers.clone())) {
        let connect = if has_own_network { veth_commands(site, number, &node) } else { String::new() };
        let separate = if brokers.is_empty() || brokers.contains(&node) {
            String::new()
        } else {
            munge::own_directory(&node) + &product_config::hide_private_keys()
        };
        let hold = format!(
            "set -e; mount -t tmpfs -o mode=711,nosuid,nodev tmpfs {NODE_DIRECTORY}; {connect} {separate} \
             touch {STATE_DIR}/nodes/{node}; exec sleep infinity"
        );
        let mut argv = vec!["unshare", "--mount", "--propagation=private"];
        if has_own_network {
            argv.push("--net");
        }
        argv.extend(["sh", "-c", &hold]);
        site.start_daemon(Daemon::new(&node_holder(&node), argv))?;
    }
    let all = format!("cd {STATE_DIR}/nodes && ls {} {}", site.nodes().join(" "), brokers.join(" "));
    site.wait_for("the nodes' namespaces", Duration::from_secs(5), "root", &all)?;
    if has_own_network {
        // The nodes reach each other through the login node.
        site.sh("root", "echo 1 >/proc/sys/net/ipv4/ip_forward")?.ok()?;
    }
    Ok(())
}

/// Makes the names of nodes and brokers known to the resolver, as in a cluster.
fn write_host_names(site: &Site) -> Result<()> {
    let nodes = (1..).zip(site.nodes()).map(|(number, node)| (addresses::node(number), node));
    let brokers = (1..).zip(site.brokers()).map(|(number, broker)| (addresses::broker(number), broker));
    let lines = nodes.chain(brokers).fold(String::new(), |mut lines, (address, name)| {
        let _ = writeln!(lines, "{address} {name}");
        lines
    });
    site.script("root", "cat >>/etc/hosts").stdin(lines).run()?.ok().map(drop)
}

/// Shell commands that connect a node to the login node by a `veth` pair. They run in the node's network. The first
/// process of the site (1) is in the login node's network.
pub(crate) fn veth_commands(site: &Site, number: u8, node: &str) -> String {
    let (login_node, address) = (site.network().address(), addresses::node(number));
    format!(
        "ip link set lo up; ip link add eth0 type veth peer name {node} netns 1; \
         ip address add {address}/32 dev eth0; ip link set eth0 up; \
         nsenter --net --target 1 sh -ec 'ip link set {node} up; ip route add {address} dev {node}'; \
         ip route add {login_node} dev eth0; ip route add default via {login_node};"
    )
}

pub(crate) fn start(site: &Site) -> Result<()> {
    site.write("/etc/slurm/slurm.conf", &configuration(site)?, "0644")?;
    // Set explicitly, because Slurm's detection needs the host's cgroups, which a site does not have.
    let cgroups = if site.options().release.slurm_knows_disabled_cgroups() { "disabled" } else { "cgroup/v1" };
    site.write("/etc/slurm/cgroup.conf", &format!("CgroupPlugin={cgroups}\n"), "0644")?;
    let prepare = format!(
        "set -e; mkdir -p -m 755 /var/log/slurm /var/spool/slurmctld; \
         if test -e {PRODUCT_SNIPPET}; then ln -s {PRODUCT_SNIPPET} /etc/slurm/plugstack.conf.d/mytoken.conf; fi"
    );
    site.sh("root", &prepare)?.ok()?;
    munge::wait(site)?;
    site.start_daemon(Daemon::new("slurmctld", ["slurmctld", "-D", "-i"]))?;
    for node in site.nodes() {
        site.start_daemon(Daemon::new(&format!("slurmd.{node}"), ["slurmd", "-D", "-N", &node]).on(&node))?;
    }
    Ok(())
}

pub(crate) fn wait(site: &Site) -> Result<()> {
    let idle = format!("sinfo -h -N -o %T | tee /dev/stderr | grep -cx idle | grep -qx {}", site.options().nodes);
    site.wait_for("Slurm with all nodes idle", Duration::from_secs(60), "root", &idle).map(drop)
}

fn configuration(site: &Site) -> Result<String> {
    let options = site.options();
    let address = site.network().address();
    let last = options.nodes;
    let mut text = format!(
        "ClusterName=testbed
SlurmctldHost={HOST_NAME}({address})
SlurmctldPort=27817
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd.%n
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.%n.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=1,bf_interval=5
"
    );
    if !options.prolog_flags.is_empty() {
        let _ = writeln!(text, "PrologFlags={}", options.prolog_flags);
    }
    if site.network() == Network::Callers {
        // The daemons must not be reachable from other machines.
        text.push_str("CommunicationParameters=NoCtldInAddrAny,NoInAddrAny\n");
    }
    let addresses = match site.network() {
        Network::Own => format!("192.0.2.[{}-{}]", addresses::node(1).octets()[3], addresses::node(last).octets()[3]),
        Network::Callers => address.to_string(),
    };
    let _ = writeln!(
        text,
        "NodeName=n[1-{last}] NodeHostname={HOST_NAME} NodeAddr={addresses} Port=[17001-{}] CPUs=8 RealMemory=8000 State=UNKNOWN",
        17_000 + u32::from(last)
    );
    text.push_str("PartitionName=main Nodes=ALL Default=YES DefaultTime=10 MaxTime=UNLIMITED State=UP\n");
    Ok(text)
}
