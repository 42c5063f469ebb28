// SPDX-License-Identifier: MIT OR Apache-2.0
//! What agent and broker tell of themselves while they run, compared with this program and with the cluster's keys in this host's files.

use std::path::Path;

use mytoken::config::FileTrust;
use mytoken::time_format::utc_minute;
use mytoken_wire::printable;

use super::kinds::Kind;
use super::{Findings, kinds_broker as broker, kinds_slurm as agent};
use crate::jobs::further_keys;
use crate::jobs::keys::{PrivateKey, PublicKey};
use crate::jobs::settings::ClusterSettings;

/// The version of this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Longest reason of a program, in characters.
const REASON: usize = 500;

/// A program that runs, and the kinds of its findings.
#[derive(Clone, Copy)]
pub(super) struct Running {
    /// Its name in a sentence.
    name: &'static str,
    /// It is of another version.
    pub(super) version: Kind,
    /// It cannot open what is submitted now.
    pub(super) key: Kind,
    /// It has not read another key that is on disk.
    unread: Kind,
    /// It refused the last reload.
    refused: Kind,
}

impl Running {
    /// The agent.
    pub(super) fn agent(systemd: bool) -> Self {
        let of = |kind| on_host(kind, systemd);
        Self {
            name: "agent",
            version: of(agent::AGENT_VERSION),
            key: of(agent::AGENT_KEY),
            unread: of(agent::AGENT_KEY_UNREAD),
            refused: of(agent::AGENT_RELOAD),
        }
    }

    /// The broker.
    pub(super) fn broker(systemd: bool) -> Self {
        let of = |kind| on_host(kind, systemd);
        Self {
            name: "broker",
            version: of(broker::BROKER_VERSION),
            key: of(broker::BROKER_KEY),
            unread: of(broker::BROKER_KEY_UNREAD),
            refused: of(broker::BROKER_RELOAD),
        }
    }
}

/// The ids of the cluster's keys in this host's files. `None` and none are those that cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeysOnDisk {
    /// Of the public key, to which submissions are sealed.
    pub(super) public: Option<String>,
    /// Of the private key.
    pub(super) private: Option<String>,
    /// Of the further private keys.
    pub(super) further: Vec<String>,
}

impl KeysOnDisk {
    /// Those of this host.
    pub(super) fn of(cluster: &ClusterSettings, trust: FileTrust) -> Self {
        let further = further_keys::load(&cluster.private_key_file, trust).keys;
        Self {
            public: PublicKey::load(&cluster.public_key_file, trust).ok().map(|key| key.id().to_owned()),
            private: PrivateKey::load(&cluster.private_key_file, trust).ok().map(|key| key.id().to_owned()),
            further: further.iter().map(|(_, key)| key.id().to_owned()).collect(),
        }
    }

    /// Whether the private key with this id is here.
    pub(super) fn opens(&self, id: &str) -> bool {
        self.private_ids().any(|own| own == id)
    }

    /// The id of the key pair in use. If the public key has no private key here, the files are wrong, which is a finding of its own, and the
    /// private key counts. Who cannot read the private key takes the public one.
    pub(super) fn of_pair(&self) -> Option<&str> {
        let public = self.public.as_deref().filter(|id| self.private.is_none() || self.opens(id));
        public.or(self.private.as_deref())
    }

    fn private_ids(&self) -> impl Iterator<Item = &str> {
        self.private.iter().chain(&self.further).map(String::as_str)
    }
}

impl Findings {
    /// Compares the version that a program tells. The first ones told none.
    pub(super) fn running_version(&mut self, of: Running, version: Option<&str>) {
        if version == Some(VERSION) {
            return;
        }
        let version = version
            .map_or_else(|| "an older version".to_owned(), |version| format!("version {}", printable(version, 50)));
        self.add_kind(of.version, format!("the {} is of {version}, mytokenctl of {VERSION}", of.name));
    }

