// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which nodes are enrolled, and with which key: one file for each node.
//!
//! The files are the register; a broker keeps what they say in memory. Once a second, if a request comes, it looks at the time of the
//! directory's last change, beside the threads that answer requests: a disk that hangs keeps no enrolled node from its tokens.
//! `mytokenctl node remove` removes a file, which changes that time. A file that is changed in place, which this suite never does, is read
//! on [`Register::reload`] (SIGHUP).

mod decide;
mod entry;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use mytoken::ScheduleClock;
use mytoken::private_files::{Directory, FileError, Owner};

use super::key_hash::KeyHash;
use super::node_name::NodeName;
use scan::Followed;

pub use decide::{PinRefusal, Pinned, Repin, decide};
pub use entry::{NodeEntry, Origin, Proof};

/// Mode of the files.
const MODE: u32 = 0o600;

/// The enrolled nodes.
pub struct Register {
    directory: Directory,
    owner: Owner,
    clock: Arc<dyn ScheduleClock>,
    entries: RwLock<Entries>,
    /// Held by whoever reads or writes files, also while the disk hangs.
    followed: Mutex<Followed>,
    /// Why the directory could not be read.
    fault: Mutex<Option<FileError>>,
}

/// What the files say.
type Entries = BTreeMap<NodeName, Standing>;

/// What the file of a node says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Entry(NodeEntry),
    /// The file cannot be read. Nobody passes for this node, and nobody can enrol as it.
    Unreadable(String),
}

/// The nodes of the register.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeList {
    /// The nodes, sorted by name.
    pub entries: Vec<NodeEntry>,
    /// What cannot be read, the directory or a file: sentences.
    pub unreadable: Vec<String>,
}

impl Register {
    /// Reads the register in `directory`, of which the files belong to `owner`.
    ///
    /// # Errors
    /// [`FileError::Unusable`] if the directory cannot be read. A file that cannot be read is in [`Self::list`].
    pub fn open(directory: Directory, owner: Owner, clock: Arc<dyn ScheduleClock>) -> Result<Self, FileError> {
        let (entries, followed, fault) = (RwLock::default(), Mutex::default(), Mutex::default());
        let register = Self { directory, owner, clock, entries, followed, fault };
        register.reload()?;
        Ok(register)
    }

    /// Whether `node` is enrolled with this key. It reads memory, and about once a second the time of the directory's last change. If that
    /// has changed, one caller reads the files, which takes a tenth of a second for 10,000 nodes; the others go on with the former answer.
    #[must_use]
    pub fn is_pinned(&self, node: &NodeName, key: KeyHash) -> bool {
        self.follow();
        self.knows(node, key)
    }

    /// Whether `node` is enrolled with this key, as memory says. Whoever asks this calls [`Self::follow`] when [`Self::is_look_due`].
    #[must_use]
    pub fn knows(&self, node: &NodeName, key: KeyHash) -> bool {
        matches!(self.entries().get(node), Some(Standing::Entry(entry)) if entry.key == Some(key))
    }

    /// How and where a node has enrolled, as memory says. `None`: it is not enrolled.
    #[must_use]
    pub fn origin(&self, node: &NodeName) -> Option<Origin> {
        let entries = self.entries();
        let Some(Standing::Entry(NodeEntry { proof: Some(proof), address, .. })) = entries.get(node) else {
            return None;
        };
        Some(Origin { proof: proof.clone(), address: *address })
    }

    /// What [`Self::pin`] would do, without doing it. For a check before a one-time code is used up.
    ///
    /// # Errors
    /// [`PinRefusal`].
    pub fn would_pin(
        &self,
        node: &NodeName,
        key: KeyHash,
        proof: &Proof,
        ends: u64,
        repin: Repin,
    ) -> Result<Pinned, PinRefusal> {
        let _held = self.hold();
        let existing = self.read(node)?;
        decide(existing.as_ref(), node, key, proof, ends, repin)
    }

