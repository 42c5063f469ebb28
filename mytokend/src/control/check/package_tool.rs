// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands of findings that depend on how this host's packages are managed. [`Kind::fix`] has those of Debian.

use std::borrow::Cow;
use std::path::Path;

use super::host::Host;
use super::kinds::{self, Kind};
use super::kinds_slurm;

/// What installs packages on a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PackageTool {
    /// Debian and Ubuntu.
    #[default]
    Apt,
    /// Red Hat Enterprise Linux and its relatives.
    Dnf,
    /// SUSE.
    Zypper,
}

/// Neither system has pam-auth-update, and authselect does not manage the file.
const PAM_LINES: &str = "diff /etc/pam.d/sshd /usr/share/mytoken/pam-sshd.example   # write its lines with pam_mytoken.so into /etc/pam.d/sshd, and keep a shell of root open meanwhile";

/// The commands on hosts with RPM packages, where they differ from Debian's. INSTALL, REINSTALL, UPGRADE and CERTIFICATES stand for
/// commands of the host's tool.
const RPM: &[(Kind, &str)] = &[
    (kinds::SSHD_MISSING, "INSTALL openssh-server   # or remove login.toml if nobody logs in here by ssh"),
    (kinds::SSHD_NOT_RELOADED, "sshd -t && systemctl reload sshd"),
    (kinds::PAM_AUTH, PAM_LINES),
    (kinds::PAM_ACCOUNT, PAM_LINES),
    (kinds::PAM_SESSION, PAM_LINES),
    (kinds::PAM_FILE, "REINSTALL ./pam_mytoken-[0-9]*.rpm   # in the directory of the packages"),
    (kinds::CA_FILE, "REINSTALL ca-certificates && CERTIFICATES"),
    (
        kinds_slurm::PAM_VERSION,
        "UPGRADE ./pam_mytoken-[0-9]*.rpm ./mytokend-[0-9]*.rpm   # in the directory of the packages",
    ),
    (kinds_slurm::PLUGIN_FILE, "REINSTALL ./slurm-spank-mytoken-[0-9]*.rpm   # in the directory of the packages"),
    (
        kinds_slurm::PLUGIN_VERSION,
        "UPGRADE ./slurm-spank-mytoken-[0-9]*.rpm ./mytokend-[0-9]*.rpm   # in the directory of the packages",
    ),
    (kinds_slurm::SELINUX_MODULE, "INSTALL ./mytoken-selinux-[0-9]*.rpm   # in the directory of the packages"),
];

impl PackageTool {
    /// The tool of a host: the first that it has. A host without any, for example a container, gets Debian's commands.
    pub(super) fn of(host: &dyn Host) -> Self {
        let tools = [(Self::Apt, "/usr/bin/apt-get"), (Self::Dnf, "/usr/bin/dnf"), (Self::Zypper, "/usr/bin/zypper")];
        tools.into_iter().find(|(_, program)| host.exists(Path::new(program))).map_or(Self::Apt, |(tool, _)| tool)
    }

