// SPDX-License-Identifier: MIT OR Apache-2.0
//! Submissions in a loop share a credential.
//!
//! The mytoken server counts requests per address, and a cluster often has one address. A loop of 300 submissions would use up the limit of
//! everybody. So the fourth submission within a minute makes a credential that the next ones use too, for `submit.share_for`. The file
//! holds ciphertext and handle, as the job's environment does, and never a sub-token. It is in the user's own cache directory.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use mytoken::Deadline;
use mytoken::private_files::{Directory, FileError, Lock, Owner, lock};
use mytoken_wire::{Handle, sealed};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many submissions within [`RECENT`] seconds have a credential of their own.
const SINGLE: usize = 3;

/// Seconds during which a submission counts.
const RECENT: u64 = 60;

/// How many kinds of submissions are remembered: profiles and logins.
const ENTRIES: usize = 16;

/// Largest file.
const LIMIT: usize = 512 * 1024;

const DIRECTORY: &str = "submissions";

const FILE: &str = "shared.json";

/// Pause between two attempts to get the lock.
const LOCK_POLL: std::time::Duration = std::time::Duration::from_millis(2);

/// What must be the same for two submissions that share a credential.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// Id of the cluster's key.
    pub key: &'a str,
    /// Name of the cluster.
    pub cluster: &'a str,
    /// URL of the mytoken server.
    pub server: &'a str,
    /// Name, scopes, audience and hosts of the profile.
    pub profile: &'a str,
    /// Which mytoken is the parent. A rotation does not change it.
    pub parent: &'a str,
    /// Whether the job requires its credential.
    pub required: bool,
    /// The host since its start, because the times in the file are those of its clock.
    pub boot: &'a str,
}

impl Binding<'_> {
    /// A text that differs for different values and shows none of them.
    fn digest(&self) -> String {
        let required = if self.required { "required" } else { "" };
        let mut digest = Sha256::new();
        for part in [self.key, self.cluster, self.server, self.profile, self.parent, required, self.boot] {
            digest.update(part.len().to_be_bytes());
            digest.update(part.as_bytes());
        }
        mytoken_wire::hex::encode(&digest.finalize())
    }
}

/// A credential that is shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedCredential {
    /// For `SLURM_MYTOKEN`.
    pub sealed: String,
    /// For `MYTOKEN_H`.
    pub handle: String,
    /// What the user must know about it, at each submission.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl SharedCredential {
    /// Whether both have their form: a damaged file must not reach a job.
    fn is_well_formed(&self) -> bool {
        sealed::parse(&self.sealed).is_ok() && Handle::parse(&self.handle).is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    binding: String,
    /// Begins of submissions with their own credential, in seconds since boot.
    begins: Vec<u64>,
    /// When the shared credential was made, in seconds since boot.
    made: u64,
    shared: Option<SharedCredential>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Entries {
    entries: Vec<Entry>,
}

/// How a submission gets its credential.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// A new one for itself.
    Own,
    /// A new one for itself and the next ones.
    New,
    /// The one that an earlier submission made.
    Shared(SharedCredential),
}

impl Entries {
    /// Reads the file. A damaged one is empty.
    fn parse(bytes: Option<&[u8]>) -> Self {
        bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
    }

    /// Removes what is too old to matter. `uptime` is seconds since boot.
    fn forget(&mut self, uptime: u64, share_for: u64) {
        for entry in &mut self.entries {
            entry.begins.retain(|begin| (uptime.saturating_sub(RECENT)..=uptime).contains(begin));
            if !(entry.made..entry.made.saturating_add(share_for)).contains(&uptime) {
                entry.shared = None;
            }
        }
        self.entries.retain(|entry| !entry.begins.is_empty() || entry.shared.is_some());
    }

    /// Decides for a submission, and counts it.
    fn choose(&mut self, binding: &str, uptime: u64, share_for: u64) -> Choice {
        self.forget(uptime, share_for);
        let mut entry = self.take(binding);
        let choice = match entry.shared.as_ref().filter(|shared| shared.is_well_formed()) {
            Some(shared) => Choice::Shared(shared.clone()),
            None if entry.begins.len() >= SINGLE => Choice::New,
            None => {
                entry.begins.push(uptime);
                Choice::Own
            }
        };
        self.put(entry);
        choice
    }

