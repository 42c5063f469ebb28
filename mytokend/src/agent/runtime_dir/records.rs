// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stored leases at the agent's start. A record that this version cannot read is kept in another directory: a later version may read
//! it, and the sub-token or mytoken in it is still valid.

use std::collections::VecDeque;
use std::path::PathBuf;

use mytoken::private_files::{Directory, FileError};
use mytoken_wire::Handle;
use serde_json::error::Category;

use super::{RuntimeDir, STATE_LIMIT, state_name};
use crate::agent::lease::{Lease, LeaseKey};

/// Directory of the records that could not be read.
pub const UNREADABLE_RECORDS: &str = "unreadable";

/// Maximum number of records in it: the number of leases that an agent has at most.
const MOST_KEPT: usize = 4096;

/// Maximum size of all records in it, in bytes.
const KEPT_BYTES: u64 = 32 * 1024 * 1024;

/// What the agent finds at its start.
#[derive(Default)]
pub struct Records {
    /// The stored leases.
    pub leases: Vec<Lease>,
    /// Leases that another version could not read, oldest first, with the names of their files.
    pub readable_again: Vec<(String, Lease)>,
    /// Records that this version cannot read, and that no earlier start met.
    pub unreadable: Vec<UnreadableRecord>,
    /// The jobs and sessions of those that an earlier start met.
    pub still_unreadable: Vec<LeaseKey>,
    /// Number of the oldest kept records that were removed to make room.
    pub removed: usize,
}

/// A record that this version cannot read.
#[derive(Debug)]
pub struct UnreadableRecord {
    /// Its path.
    pub path: PathBuf,
    /// The job or session that its name names.
    pub key: Option<LeaseKey>,
    /// What is wrong with it. Nothing of its content.
    pub reason: String,
    /// Its new path. An error when it stays where it is.
    pub kept: Result<PathBuf, FileError>,
}

impl RuntimeDir {
    /// Reads what an earlier run of the agent stored, and puts aside what this version cannot read.
    ///
    /// # Errors
    /// [`FileError::Unusable`] when the directory of the stored leases cannot be listed.
    pub fn load_records(&self) -> Result<Records, FileError> {
        let mut records = Records::default();
        let mut kept = None;
        if self.root.has(UNREADABLE_RECORDS)? {
            // Not an error: without the kept records the agent still serves all others.
            if let Ok(found) = Kept::open(self) {
                for record in &found.records {
                    match self.read_record(&found.directory, &record.file, &record.name) {
                        Ok(lease) => records.readable_again.push((record.file.clone(), lease)),
                        Err(_) => records.still_unreadable.extend(key_of(&record.name)),
                    }
                }
                kept = Some(found);
            }
        }
        let mut names = self.state.names()?;
        names.sort_unstable();
        for name in names {
            match self.read_record(&self.state, &name, &name) {
                Ok(lease) => records.leases.push(lease),
                // A writer that was killed left it; the file that it would have replaced is whole.
                Err(_) if is_temporary(&name) && self.state.remove(&name).is_ok() => {}
                Err(reason) => {
                    let moved = match kept.take().map_or_else(|| Kept::open(self), Ok) {
                        Ok(found) => kept.insert(found).take_in(&self.state, &name),
                        Err(error) => Err(error),
                    };
                    records.unreadable.push(UnreadableRecord {
                        path: self.state.path().join(&name),
                        key: key_of(&name),
                        reason,
                        kept: moved,
                    });
                }
            }
        }
        records.removed = kept.map_or(0, |kept| kept.removed);
        Ok(records)
    }

    /// Deletes a kept record: its lease is stored again, or a later one took its place.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn delete_kept(&self, file: &str) -> Result<(), FileError> {
        self.root.enter(UNREADABLE_RECORDS, self.owner, 0o700)?.remove(file).map(drop)
    }

    fn read_record(&self, directory: &Directory, file: &str, name: &str) -> Result<Lease, String> {
        match directory.read(file, self.owner, 0o600, STATE_LIMIT) {
            Ok(Some(bytes)) => parse_record(name, &bytes),
            Ok(None) => Err("it was removed".to_owned()),
            Err(FileError::Unusable { reason, .. }) => Err(reason),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The lease in the record called `name`.
///
/// # Errors
/// A sentence that contains nothing of the record: it may have secrets.
pub fn parse_record(name: &str, bytes: &[u8]) -> Result<Lease, String> {
    let lease: Lease = serde_json::from_slice(bytes).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        match error.classify() {
            Category::Data => format!("this version does not know its form ({place})"),
            Category::Syntax | Category::Eof | Category::Io => format!("it is not valid JSON ({place})"),
        }
    })?;
    if state_name(&lease.key) == name { Ok(lease) } else { Err("it belongs to another job or session".to_owned()) }
}