    /// The command that installs sshd's drop-in. With RPM packages the package may be there without its file.
    pub(super) fn sshd_config(self) -> &'static str {
        match self {
            Self::Apt => "apt install ./mytoken-sshd-config_*.deb",
            // dnf reinstalls only what is installed.
            Self::Dnf => {
                "{ dnf reinstall ./mytoken-sshd-config-[0-9]*.rpm || dnf install ./mytoken-sshd-config-[0-9]*.rpm; }"
            }
            Self::Zypper => "zypper install --force ./mytoken-sshd-config-[0-9]*.rpm",
        }
    }

    /// The unit of sshd.
    pub(super) fn sshd_unit(self) -> &'static str {
        if self == Self::Apt { "ssh" } else { "sshd" }
    }

    /// The command for a kind of finding.
    pub(super) fn fix(self, kind: Kind) -> Cow<'static, str> {
        let other = RPM.iter().find(|(of, _)| of.id == kind.id).map(|(_, command)| *command);
        let (install, reinstall, upgrade, certificates) = match self {
            Self::Apt => return kind.fix.into(),
            Self::Dnf => ("dnf install", "dnf reinstall", "dnf upgrade", "update-ca-trust"),
            Self::Zypper => ("zypper install", "zypper install --force", "zypper install", "update-ca-certificates"),
        };
        match other {
            None => kind.fix.into(),
            // dnf reinstalls only what is installed.
            Some(command) if self == Self::Dnf && command.starts_with("REINSTALL ./") => {
                let (file, rest) = command.trim_start_matches("REINSTALL ").split_once(' ').unwrap_or((command, ""));
                format!("{reinstall} {file} || {install} {file} {rest}").into()
            }
            Some(command) => command
                .replace("REINSTALL", reinstall)
                .replace("INSTALL", install)
                .replace("UPGRADE", upgrade)
                .replace("CERTIFICATES", certificates)
                .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::Ran;
    use super::*;

    /// A host that has these programs.
    struct Programs(&'static [&'static str]);

    impl Host for Programs {
        fn read(&self, _path: &Path) -> Option<String> {
            None
        }
        fn exists(&self, path: &Path) -> bool {
            self.0.iter().any(|program| path == Path::new(program))
        }
        fn run(&self, _program: &Path, _arguments: &[&str]) -> Ran {
            Ran::Missing
        }
    }

    #[test]
    fn the_tool_is_the_one_that_the_host_has() {
        for (programs, tool) in [
            (&["/usr/bin/apt-get"][..], PackageTool::Apt),
            (&["/usr/bin/dnf"], PackageTool::Dnf),
            (&["/usr/bin/zypper"], PackageTool::Zypper),
            // Debian has a package of dnf.
            (&["/usr/bin/dnf", "/usr/bin/apt-get"], PackageTool::Apt),
            (&[], PackageTool::Apt),
        ] {
            assert_eq!(PackageTool::of(&Programs(programs)), tool, "{programs:?}");
        }
    }

    #[test]
    fn each_system_gets_its_own_commands() {
        for (kind, apt, dnf, zypper) in [
            (
                kinds::SSHD_MISSING,
                "apt install openssh-server   # or remove login.toml if nobody logs in here by ssh",
                "dnf install openssh-server   # or remove login.toml if nobody logs in here by ssh",
                "zypper install openssh-server   # or remove login.toml if nobody logs in here by ssh",
            ),
            (
                kinds::SSHD_NOT_RELOADED,
                "sshd -t && systemctl reload ssh",
                "sshd -t && systemctl reload sshd",
                "sshd -t && systemctl reload sshd",
            ),
            (kinds::PAM_AUTH, "pam-auth-update --enable mytoken mytoken-session", PAM_LINES, PAM_LINES),
            (
                kinds::PAM_FILE,
                "apt install --reinstall ./libpam-mytoken_*.deb   # in the directory of the packages",
                "dnf reinstall ./pam_mytoken-[0-9]*.rpm || dnf install ./pam_mytoken-[0-9]*.rpm   # in the directory of the packages",
                "zypper install --force ./pam_mytoken-[0-9]*.rpm   # in the directory of the packages",
            ),
            (
                kinds::CA_FILE,
                "apt install --reinstall ca-certificates && update-ca-certificates",
                "dnf reinstall ca-certificates && update-ca-trust",
                "zypper install --force ca-certificates && update-ca-certificates",
            ),
            (
                kinds_slurm::PAM_VERSION,
                "apt install --only-upgrade ./libpam-mytoken_*.deb ./mytokend_*.deb   # in the directory of the packages",
                "dnf upgrade ./pam_mytoken-[0-9]*.rpm ./mytokend-[0-9]*.rpm   # in the directory of the packages",
                "zypper install ./pam_mytoken-[0-9]*.rpm ./mytokend-[0-9]*.rpm   # in the directory of the packages",
            ),
            (
                kinds_slurm::PLUGIN_FILE,
                "apt install --reinstall ./slurm-spank-mytoken_*.deb   # in the directory of the packages",
                "dnf reinstall ./slurm-spank-mytoken-[0-9]*.rpm || dnf install ./slurm-spank-mytoken-[0-9]*.rpm   # in the directory of the packages",
                "zypper install --force ./slurm-spank-mytoken-[0-9]*.rpm   # in the directory of the packages",
            ),
            (
                kinds_slurm::PLUGIN_VERSION,
                "apt install --only-upgrade ./slurm-spank-mytoken_*.deb ./mytokend_*.deb   # in the directory of the packages",
                "dnf upgrade ./slurm-spank-mytoken-[0-9]*.rpm ./mytokend-[0-9]*.rpm   # in the directory of the packages",
                "zypper install ./slurm-spank-mytoken-[0-9]*.rpm ./mytokend-[0-9]*.rpm   # in the directory of the packages",
            ),
            (
                kinds_slurm::SELINUX_MODULE,
                kinds_slurm::SELINUX_MODULE.fix,
                "dnf install ./mytoken-selinux-[0-9]*.rpm   # in the directory of the packages",
                "zypper install ./mytoken-selinux-[0-9]*.rpm   # in the directory of the packages",
            ),
            (kinds::CLOCK, kinds::CLOCK.fix, kinds::CLOCK.fix, kinds::CLOCK.fix),
        ] {
            for (tool, command) in [(PackageTool::Apt, apt), (PackageTool::Dnf, dnf), (PackageTool::Zypper, zypper)] {
                assert_eq!(tool.fix(kind), command, "{tool:?}");
            }
        }
    }

    #[test]
    fn no_command_of_debian_is_left_on_another_system() {
        let foreign = |word: &str| ["apt", "dpkg", "pam-auth-update", "ssh", "libpam-mytoken"].contains(&word);
        for kind in kinds::ALL.iter().chain(kinds_slurm::ALL) {
            for tool in [PackageTool::Dnf, PackageTool::Zypper] {
                let command = tool.fix(*kind);
                let words = command.split('#').next().unwrap().split_whitespace();
                assert_eq!(words.filter(|word| foreign(word)).collect::<Vec<_>>(), [""; 0], "{}: {command}", kind.id);
            }
            let on_debian = PackageTool::Apt.fix(*kind);
            let words: Vec<&str> = on_debian.split_whitespace().collect();
            assert!(!words.contains(&"dnf") && !words.contains(&"zypper"), "{}: {on_debian}", kind.id);
        }
    }
}
