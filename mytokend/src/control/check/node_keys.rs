// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command that gives two hosts the same keys.

use std::path::{Path, PathBuf};

use super::configuration::{exists, word};
use super::keys::{fetch, keep};
use crate::agent::process;
use crate::control::arguments::Launcher;
use crate::jobs::settings::JobsSettings;

/// The keys of this host, at the configured paths.
#[derive(Debug, Clone)]
pub(super) struct CopyKeys {
    public: PathBuf,
    /// `None` with brokers: only they may have it.
    private: Option<PathBuf>,
    /// The private key is on this host.
    has_private: bool,
    /// slurmd runs on this host.
    is_node: bool,
}

impl CopyKeys {
    pub(super) fn of(jobs: &JobsSettings) -> Self {
        let private = &jobs.cluster.private_key_file;
        Self {
            public: jobs.cluster.public_key_file.clone(),
            has_private: exists(private),
            private: (!jobs.broker.is_used()).then(|| private.clone()),
            is_node: !process::named("slurmd").is_empty(),
        }
    }

    /// The command for `host`, which has another key. `is_outvoted`: more hosts have its key than that of this host.
    pub(super) fn command(&self, host: &str, launcher: Launcher, is_outvoted: bool) -> String {
        // Of two keys, a broker's is the right one.
        let is_broker = self.private.is_none() && self.has_private;
        if is_outvoted && !is_broker { self.take(host, launcher) } else { self.give(host, launcher) }
    }

    /// Only nodes may have the private key. srun reaches nothing else; what ssh reaches may be a login host, and its own word on this
    /// does not count.
    fn give(&self, host: &str, launcher: Launcher) -> String {
        let copy = |file: &Path| {
            let file = word(&file.to_string_lossy());
            format!("scp -p {file} {host}:{file}")
        };
        let public = format!("ssh {host} {} && {}", word(&keep(&self.public)), copy(&self.public));
        let Some(private) = &self.private else {
            return format!("{public}   # from a host with the brokers' key");
        };
        match launcher {
            // The private key first: where it is not here, the other host stays as it is.
            Launcher::Srun => format!(
                "ssh {host} {} && {} && {public} && ssh {host} systemctl reload mytokend   # from a node with the right pair",
                word(&keep(private)),
                copy(private)
            ),
            Launcher::Ssh => format!(
                "{public}   # from a host with the right key. Only if slurmd runs on {host}, it also needs {} (mode 0600), then: systemctl reload mytokend",
                word(&private.to_string_lossy())
            ),
        }
    }

    /// The other way round: this host alone has its key, as after `mytokenctl keygen` on a further host of a cluster.
    fn take(&self, host: &str, launcher: Launcher) -> String {
        let public = fetch(host, &self.public);
        let why = format!("   # most hosts have the key of {host}");
        let Some(private) = &self.private else { return format!("{public}{why}") };
        let key = word(&private.to_string_lossy());
        match (self.is_node, launcher) {
            (true, Launcher::Srun) => {
                format!("{} && {public} && systemctl reload mytokend{why}", fetch(host, private))
            }
            (true, Launcher::Ssh) => {
                format!(
                    "{public}{why}. slurmd runs here, so copy {key} from a node, too, then: systemctl reload mytokend"
                )
            }
            (false, _) if self.has_private => {
                let away = word(&format!("{}.before", private.to_string_lossy()));
                format!(
                    "{public} && {{ test ! -e {key} || mv --backup=numbered {key} {away}; }} && systemctl restart mytokend{why}, and without slurmd this host needs no private key"
                )
            }
            (false, _) => format!("{public}{why}"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The keys of a node.
    pub(in crate::control::check) fn keys() -> CopyKeys {
        CopyKeys { public: "/srv/a b.pub".into(), private: Some("/srv/x.key".into()), has_private: true, is_node: true }
    }

    fn with_brokers(has_private: bool) -> CopyKeys {
        CopyKeys { private: None, has_private, is_node: false, ..keys() }
    }

    const KEPT: &str = "{ test ! -e /srv/x.key || cp -p --backup=numbered /srv/x.key /srv/x.key.before; }";

    #[test]
    fn the_private_key_is_given_to_nodes_only_and_theirs_is_kept() {
        let to_node = keys().command("n1", Launcher::Srun, false);
        let begin = format!("ssh n1 '{KEPT}' && scp -p /srv/x.key n1:/srv/x.key && ssh n1 ");
        assert!(to_node.starts_with(&begin), "{to_node}");
        let end = " && scp -p '/srv/a b.pub' n1:'/srv/a b.pub' && ssh n1 systemctl reload mytokend   # from a node with the right pair";
        assert!(to_node.ends_with(end), "{to_node}");
        let to_host = keys().command("n1", Launcher::Ssh, false);
        let (command, words) = to_host.split_once("   # ").unwrap();
        assert!(command.ends_with(" && scp -p '/srv/a b.pub' n1:'/srv/a b.pub'"), "{command}");
        assert!(!command.contains("x.key"), "{command}");
        assert!(words.contains("Only if slurmd runs on n1, it also needs /srv/x.key"), "{words}");
    }

    #[test]
    fn the_host_that_differs_from_most_takes_their_key() {
        let node = keys().command("n1", Launcher::Srun, true);
        assert!(node.starts_with(&format!("{KEPT} && scp -p n1:/srv/x.key /srv/x.key && ")), "{node}");
        assert!(
            node.contains(" && scp -p n1:'/srv/a b.pub' '/srv/a b.pub' && systemctl reload mytokend   # "),
            "{node}"
        );
        let submit = CopyKeys { is_node: false, ..keys() };
        let made_by_mistake = submit.command("n1", Launcher::Srun, true);
        assert!(made_by_mistake.contains("mv --backup=numbered /srv/x.key /srv/x.key.before; }"), "{made_by_mistake}");
        assert!(!made_by_mistake.contains("scp -p n1:/srv/x.key"), "{made_by_mistake}");
        let without = CopyKeys { has_private: false, ..submit }.command("n1", Launcher::Srun, true);
        assert!(!without.contains("x.key"), "{without}");
    }

    #[test]
    fn with_brokers_no_other_host_gets_the_private_key() {
        for launcher in [Launcher::Srun, Launcher::Ssh] {
            for (has_private, is_outvoted) in [(true, false), (true, true), (false, false)] {
                let given = with_brokers(has_private).command("n1", launcher, is_outvoted);
                assert!(
                    given.starts_with("ssh n1 ") && given.ends_with("# from a host with the brokers' key"),
                    "{given}"
                );
                assert!(!given.contains("x.key"), "{given}");
            }
            let taken = with_brokers(false).command("n1", launcher, true);
            assert!(taken.contains("scp -p n1:'/srv/a b.pub' ") && !taken.contains("x.key"), "{taken}");
        }
    }
}