    /// Enrols `node` with this key. `origin` is how it proved its identity, and where; `ends` the last second of its certificate.
    ///
    /// # Errors
    /// [`PinRefusal`].
    pub fn pin(
        &self,
        node: &NodeName,
        key: KeyHash,
        origin: impl Into<Origin>,
        ends: u64,
        repin: Repin,
    ) -> Result<Pinned, PinRefusal> {
        let Origin { proof, address } = origin.into();
        let _held = self.hold();
        let existing = self.read(node)?;
        let pinned = decide(existing.as_ref(), node, key, &proof, ends, repin)?;
        let enrolled = self.clock.unix_millis() / 1000;
        let entry = NodeEntry {
            node: node.clone(),
            key: Some(key),
            enrolled,
            proof: Some(proof),
            certificate_ends: ends,
            address,
        };
        self.write(entry)?;
        Ok(pinned)
    }

    /// Notes the last second of a certificate that `node` has got for the key that is pinned. Returns whether it is pinned.
    ///
    /// # Errors
    /// [`PinRefusal`].
    pub fn renewed(&self, node: &NodeName, key: KeyHash, ends: u64) -> Result<bool, PinRefusal> {
        let _held = self.hold();
        match self.read(node)? {
            Some(entry) if entry.key == Some(key) => {
                self.write(NodeEntry { certificate_ends: ends, ..entry })?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Removes a node: its certificate is refused from now on, and it can enrol again with any key. Returns whether it was there. A broker
    /// in another process sees it within seconds.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn remove(&self, node: &NodeName) -> Result<bool, FileError> {
        let _held = self.hold();
        let removed = self.directory.remove(&entry::file_name(node))?;
        self.write_entries().remove(node);
        Ok(removed)
    }

    /// Keeps a node out: its certificate is refused, and it cannot enrol until it is removed from the register.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn block(&self, node: &NodeName) -> Result<(), FileError> {
        let _held = self.hold();
        let enrolled = self.clock.unix_millis() / 1000;
        self.write(NodeEntry {
            node: node.clone(),
            key: None,
            enrolled,
            proof: None,
            certificate_ends: 0,
            address: None,
        })
    }

    /// All nodes, as memory says.
    #[must_use]
    pub fn list(&self) -> NodeList {
        let fault = self.fault().as_ref().map(ToString::to_string);
        let mut list = NodeList { entries: Vec::new(), unreadable: fault.into_iter().collect() };
        for standing in self.entries().values() {
            match standing {
                Standing::Entry(entry) => list.entries.push(entry.clone()),
                Standing::Unreadable(reason) => list.unreadable.push(reason.clone()),
            }
        }
        list
    }

    /// Reads all files.
    ///
    /// # Errors
    /// [`FileError::Unusable`] if the directory cannot be read. What was known stays.
    pub fn reload(&self) -> Result<(), FileError> {
        let mut followed = self.hold();
        let read = self.scan(&mut followed);
        *self.fault() = read.as_ref().err().cloned();
        read
    }

    /// The file of a node as it is now.
    fn read(&self, node: &NodeName) -> Result<Option<NodeEntry>, PinRefusal> {
        let name = entry::file_name(node);
        let bytes = self.directory.read(&name, self.owner, MODE, entry::LIMIT)?;
        let read = bytes.map(|bytes| NodeEntry::parse(&bytes, node));
        read.transpose().map_err(|reason| self.unreadable(&name, &reason).into())
    }

    fn write(&self, entry: NodeEntry) -> Result<(), FileError> {
        let name = entry::file_name(&entry.node);
        self.directory.write_durably(&name, &entry.to_bytes(), self.owner, MODE)?;
        self.write_entries().insert(entry.node.clone(), Standing::Entry(entry));
        Ok(())
    }

    fn unreadable(&self, name: &str, reason: &str) -> FileError {
        FileError::Unusable { path: self.directory.path().join(name).display().to_string(), reason: reason.to_owned() }
    }

    fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_entries(&self) -> std::sync::RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> MutexGuard<'_, Option<FileError>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if the disk hung in another request, until the value is dropped.
    #[cfg(test)]
    pub(crate) fn hang(&self) -> impl Sized {
        self.hold()
    }
}

/// Time between two looks at the directory.
const LOOK: Duration = Duration::from_secs(1);
