// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts and ends of jobs that the agent did not answer. The agent serves them when it is back, so that a job whose only step has begun
//! still gets its token, and one that has ended gives its credential back. For the job's further steps the record says that waiting is useless.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mytoken_wire::agent::{JobEnd, JobStart, MissedEnd, MissedRecord as _, MissedStart};
use mytoken_wire::{PluginSettings, limited_read};
use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// Highest number of records on a node. Jobs beyond it get their token at their next step.
const MOST: usize = 1024;

/// What is recorded of a job's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// Nothing.
    Nothing,
    /// This start.
    Start(MissedStart),
    /// A start that cannot be read. It may have the job's only credential on this node.
    Unreadable,
}

/// The place of a job's records.
pub struct MissedFile {
    directory: PathBuf,
    job: u32,
}

impl MissedFile {
    /// The place of the records of `job`.
    pub fn of(settings: &PluginSettings, job: u32) -> Self {
        Self { directory: settings.missed(), job }
    }

    /// The record of its start.
    pub fn read(&self) -> Recorded {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = match File::options().read(true).custom_flags(flags.bits()).open(self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Recorded::Nothing,
            Err(_) => return Recorded::Unreadable,
        };
        let bytes = limited_read(&file, MissedStart::LIMIT).ok();
        let record = bytes.and_then(|bytes| MissedStart::parse(&bytes, self.job));
        record.map_or(Recorded::Unreadable, Recorded::Start)
    }

    /// Records a start. A reader sees the whole record or none.
    ///
    /// # Errors
    /// When it cannot be written, and when somebody else could change it.
    pub fn write(&self, start: JobStart, uptime: u64) -> io::Result<()> {
        self.put(&MissedStart::file_name(self.job), &MissedStart::new(start, uptime).text())
    }

    /// Records the job's end.
    ///
    /// # Errors
    /// When it cannot be written, and when somebody else could change it.
    pub fn write_end(&self, end: JobEnd) -> io::Result<()> {
        self.put(&MissedEnd::file_name(self.job), &MissedEnd::new(end).text())
    }

    fn put(&self, name: &str, text: &str) -> io::Result<()> {
        let runtime = self.directory.parent().ok_or(ErrorKind::InvalidInput)?;
        make_directory(runtime, 0o711)?;
        make_directory(&self.directory, 0o700)?;
        let mut directory = Dir::open(&self.directory, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        // It has entries for itself and for its parent.
        if directory.iter().take(MOST + 2).count() >= MOST + 2 {
            return Err(io::Error::other(format!("there are {MOST} already")));
        }
        let temporary = self.directory.join(format!(".{}.{}", self.job, std::process::id()));
        let written = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&temporary, self.directory.join(name)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes the record of an earlier end, also while an agent serves it: the job starts again. Returns whether there was one. It is missing,
    /// except when the job was requeued and no agent has seen its end.
    pub fn remove_end(&self) -> bool {
        // The agent gives one that it takes the second name. In this order it cannot slip through.
        let names = [MissedEnd::file_name(self.job), MissedEnd::taken_name(self.job)];
        names.map(|name| fs::remove_file(self.directory.join(name)).is_ok()).contains(&true)
    }

    /// Removes the record of its start.
    pub fn remove(&self) {
        // It may be missing, or the agent has removed it.
        let _ = fs::remove_file(self.path());
    }

    fn path(&self) -> PathBuf {
        self.directory.join(MissedStart::file_name(self.job))
    }
}

/// Makes a directory if it is missing. One that others can change is an error.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        // The process's umask must not decide.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode))?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let found = fs::symlink_metadata(path)?;
    let is_private = found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if is_private { Ok(()) } else { Err(io::Error::other(format!("others can change {}", path.to_string_lossy()))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(job: u32) -> JobStart {
        JobStart { job, sealed: Some("mt1.x".into()), ..JobStart::default() }
    }

    fn place(dir: &Path, job: u32) -> MissedFile {
        MissedFile { directory: dir.join("mytoken/missed"), job }
    }

    #[test]
    fn a_record_is_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = place(dir.path(), 7);
        assert_eq!(file.read(), Recorded::Nothing);
        file.write(start(7), 5).unwrap();
        file.write(start(7), 6).unwrap();
        assert_eq!(file.read(), Recorded::Start(MissedStart::new(start(7), 6)));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        let modes = [dir.path().join("mytoken"), file.directory.clone(), file.path()].map(|path| mode(&path));
        assert_eq!(modes, [0o711, 0o700, 0o600]);
        assert_eq!(fs::read_dir(&file.directory).unwrap().count(), 1);
        file.remove();
        file.remove();
        assert_eq!(file.read(), Recorded::Nothing);
    }

    #[test]
    fn a_start_that_cannot_be_read_is_not_one_that_does_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let file = place(dir.path(), 7);
        file.write(start(8), 5).unwrap();
        assert_eq!(file.read(), Recorded::Unreadable, "of another job");
        for text in ["", "{", &MissedStart::new(start(7), 5).text().replace("\"v\":1", "\"v\":2")] {
            fs::write(file.path(), text).unwrap();
            assert_eq!(file.read(), Recorded::Unreadable, "{text}");
        }
        fs::remove_file(file.path()).unwrap();
        std::os::unix::fs::symlink("/dev/null", file.path()).unwrap();
        assert_eq!(file.read(), Recorded::Unreadable);
    }

    #[test]
    fn a_start_removes_the_end_of_the_run_before_also_while_an_agent_serves_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = place(dir.path(), 7);
        assert!(!file.remove_end());
        for name in [MissedEnd::file_name(7), MissedEnd::taken_name(7)] {
            file.write_end(JobEnd { job: 7, ..JobEnd::default() }).unwrap();
            fs::rename(file.directory.join(MissedEnd::file_name(7)), file.directory.join(name)).unwrap();
            assert_eq!((file.remove_end(), fs::read_dir(&file.directory).unwrap().count()), (true, 0));
        }
    }

    #[test]
    fn records_are_bounded_and_never_in_a_directory_that_others_can_change() {
        let dir = tempfile::tempdir().unwrap();
        place(dir.path(), 0).write(start(0), 5).unwrap();
        for job in 1..MOST {
            fs::write(dir.path().join("mytoken/missed").join(job.to_string()), "").unwrap();
        }
        let error = place(dir.path(), 7).write(start(7), 5).unwrap_err();
        assert!(error.to_string().contains("already"), "{error}");
        fs::set_permissions(dir.path().join("mytoken"), Permissions::from_mode(0o777)).unwrap();
        let error = place(dir.path(), 7).write(start(7), 5).unwrap_err();
        assert!(error.to_string().contains("others can change"), "{error}");
    }
}