    /// Stores a credential that was made after [`Choice::New`].
    fn keep(&mut self, binding: &str, shared: SharedCredential, uptime: u64) {
        let entry = self.take(binding);
        // The loop goes on: the next window begins with a shared credential again.
        self.put(Entry { begins: vec![uptime; SINGLE], made: uptime, shared: Some(shared), ..entry });
    }

    fn take(&mut self, binding: &str) -> Entry {
        match self.entries.iter().position(|entry| entry.binding == binding) {
            Some(found) => self.entries.remove(found),
            None => Entry { binding: binding.to_owned(), begins: Vec::new(), made: 0, shared: None },
        }
    }

    /// Puts an entry to the front. The one that was not used for the longest time goes.
    fn put(&mut self, entry: Entry) {
        self.entries.insert(0, entry);
        self.entries.truncate(ENTRIES);
    }
}

/// The locked file of shared credentials.
struct LockedFile {
    directory: Directory,
    _lock: Lock,
}

impl LockedFile {
    fn open(home: &Path, deadline: Deadline) -> Option<Self> {
        let owner = Owner::current();
        let above =
            mytoken::cache::USER_DIRECTORY.split('/').try_fold(Directory::open(home).ok()?, |above, name| {
                // `.cache` is the user's: its mode stays as it is.
                above.step(name).or_else(|_| above.make(name, owner, 0o700)).ok()
            })?;
        let directory = above.make(DIRECTORY, owner, 0o700).ok()?;
        let handle = directory.handle().try_clone().ok()?;
        let lock = lock(handle, deadline, LOCK_POLL).ok()?;
        Some(Self { directory, _lock: lock })
    }

    fn read(&self) -> Entries {
        let bytes = self.directory.read(FILE, Owner::current(), 0o600, LIMIT).ok().flatten();
        Entries::parse(bytes.as_ref().map(|bytes| bytes.as_slice()))
    }

    fn write(&self, entries: &Entries) -> Result<(), FileError> {
        let bytes = serde_json::to_vec(entries).unwrap_or_default();
        self.directory.write_locked(FILE, &bytes, Owner::current(), 0o600)
    }
}

/// How a submission gets its credential.
pub enum Share {
    /// It makes one for itself.
    Own,
    /// It makes one for itself and the next ones. They wait meanwhile.
    New(SharePlace),
    /// It uses one that an earlier submission made.
    Shared(SharedCredential),
}

/// The place for a shared credential, which is being made.
pub struct SharePlace {
    file: LockedFile,
    binding: String,
}

impl Share {
    /// Decides for a submission. A cache that cannot be used is no error: the submission makes its own credential.
    #[must_use]
    pub fn find(home: Option<&Path>, binding: &Binding<'_>, share_for: u64, deadline: Deadline) -> Self {
        // The path of a home directory often contains a symbolic link of the administrator.
        let home = home.and_then(|home| home.canonicalize().ok()).filter(|_| share_for > 0);
        // While another submission makes the shared credential, this one waits. Without it, it needs the other half of its time for its own.
        let half = deadline.at_most(deadline.remaining().unwrap_or_default() / 2);
        let Some(file) = home.and_then(|home| LockedFile::open(&home, half)) else { return Self::Own };
        let (mut entries, binding) = (file.read(), binding.digest());
        let choice = entries.choose(&binding, mytoken_wire::clock::uptime(), share_for);
        match choice {
            Choice::Shared(shared) => Self::Shared(shared),
            Choice::New => Self::New(SharePlace { file, binding }),
            Choice::Own => {
                let _ = file.write(&entries);
                Self::Own
            }
        }
    }
}

impl SharePlace {
    /// Stores the credential after its submission has taken it. If it cannot be stored, the next submission makes its own.
    pub fn keep(self, shared: SharedCredential) {
        let mut entries = self.file.read();
        entries.keep(&self.binding, shared, mytoken_wire::clock::uptime());
        let _ = self.file.write(&entries);
    }
}

/// Later submissions do not share what is shared now: the user is about to revoke a credential, and nobody here knows which. Returns
/// whether that is sure at the deadline: a home directory that hangs must not stop the revocation.
#[must_use]
pub fn forget_shared(home: Option<PathBuf>, deadline: Deadline) -> bool {
    let (send, receive) = mpsc::channel();
    let started = thread::Builder::new().spawn(move || {
        // Nobody may wait any more.
        let _ = send.send(forget(home.as_deref(), deadline));
    });
    started.is_ok() && receive.recv_timeout(deadline.remaining().unwrap_or_default()).unwrap_or(false)
}

