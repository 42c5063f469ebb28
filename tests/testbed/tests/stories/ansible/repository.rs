// SPDX-License-Identifier: MIT OR Apache-2.0
//! The role takes the packages from a repository, on hosts whose apt does not know it yet.

use testbed::drive::cluster::{Cluster, NODE, cluster_story};
use testbed::{Release, Result, skip};

use super::{Controller, assert_good, program, recap};
use crate::built_packages::{bring, built};

/// A repository of the packages in /home/repository, which both machines see. apt has only this one, and no list of it.
const REPOSITORY: &str = "cd /home/repository && for deb in *.deb; do
        dpkg-deb --field $deb && echo Filename: ./$deb && echo Size: $(stat -c %s $deb) &&
        echo SHA256: $(sha256sum <$deb | cut -d' ' -f1) && echo || exit 1
    done >/home/Packages && mv /home/Packages . && chmod -R a+rX .";

const SOURCE: &str = "rm -rf /etc/apt/sources.list.d/* /var/lib/apt/lists/* &&
    echo 'deb [trusted=yes] file:/home/repository ./' >/etc/apt/sources.list";

#[test]
fn the_role_takes_packages_from_a_repository_that_is_new_to_the_hosts() -> Result<()> {
    let Some(program) = program::playbook() else { return skip(program::MISSING) };
    let packages = built()?;
    cluster_story(true, |site, Cluster { login_host, node }| {
        bring(site, &packages, "/home/repository")?;
        login_host.sh(REPOSITORY)?.ok()?;
        for machine in [login_host, node] {
            machine.trust_the_servers()?;
            machine.sh(SOURCE)?.ok()?;
        }
        login_host.wait_for_slurm()?;
        let controller = Controller::new(site, program, &[login_host, node])?;
        let play = || {
            controller.play(|inventory| {
                assert!(inventory.contains("mytoken_packages:"), "{inventory}");
                let lines = inventory.lines().filter(|line| !line.contains("mytoken_packages:"));
                lines.flat_map(|line| [line, "\n"]).collect()
            })
        };
        assert_good(&play()?);
        for (machine, package) in [(login_host, "mytoken-sshd-config"), (node, "slurm-spank-mytoken")] {
            machine
                .sh(&format!("dpkg-query --show --showformat='${{db:Status-Status}}' {package} | grep -x installed"))?
                .ok()?;
            machine.sh("! test -e /var/cache/mytoken-packages")?.ok()?;
        }
        // Of Debian's releases those from 13 on have penalties for addresses, and long ones.
        let has_penalties = site.options().release != Release::Bookworm;
        let link = "readlink /etc/ssh/sshd_config.d/11-mytoken-penalties.conf";
        assert_eq!(login_host.sh(link)?.success(), has_penalties);
        if has_penalties {
            login_host.sh("sshd -T | grep -iE '^persourcepenalties .*authfail:1(\\.0*)? '")?.ok()?;
        }
        // A host that has the packages does not need the repository.
        login_host.sh("mv /home/repository /home/gone")?.ok()?;
        let second = play()?;
        assert_good(&second);
        for host in ["testbed", NODE] {
            assert_eq!(recap(&second, host, "changed"), Some(0), "on {host}:\n{second}");
        }
        Ok(())
    })
}
