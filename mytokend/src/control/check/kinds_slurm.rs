// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of findings about the agent, the plugin, Slurm and the host. An id never changes its meaning: scripts compare it.

use super::Severity;
use super::kinds::{Kind, kinds};

kinds! {
    /// The agent does not answer.
    AGENT_DOWN: "agent-not-running", "agent", Error, "systemctl enable --now mytokend";
    /// The agent's answer is not understood.
    AGENT_PROTOCOL: "agent-protocol", "agent", Error, "systemctl restart mytokend";
    /// The agent is of another version than this program.
    AGENT_VERSION: "agent-version", "agent", Warning, "systemctl restart mytokend";
    /// The agent does not have the cluster's key that is on disk.
    AGENT_KEY: "agent-key", "agent", Error, "systemctl reload mytokend";
    /// The agent has not loaded a further private key that is on disk.
    AGENT_KEY_UNREAD: "agent-key-not-read", "agent", Warning, "systemctl reload mytokend";
    /// The agent refused its last reload, and goes on as before.
    AGENT_RELOAD: "agent-reload-refused", "agent", Warning, "mytokend agent --check && systemctl reload mytokend   # the check says what is still wrong";
    /// The agent has a key, but its file is gone.
    AGENT_KEY_FILE: "agent-key-file", "agent", Warning, "";
    /// The agent's service runs, and would not start at the next boot.
    AGENT_BOOT: "agent-not-enabled", "agent", Warning, "systemctl enable mytokend";
    /// Users cannot connect to the agent.
    AGENT_SOCKET: "agent-socket-mode", "agent", Warning, "systemctl restart mytokend";
    /// Users cannot reach their token files.
    RUNTIME_DIR_MODE: "runtime-dir-mode", "runtime", Error, "systemctl restart mytokend";
    /// Others than root can change what is in the directory of the tokens.
    RUNTIME_DIR_OPEN: "runtime-dir-writable", "runtime", Error, "";
    /// Tokens are written to a disk.
    RUNTIME_DIR_DISK: "runtime-dir-on-disk", "runtime", Warning, "grep -rn runtime_dir /etc/mytoken   # choose a directory below /run";
    /// The agent keeps leases, or records of jobs, that it cannot read. Their sub-tokens are not revoked until a version reads them.
    LEASES_UNREADABLE: "leases-unreadable", "runtime", Warning, "ls -l /run/mytoken/unreadable   # the agent's log says what is wrong with each";
    /// The PAM module is of another version than this program.
    PAM_VERSION: "pam-module-version", "PAM", Warning, "apt install --only-upgrade ./libpam-mytoken_*.deb ./mytokend_*.deb   # in the directory of the packages";
    /// Slurm's programs are not at the usual paths.
    SLURM_MISSING: "slurm-missing", "Slurm", Warning, "";
    /// slurmctld does not answer.
    SLURM_CONTROLLER: "slurm-controller", "Slurm", Warning, "scontrol ping";
    /// slurmdbd keeps the environment of every job.
    SLURM_JOB_ENV: "slurm-job-env", "Slurm", Warning, "";
    /// Jobs have a `/run` of their own.
    SLURM_RUN_HIDDEN: "slurm-run-hidden", "Slurm", Error, "";
    /// The plugin's file is not in `PluginDir`.
    PLUGIN_FILE: "plugin-file", "Slurm plugin", Error, "apt install --reinstall ./slurm-spank-mytoken_*.deb   # in the directory of the packages";
    /// No line of plugstack.conf loads the plugin.
    PLUGIN_LINE: "plugin-line", "Slurm plugin", Error, "";
    /// Slurm does not load the plugin although file and line are there.
    PLUGIN_NOT_LOADED: "plugin-not-loaded", "Slurm plugin", Error, "srun --help | grep -A4 mytoken";
    /// The plugin's line has an argument that the plugin does not accept.
    PLUGIN_ARGUMENT: "plugin-argument", "Slurm plugin", Error, "";
    /// srun of ordinary users does not load the plugin, and that of root does.
    PLUGIN_USERS: "plugin-users", "Slurm plugin", Error, "";
    /// The plugin's line says `required`.
    PLUGIN_REQUIRED: "plugin-required", "Slurm plugin", Warning, "";
    /// The plugin's line does not reach hosts without configuration files.
    PLUGIN_CONFIGLESS: "plugin-configless", "Slurm plugin", Warning, "";
    /// More than one line loads the plugin: Slurm calls its hooks once for each.
    PLUGIN_TWICE: "plugin-twice", "Slurm plugin", Warning, "";
    /// `default=` names a profile that jobs.toml does not have.
    PLUGIN_DEFAULT_PROFILE: "plugin-default-profile", "Slurm plugin", Error, "mytokenctl profile list   # the names; plugstack.conf must have one of them";
    /// `default=` switches the `[[default]]` tables of jobs.toml off.
    PLUGIN_DEFAULT_OFF: "plugin-default-off", "Slurm plugin", Warning, "";
    /// jobs.toml names a partition that the cluster does not have.
    SLURM_PARTITION: "slurm-partition", "Slurm", Warning, "sinfo --all --format=%R   # the partitions";
    /// Submissions that name no partition do not get the default of the one to which they go.
    SLURM_DEFAULT_PARTITION: "slurm-default-partition", "Slurm", Warning, "${EDITOR:-vi} /etc/mytoken/jobs.toml   # [cluster] default_partition";
    /// The plugin is of another version than this program.
    PLUGIN_VERSION: "plugin-version", "Slurm plugin", Warning, "apt install --only-upgrade ./slurm-spank-mytoken_*.deb ./mytokend_*.deb   # in the directory of the packages";
    /// slurmd was started before the plugin was there.
    SLURMD_STARTED_EARLIER: "slurmd-without-plugin", "Slurm plugin", Warning, "systemctl restart slurmd   # jobs go on";
    /// slurmd was started before the plugin was upgraded.
    SLURMD_BEFORE_UPGRADE: "slurmd-before-upgrade", "Slurm plugin", Warning, "systemctl restart slurmd   # jobs go on";
    /// Another host gave no findings.
    NODE_SILENT: "node-silent", "hosts", Warning, "";
    /// Another host has another version.
    NODE_VERSION: "node-version", "hosts", Warning, "";
    /// Another host has another key pair.
    NODE_KEY: "node-key", "hosts", Error, "";
    /// Another host has a finding that this version does not know.
    NODE_UNKNOWN: "node-finding-unknown", "hosts", Warning, "";
    /// Another host has more findings than are shown.
    NODE_MORE: "node-more-findings", "hosts", Warning, "";
    /// On another host it was not root who checked.
    NODE_IN_PART: "node-in-part", "hosts", Warning, "";
    /// There was no time for some of the other hosts.
    NODE_NOT_ASKED: "node-not-asked", "hosts", Warning, "mytokenctl check --nodes LIST   # with parts of the list";
    /// slurmd runs here, and the agent cannot open credentials.
    NODE_WITHOUT_KEY: "node-without-key", "private key", Error, "";
    /// `SELinux` enforces a policy without the module.
    SELINUX_MODULE: "selinux-module", "SELinux", Warning, "semodule -i mytoken.cil   # from packaging/selinux of the source: Debian has no package of it";
    /// `SELinux` does not let sshd connect to the token servers, or to the proxy: a boolean of the module is off.
    SELINUX_BOOLEAN: "selinux-boolean", "SELinux", Warning, "";
    /// `SELinux` does not let sshd use the files of the last logins, which `key_logins` needs: their directory is missing or has another label.
    SELINUX_LABEL: "selinux-label", "SELinux", Error, "install -d -m 0755 /var/lib/mytoken && restorecon -R /var/lib/mytoken";
    /// `AppArmor` confines a program that the product needs.
    APPARMOR_PROFILE: "apparmor-profile", "AppArmor", Warning, "aa-status   # the profile must allow /etc/mytoken and /run/mytoken, and for sshd the network";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::check::{kinds, kinds_user};

    #[test]
    fn ids_are_different_and_every_problem_has_a_command_or_says_none() {
        let mut ids: Vec<&str> = ALL.iter().chain(kinds::ALL).chain(kinds_user::ALL).map(|kind| kind.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ALL.len() + kinds::ALL.len() + kinds_user::ALL.len());
        // The command of the others depends on what was found.
        let computed = [
            "agent-key-file",
            "plugin-argument",
            "plugin-line",
            "plugin-configless",
            "plugin-twice",
            "plugin-users",
            "plugin-required",
            "plugin-default-off",
            "slurm-job-env",
            "slurm-run-hidden",
            "slurm-missing",
            "node-silent",
            "node-version",
            "node-key",
            "node-finding-unknown",
            "node-more-findings",
            "node-in-part",
            "node-without-key",
            "selinux-boolean",
            "runtime-dir-writable",
        ];
        for kind in ALL.iter().filter(|kind| kind.fix.is_empty()) {
            assert!(computed.contains(&kind.id), "{}", kind.id);
        }
    }
}
