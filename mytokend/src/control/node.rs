// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl node`: the nodes that are enrolled at the broker on this host, and the enrolment of this host.

pub mod enrol;
pub mod list;

use std::path::Path;
use std::sync::Arc;

use mytoken::config::FileTrust;
use mytoken::private_files::Owner;
use mytoken::{Clock as _, SystemClock};
use zeroize::Zeroizing;

use crate::broker::identity::codes::Codes;
use crate::broker::identity::{NodeList, NodeName, Register, StateDir};
use crate::jobs::settings::JobsSettings;

/// What the broker on this host keeps about nodes.
pub struct BrokerNodes {
    register: Register,
    codes: Codes,
}

/// What was done with a node, or why not: a sentence.
pub type Outcome = Result<String, String>;

impl BrokerNodes {
    /// Opens the register and the codes of the broker on this host (root).
    ///
    /// # Errors
    /// A sentence: the caller is not root, this host is not a broker, or a file cannot be used.
    pub fn open(config: &Path) -> Result<Self, String> {
        as_root()?;
        Self::open_with(config, FileTrust::current())
    }

    fn open_with(config: &Path, trust: FileTrust) -> Result<Self, String> {
        let settings = JobsSettings::load_alone(config, trust).map_err(|error| error.to_string())?.broker;
        let key = &settings.ca_key_file;
        if !key.exists() {
            return Err(format!(
                "this host is not a broker: it has no {}; call this on each broker, each has a register of its own",
                key.display()
            ));
        }
        let state = StateDir::open_or_make(&settings.state_dir).map_err(|error| error.to_string())?;
        let register = state.register(Arc::new(SystemClock)).map_err(|error| error.to_string())?;
        Ok(Self { register, codes: state.codes().map_err(|error| error.to_string())? })
    }

    /// The nodes.
    #[must_use]
    pub fn list(&self) -> NodeList {
        self.register.list()
    }

    /// Removes nodes: their certificates are refused within seconds.
    #[must_use]
    pub fn remove(&self, nodes: &[NodeName]) -> Vec<Outcome> {
        // The code first: after the removal, it could bring back a key that has begun to use it.
        let forgotten = |node: &NodeName| self.codes.forget_used(node).and_then(|()| self.register.remove(node));
        let remove = |node: &NodeName| match forgotten(node) {
            Ok(true) => Ok(format!("{node}: removed; it can enrol again, with any key")),
            Ok(false) => Err(format!("{node}: it is not enrolled at this broker")),
            Err(error) => Err(format!("{node}: {error}")),
        };
        nodes.iter().map(remove).collect()
    }

    /// Keeps nodes out, whether they are enrolled or not.
    #[must_use]
    pub fn block(&self, nodes: &[NodeName]) -> Vec<Outcome> {
        let block = |node: &NodeName| match self.register.block(node) {
            Ok(()) => Ok(format!("{node}: blocked; to let it enrol again: mytokenctl node remove {node}")),
            Err(error) => Err(format!("{node}: {error}")),
        };
        nodes.iter().map(block).collect()
    }

    /// Makes a one-time code for a node, in place of a former one.
    ///
    /// # Errors
    /// A sentence. A node that could not use the code gets none.
    pub fn code(&self, node: &NodeName) -> Result<Zeroizing<String>, String> {
        let known = self.register.list().entries.into_iter().find(|entry| entry.node == *node);
        if known.is_some_and(|entry| entry.is_blocked()) {
            return Err(format!("{node} is blocked; to let it enrol again: mytokenctl node remove {node}"));
        }
        self.codes.issue(node, SystemClock.now()).map_err(|error| error.to_string())
    }
}

fn as_root() -> Result<(), String> {
    if Owner::current().uid == 0 { Ok(()) } else { Err("only root can do this".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::identity::{KeyHash, Proof, Repin};

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn site() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        let jobs =
            format!("[cluster]\nname = 'hpc'\n[broker]\nca_key_file = '{path}/ca.key'\nstate_dir = '{path}/state'\n");
        std::fs::write(dir.path().join("mytoken.toml"), "").unwrap();
        std::fs::write(dir.path().join("jobs.toml"), jobs).unwrap();
        dir
    }

    fn open(dir: &tempfile::TempDir) -> Result<BrokerNodes, String> {
        BrokerNodes::open_with(dir.path(), FileTrust::user(Owner::current().uid))
    }

    #[test]
    fn a_host_that_is_no_broker_is_told_and_left_as_it_is() {
        let dir = site();
        let refused = open(&dir).err().unwrap();
        assert!(refused.contains("not a broker") && refused.contains("ca.key"), "{refused}");
        assert!(!dir.path().join("state").exists());
    }

    #[test]
    fn nodes_are_removed_and_blocked_and_each_is_told() {
        let dir = site();
        std::fs::write(dir.path().join("ca.key"), "").unwrap();
        let nodes = open(&dir).unwrap();
        let key = KeyHash([7; 32]);
        nodes.register.pin(&node("n1"), key, Proof::Code, 1_900_000_000, Repin::Refused).unwrap();
        assert_eq!(
            nodes.remove(&[node("n1"), node("n2")]),
            [
                Ok("n1: removed; it can enrol again, with any key".to_owned()),
                Err("n2: it is not enrolled at this broker".to_owned())
            ]
        );
        assert!(nodes.block(&[node("n2")])[0].is_ok());
        // The broker reads the same files.
        let entries = open(&dir).unwrap().list().entries;
        assert_eq!(
            entries.iter().map(|entry| (entry.node.as_str(), entry.is_blocked())).collect::<Vec<_>>(),
            [("n2", true)]
        );
        assert!(nodes.code(&node("n2")).unwrap_err().contains("is blocked"));
        let code = nodes.code(&node("n1")).unwrap();
        let valid = nodes.codes.check(&node("n1"), &code, SystemClock.now()).unwrap();
        // The broker was killed between the two steps of an enrolment.
        nodes.codes.take(&node("n1"), valid, key).unwrap();
        assert!(nodes.remove(&[node("n1")])[0].is_err());
        assert!(nodes.codes.check(&node("n1"), &code, SystemClock.now()).is_err(), "the key does not come back");
    }
}