/// Only in the caller's own home directory: root may have the environment of somebody else.
fn forget(home: Option<&Path>, deadline: Deadline) -> bool {
    let is_own = |home: &PathBuf| home.metadata().is_ok_and(|found| found.uid() == Owner::current().uid);
    let Some(home) = home.and_then(|home| home.canonicalize().ok()).filter(is_own) else { return true };
    // Nothing is made where nothing is shared.
    if !home.join(mytoken::cache::USER_DIRECTORY).join(DIRECTORY).join(FILE).exists() {
        return true;
    }
    LockedFile::open(&home, deadline).is_some_and(|file| {
        let mut entries = file.read();
        entries.entries.iter_mut().for_each(|entry| entry.shared = None);
        file.write(&entries).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> SharedCredential {
        SharedCredential {
            sealed: "mt1.0123abcd.QUJDREVG".into(),
            handle: "0".repeat(32),
            notes: vec!["it ends soon".into()],
        }
    }

    /// Plays submissions at these times. A letter for each: own, new, shared.
    fn play(times: &[u64], share_for: u64) -> String {
        let mut entries = Entries::default();
        let mut letter = |uptime: &u64| match entries.choose("a", *uptime, share_for) {
            Choice::Own => 'o',
            Choice::Shared(_) => 's',
            Choice::New => {
                entries.keep("a", shared(), *uptime);
                'n'
            }
        };
        times.iter().map(&mut letter).collect()
    }

    #[test]
    fn a_loop_shares_and_single_submissions_do_not() {
        assert_eq!(play(&[100, 101, 102, 103, 104, 150, 162, 163, 164], 60), "ooonsssns");
        assert_eq!(play(&[100, 130, 160, 190, 220, 250], 60), "oooooo", "two in a minute");
        assert_eq!(play(&[100, 100, 100, 100, 102, 111, 112], 10), "ooonsns");
        assert_eq!(play(&[100, 100, 100, 100, 400], 60), "ooono", "the loop is over");
    }

    #[test]
    fn three_hundred_submissions_in_two_minutes_make_few_credentials() {
        let times: Vec<u64> = (0..300).map(|number| 1000 + number * 120 / 300).collect();
        let made = play(&times, 60).chars().filter(|letter| *letter != 's').count();
        assert!(made <= 6, "{made}");
    }

    #[test]
    fn only_the_same_kind_of_submission_shares() {
        let binding = Binding {
            key: "k",
            cluster: "c",
            server: "https://s",
            profile: "p",
            parent: "m",
            required: false,
            boot: "b",
        };
        let others = [
            Binding { key: "x", ..binding },
            Binding { cluster: "x", ..binding },
            Binding { server: "x", ..binding },
            Binding { profile: "x", ..binding },
            Binding { parent: "x", ..binding },
            Binding { required: true, ..binding },
            Binding { boot: "x", ..binding },
            Binding { key: "kc", cluster: "", ..binding },
        ];
        let mut digests: Vec<String> = others.iter().map(Binding::digest).chain([binding.digest()]).collect();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), others.len() + 1);
        let mut entries = Entries::default();
        entries.keep("a", shared(), 100);
        assert_eq!(entries.choose("b", 101, 60), Choice::Own);
        assert_eq!(entries.choose("a", 101, 60), Choice::Shared(shared()));
    }

    #[test]
    fn a_damaged_file_and_times_ahead_are_ignored() {
        assert!(Entries::parse(Some(b"{\"entries\":[{}]}")).entries.is_empty());
        let mut entries = Entries::default();
        entries.keep("a", SharedCredential { sealed: "mt1.0123abcd.QQ; rm".into(), ..shared() }, 100);
        assert_eq!(entries.choose("a", 101, 60), Choice::New, "not the damaged one");
        entries.keep("a", shared(), 900);
        assert_eq!(entries.choose("a", 101, 60), Choice::Own);
        for number in 0..50 {
            entries.choose(&number.to_string(), 101, 60);
        }
        assert_eq!(entries.entries.len(), ENTRIES);
    }
}
