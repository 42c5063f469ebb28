// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `mytokenctl check` about `SELinux` and `AppArmor`.

use std::path::Path;

use super::host::{Host, Ran};
use super::{Findings, kinds_slurm as kinds};

/// Programs that the product is part of or talks to.
const PROGRAMS: [&str; 7] = ["mytokend", "mytoken-submit", "slurmd", "slurmstepd", "sshd", "sshd-auth", "sshd-session"];

impl Findings {
    /// Checks whether a security module confines the programs that the product needs.
    pub(super) fn confinement(&mut self, host: &dyn Host) {
        match host.read(Path::new("/sys/fs/selinux/enforce")).as_deref().map(str::trim) {
            Some("1") => self.selinux(host),
            Some(_) => self.ok("SELinux", "it does not enforce its policy (permissive)"),
            None => {}
        }
        let profiles = host.read(Path::new("/sys/kernel/security/apparmor/profiles")).unwrap_or_default();
        for profile in profiles.lines().filter_map(|line| line.strip_suffix(" (enforce)")) {
            if profile.split(['/', ' ']).any(|name| PROGRAMS.contains(&name)) {
                let text = format!("the profile \"{profile}\" is enforced: it may forbid what the product does");
                self.add_kind(kinds::APPARMOR_PROFILE, text);
            }
        }
    }

    fn selinux(&mut self, host: &dyn Host) {
        match host.run(Path::new("/usr/sbin/semodule"), &["-l"]) {
            Ran::Output(modules) if modules.lines().any(|line| line.split_whitespace().next() == Some("mytoken")) => {
                self.ok("SELinux", "it enforces its policy, with the module mytoken");
            }
            Ran::Output(_) => {
                self.add_kind(
                    kinds::SELINUX_MODULE,
                    "SELinux enforces its policy, and the module mytoken is not in it",
                );
            }
            Ran::Failed(reason) => {
                let text =
                    format!("SELinux enforces its policy; whether with the module mytoken is not known: {reason}");
                self.add_kind(kinds::SELINUX_MODULE, text);
            }
            Ran::Missing => {
                let text =
                    "SELinux enforces its policy; whether with the module mytoken is not known: there is no semodule";
                self.add_kind(kinds::SELINUX_MODULE, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Kernel {
        enforce: Option<&'static str>,
        modules: Ran,
        profiles: Option<&'static str>,
    }

    impl Host for Kernel {
        fn read(&self, path: &Path) -> Option<String> {
            let text = if path.ends_with("enforce") { self.enforce } else { self.profiles };
            text.map(str::to_owned)
        }
        fn exists(&self, _path: &Path) -> bool {
            false
        }
        fn run(&self, _program: &Path, _arguments: &[&str]) -> Ran {
            self.modules.clone()
        }
    }

    fn found(enforce: Option<&'static str>, modules: &str, profiles: Option<&'static str>) -> Vec<String> {
        let mut findings = Findings::default();
        findings.confinement(&Kernel { enforce, modules: Ran::Output(modules.to_owned()), profiles });
        findings.problems().filter_map(|finding| finding.id.clone()).collect()
    }

    #[test]
    fn selinux_needs_the_module_only_while_it_enforces() {
        let none: [&str; 0] = [];
        assert_eq!(found(None, "", None), none);
        assert_eq!(found(Some("0"), "", None), none);
        assert_eq!(found(Some("1"), "munge\nmytoken\t1.0\n", None), none);
        assert_eq!(found(Some("1\n"), "munge\nmytokens\n", None), ["selinux-module"]);
        let mut findings = Findings::default();
        findings.confinement(&Kernel { enforce: Some("1"), modules: Ran::Missing, profiles: None });
        assert!(findings.findings[0].text.ends_with("there is no semodule"), "{findings:?}");
    }

    #[test]
    fn only_enforced_profiles_of_the_programs_count() {
        let profiles =
            "/usr/sbin/sshd (complain)\nunprivileged_userns (enforce)\nlsb_release (enforce)\n/usr/bin/man (enforce)\n";
        assert_eq!(found(None, "", Some(profiles)), [""; 0]);
        assert_eq!(found(None, "", Some("/usr/sbin/sshd (enforce)\n")), ["apparmor-profile"]);
        assert_eq!(found(None, "", Some("sshd-session (enforce)\nslurmd (kill)\n")), ["apparmor-profile"]);
    }
}
