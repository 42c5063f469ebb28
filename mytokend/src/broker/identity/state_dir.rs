// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directory `broker.state_dir`: on a broker which nodes are enrolled and the one-time codes, on a node its key and its certificate.

use std::path::Path;
use std::sync::Arc;

use mytoken::config::FileTrust;
use mytoken::private_files::{Directory, FileError, Owner};
use mytoken::{Error, ScheduleClock};

use super::codes::Codes;
use super::node_files::NodeFiles;
use super::node_name::NodeName;
use super::register::Register;
use crate::broker::escrow::Escrow;
use crate::broker::replacements::Replacements;
use crate::directories::open_or_make;

/// Name of the directory with the register.
pub const NODES: &str = "nodes";
/// Name of the directory with the one-time codes.
pub const CODES: &str = "codes";

/// Name of the directory with the sealed credentials of submissions.
pub const ESCROW: &str = "escrow";

/// Name of the directory with new credentials for jobs that wait.
pub const REPLACEMENTS: &str = "replacements";

/// Mode of all.
const MODE: u32 = 0o700;

/// The directory.
#[derive(Debug)]
pub struct StateDir(Directory);

impl StateDir {
    /// Opens the directory, and makes it if it is missing.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn open_or_make(path: &Path) -> Result<Self, Error> {
        open_or_make(path, Owner::current()).map(Self)
    }

    /// Opens the directory, which must be there.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let real = FileTrust::user(Owner::current().uid).directory(path)?;
        Ok(Self(Directory::open(&real)?))
    }

    /// The enrolled nodes.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn register(&self, clock: Arc<dyn ScheduleClock>) -> Result<Register, FileError> {
        let me = Owner::current();
        Register::open(self.0.make(NODES, me, MODE)?, me, clock)
    }

    /// The one-time codes.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn codes(&self) -> Result<Codes, FileError> {
        let me = Owner::current();
        Ok(Codes::new(self.0.make(CODES, me, MODE)?, me))
    }

    /// The sealed credentials of submissions that wait for their jobs.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn escrow(&self) -> Result<Escrow, FileError> {
        let me = Owner::current();
        Escrow::open(self.0.make(ESCROW, me, MODE)?, me)
    }

    /// New credentials for jobs that wait, and what is wrong with files that cannot be read.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn replacements(&self) -> Result<(Replacements, Vec<String>), FileError> {
        let me = Owner::current();
        Replacements::open(self.0.make(REPLACEMENTS, me, MODE)?, me)
    }

    /// The directory with those, as it is: nothing is made or changed. `None` if there is none.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn look_at_escrow(&self) -> Result<Option<Directory>, FileError> {
        if self.0.has(ESCROW)? { self.0.enter(ESCROW, Owner::current(), MODE).map(Some) } else { Ok(None) }
    }

    /// Key and certificate of this host, which is `node`.
    #[must_use]
    pub fn node_files(self, node: NodeName) -> NodeFiles {
        NodeFiles::new(self.0, node)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use mytoken::SystemClock;

    use super::*;

    #[test]
    fn missing_directories_are_made_and_only_root_reads_those_of_a_broker() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lib/mytoken");
        let state = StateDir::open_or_make(&path).unwrap();
        let node: NodeName = "n1".parse().unwrap();
        state.register(Arc::new(SystemClock)).unwrap().block(&node).unwrap();
        let _code = state.codes().unwrap().issue(&node, 1_800_000_000).unwrap();
        StateDir::open_or_make(&path).unwrap().node_files(node).load().unwrap();
        let mode = |name: &str| std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!([".", NODES, CODES].map(mode), [0o755, 0o700, 0o700]);
        assert_eq!(["nodes/n1.json", "codes/n1.json", "node.key"].map(mode), [0o600; 3]);
    }
}