/// The job or session whose record has this name.
fn key_of(name: &str) -> Option<LeaseKey> {
    let stem = name.strip_suffix(".json")?;
    let (kind, rest) = stem.split_once('-')?;
    let handle = |text| Handle::parse(text).map(|handle| handle.to_string());
    let key = match kind {
        "job" => LeaseKey::Job(rest.parse().ok()?),
        "session" => LeaseKey::Session(handle(rest)?),
        "submission" => {
            let (uid, text) = rest.split_once('-')?;
            LeaseKey::Submission { uid: uid.parse().ok()?, handle: handle(text)? }
        }
        _ => return None,
    };
    (state_name(&key) == name).then_some(key)
}

/// Whether a file with this name is one that `Directory::write` had not finished.
fn is_temporary(name: &str) -> bool {
    let random = name.strip_prefix('.').and_then(|name| name.rsplit_once('.')).map(|(_, random)| random);
    random.is_some_and(|random| random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The directory of the records that could not be read. Their names begin with a number that grows.
struct Kept {
    directory: Directory,
    /// Oldest first.
    records: VecDeque<KeptRecord>,
    bytes: u64,
    removed: usize,
}

struct KeptRecord {
    number: u64,
    file: String,
    /// The name that it had.
    name: String,
    bytes: u64,
}

impl Kept {
    fn open(runtime: &RuntimeDir) -> Result<Self, FileError> {
        let directory = runtime.root.make(UNREADABLE_RECORDS, runtime.owner, 0o700)?;
        let mut records: Vec<KeptRecord> = directory
            .names()?
            .into_iter()
            .filter_map(|file| {
                let (number, name) = file.split_once('-')?;
                let (number, name) = (number.parse().ok()?, name.to_owned());
                Some(KeptRecord { number, name, bytes: size(&directory, &file), file })
            })
            .collect();
        records.sort_unstable_by_key(|record| record.number);
        let bytes = records.iter().map(|record| record.bytes).fold(0, u64::saturating_add);
        Ok(Self { directory, records: records.into(), bytes, removed: 0 })
    }

    /// Moves the entry `name` of `state` here, whatever it is. The oldest records make room for it.
    fn take_in(&mut self, state: &Directory, name: &str) -> Result<PathBuf, FileError> {
        let bytes = size(state, name);
        if bytes > KEPT_BYTES {
            return Err(no_room(state, name));
        }
        while self.records.len() >= MOST_KEPT || self.bytes.saturating_add(bytes) > KEPT_BYTES {
            let oldest = self.records.pop_front().ok_or_else(|| no_room(state, name))?;
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            self.directory.remove(&oldest.file)?;
            self.removed += 1;
        }
        let number = self.records.back().map_or(1, |last| last.number.saturating_add(1));
        let file = format!("{number:06}-{name}");
        state.move_to(name, &self.directory, &file)?;
        let path = self.directory.path().join(&file);
        self.records.push_back(KeptRecord { number, file, name: name.to_owned(), bytes });
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(path)
    }
}

fn no_room(state: &Directory, name: &str) -> FileError {
    let path = state.path().join(name).display().to_string();
    FileError::Unusable { path, reason: "it is too large to be kept".to_owned() }
}

/// Size of an entry in bytes.
fn size(directory: &Directory, name: &str) -> u64 {
    // By path, which is safe because only root can write to these directories.
    std::fs::symlink_metadata(directory.path().join(name)).map_or(0, |meta| meta.len())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use mytoken::private_files::Owner;

    use super::*;

    const SESSION: &str = "session-0123456789abcdef0123456789abcdef.json";

    fn open(dir: &Path) -> RuntimeDir {
        RuntimeDir::open(&dir.join("mytoken"), Owner::current()).unwrap()
    }

    fn lease(job: u32) -> Lease {
        Lease::new(LeaseKey::Job(job), Owner::current(), "default", 0)
    }

    fn put(dir: &Path, name: &str, text: &str) {
        let path = dir.join("mytoken/state").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn kept(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir.join("mytoken").join(UNREADABLE_RECORDS))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn whatever_is_not_a_lease_is_kept_aside_and_the_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = open(dir.path());
        let state = dir.path().join("mytoken/state");
        runtime.store_lease(&lease(1)).unwrap();
        put(dir.path(), "job-2.json", "{\"secret\"");
        put(dir.path(), "job-3.json", &serde_json::to_string(&lease(4)).unwrap());
        put(dir.path(), SESSION, "{\"key\":{\"secret\":1}}");
        put(dir.path(), "job-5.json", &"x".repeat(STATE_LIMIT + 1));
        put(dir.path(), "job-6.json", &serde_json::to_string(&lease(6)).unwrap());
        fs::set_permissions(state.join("job-6.json"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::create_dir_all(state.join("job-7.json/below")).unwrap();
        symlink(state.join("job-1.json"), state.join("job-8.json")).unwrap();
        let _socket = UnixListener::bind(state.join("job-9.json")).unwrap();
        nix::unistd::mkfifo(&state.join("notes"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        put(dir.path(), ".job-1.json.0123456789abcdef", "half of a le");

        let records = runtime.load_records().unwrap();
        let keys: Vec<_> = records.leases.iter().map(|lease| lease.key.clone()).collect();
        assert_eq!(keys, [LeaseKey::Job(1)]);
        let told: Vec<String> = records
            .unreadable
            .iter()
            .map(|record| format!("{}: {}", record.path.file_name().unwrap().display(), record.reason))
            .collect();
        assert_eq!(
            told,
            [
                "job-2.json: it is not valid JSON (line 1, column 9)",
                "job-3.json: it belongs to another job or session",
                "job-5.json: it is longer than 262144 bytes",
                &format!(
                    "job-6.json: it belongs to user {0} with mode 0644, expected user {0} and at most 0600",
                    Owner::current().uid
                ),
                "job-7.json: it is not a regular file with one name",
                "job-8.json: it is a symbolic link",
                "job-9.json: No such device or address (os error 6)",
                "notes: it is not a regular file with one name",
                &format!("{SESSION}: this version does not know its form (line 1, column 16)"),
            ]
        );
        assert!(
            records.unreadable.iter().all(|record| record.kept.as_ref().is_ok_and(|path| !path.starts_with(&state)))
        );
        assert_eq!(kept(dir.path()).len(), 9);
        assert!(matches!(records.unreadable.last().unwrap().key, Some(LeaseKey::Session(_))));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "the unfinished file is gone too");
        // The next start has nothing new to tell.
        let again = open(dir.path()).load_records().unwrap();
        assert_eq!((again.leases.len(), again.unreadable.len(), again.readable_again.len()), (1, 0, 0));
        assert!(again.still_unreadable.iter().any(|key| matches!(key, LeaseKey::Session(_))));
    }

    #[test]
    fn a_later_version_reads_a_kept_record_again() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = open(dir.path());
        let text = serde_json::to_string(&lease(7)).unwrap();
        put(dir.path(), "job-7.json", &text.replace("\"alive\"", "\"dreaming\""));
        assert_eq!(runtime.load_records().unwrap().unreadable.len(), 1);
        // The later version knows the word.
        let path = dir.path().join("mytoken").join(UNREADABLE_RECORDS).join("000001-job-7.json");
        fs::write(&path, &text).unwrap();
        let again = runtime.load_records().unwrap().readable_again;
        assert_eq!(
            again.iter().map(|(file, lease)| (file.as_str(), &lease.key)).collect::<Vec<_>>(),
            [("000001-job-7.json", &LeaseKey::Job(7))]
        );
        runtime.delete_kept("000001-job-7.json").unwrap();
        assert!(kept(dir.path()).is_empty());
    }

    #[test]
    fn the_oldest_kept_records_make_room_and_a_huge_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = open(dir.path());
        let third = usize::try_from(KEPT_BYTES / 3).unwrap();
        for name in ["job-1.json", "job-2.json", "job-3.json"] {
            put(dir.path(), name, &"x".repeat(third));
        }
        assert_eq!(runtime.load_records().unwrap().removed, 0);
        put(dir.path(), "job-4.json", "x".repeat(1000).as_str());
        put(dir.path(), "job-5.json", &"x".repeat(third * 4));
        let records = runtime.load_records().unwrap();
        assert_eq!(records.removed, 1);
        assert_eq!(kept(dir.path()), ["000002-job-2.json", "000003-job-3.json", "000004-job-4.json"]);
        let stays = records.unreadable.last().unwrap();
        assert!(
            stays
                .kept
                .as_ref()
                .is_err_and(|error| error.to_string().ends_with("job-5.json: it is too large to be kept"))
        );
        assert!(stays.path.exists());
    }

    #[test]
    fn a_name_that_no_record_has_belongs_to_no_job() {
        for (name, key) in [
            ("job-7.json", Some(LeaseKey::Job(7))),
            ("job-07.json", None),
            ("job-+7.json", None),
            ("job-7", None),
            ("session-x.json", None),
        ] {
            assert_eq!(key_of(name), key, "{name}");
        }
    }
}