    /// Compares the keys that a program has loaded. `sealed`: the key of what is submitted now, and the command if the program lacks it.
    pub(super) fn running_keys(
        &mut self,
        of: Running,
        loaded: &[String],
        disk: &KeysOnDisk,
        sealed: Option<(&str, String)>,
    ) {
        let is_loaded = |id: &str| loaded.iter().any(|known| known == id);
        let (name, has) = (of.name, loaded.join(" "));
        match sealed {
            Some((id, fix)) if !is_loaded(id) => {
                let text = format!(
                    "the {name} has key {has}, the files have key {id}: jobs that are submitted now get no token"
                );
                self.add_fixed(of.key, text, fix);
            }
            // The command of the other finding has them read, too.
            _ => {
                let unread: Vec<&str> = disk.private_ids().filter(|id| !is_loaded(id)).collect();
                if !unread.is_empty() {
                    let text = format!(
                        "the {name} has key {has}, and has not read {}, which is on disk: jobs that are sealed to it get no token",
                        unread.join(" ")
                    );
                    self.add_kind(of.unread, text);
                }
            }
        }
    }

    /// Tells that a program goes on as before its last reload. `time`: when it refused it, Unix seconds.
    pub(super) fn refused_reload(&mut self, of: Running, time: Option<u64>, reason: &str) {
        let when = time.map_or_else(String::new, |time| format!(" at {}", utc_minute(time)));
        let text = format!(
            "the {} goes on with its earlier configuration and keys, because the reload{when} was refused: {}",
            of.name,
            printable(reason, REASON)
        );
        self.add_kind(of.refused, text);
    }
}

/// Whether systemd runs services here.
pub(super) fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// The kind with a command for this host.
pub(super) fn on_host(kind: Kind, systemd: bool) -> Kind {
    if systemd { kind } else { without_systemd(kind) }
}

/// The same finding with a command for hosts without systemd. A broker has the same program name as an agent.
fn without_systemd(kind: Kind) -> Kind {
    let is = |others: &[Kind]| others.iter().any(|other| other.id == kind.id);
    let fix = if is(&[agent::AGENT_DOWN]) {
        "setsid --fork mytokend agent   # as root, and at every start of this host"
    } else if is(&[agent::AGENT_KEY, agent::AGENT_KEY_UNREAD]) {
        "pkill -HUP -x mytokend"
    } else if is(&[agent::AGENT_RELOAD]) {
        "mytokend agent --check && pkill -HUP -x mytokend   # the check says what is still wrong"
    } else if is(&[broker::BROKER_KEY, broker::BROKER_KEY_UNREAD]) {
        "pkill -HUP -f '^[^ ]*mytokend broker'"
    } else if is(&[broker::BROKER_RELOAD]) {
        "mytokend broker --check && pkill -HUP -f '^[^ ]*mytokend broker'   # the check says what is still wrong"
    } else if is(&[broker::BROKER_VERSION]) {
        // The broker that ends holds the lock of its directory until then.
        "while pkill -f '^[^ ]*mytokend broker'; do sleep 1; done; setsid --fork mytokend broker   # as root"
    } else {
        "while pkill -f '^[^ ]*mytokend agent'; do sleep 1; done; setsid --fork mytokend agent   # as root"
    };
    Kind { fix, ..kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pair_in_use_is_that_of_submissions_if_it_can_be_opened() {
        let of = |public: Option<&str>, private: Option<&str>, further: &[&str]| {
            let further = further.iter().map(ToString::to_string).collect();
            KeysOnDisk { public: public.map(str::to_owned), private: private.map(str::to_owned), further }
        };
        for (disk, pair) in [
            (of(Some("a"), Some("a"), &[]), Some("a")),
            // The key is being replaced.
            (of(Some("a"), Some("a"), &["b"]), Some("a")),
            (of(Some("b"), Some("a"), &["b"]), Some("b")),
            // Files of two pairs.
            (of(Some("b"), Some("a"), &[]), Some("a")),
            // An ordinary user.
            (of(Some("a"), None, &[]), Some("a")),
            (of(None, Some("a"), &[]), Some("a")),
            (of(None, None, &[]), None),
        ] {
            assert_eq!(disk.of_pair(), pair, "{disk:?}");
        }
    }
}
