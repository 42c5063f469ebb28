// SPDX-License-Identifier: MIT OR Apache-2.0
//! The links by which this program stands in for ssh, scp and sftp.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::ssh::arguments::Program;
use crate::ssh::installed::USUAL_PATH;

/// Name of the link that scp and sftp start for a destination behind a jump host.
pub const PLAIN_SSH: &str = "plain-ssh";

/// The names of all links.
pub fn names() -> impl Iterator<Item = &'static str> {
    Program::ALL.into_iter().map(Program::name).chain([PLAIN_SSH])
}

/// Makes the links in an empty directory.
pub fn make(directory: &Path, executable: &Path) -> Result<(), Error> {
    for name in names() {
        symlink(executable, directory.join(name))
            .map_err(Error::system(format!("cannot make the link {name} in {}", directory.display())))?;
    }
    Ok(())
}

/// Makes the links in a directory that stays, and leaves those that are right. Another file of such a name is an error.
pub fn keep(directory: &Path, executable: &Path) -> Result<(), Error> {
    let action = || format!("cannot make links in {}", directory.display());
    std::fs::create_dir_all(directory).map_err(Error::system(action()))?;
    for name in names() {
        let link = directory.join(name);
        match link.read_link() {
            Ok(target) if target == executable => continue,
            Ok(_) => {}
            Err(_) if link.symlink_metadata().is_err() => {}
            Err(_) => {
                return Err(Error::Usage(format!("{} is in the way; move it away", link.display())));
            }
        }
        // A shell may start ssh by the old link meanwhile: it is replaced, not removed.
        let new = tempfile::Builder::new()
            .prefix(".link-")
            .make_in(directory, |path| symlink(executable, path))
            .map_err(Error::system(action()))?;
        new.into_temp_path().persist(&link).map_err(Error::system(action()))?;
    }
    Ok(())
}

/// `PATH` with `directory` in front. `None`: no PATH can have this directory.
pub fn path_with(directory: &Path) -> Option<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(USUAL_PATH));
    let others = std::env::split_paths(&path).filter(|other| other != directory);
    std::env::join_paths(std::iter::once(PathBuf::from(directory)).chain(others)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_stay_follow_the_program() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/bin");
        keep(&directory, Path::new("/old/mytoken-ssh")).unwrap();
        keep(&directory, Path::new("/new/mytoken-ssh")).unwrap();
        keep(&directory, Path::new("/new/mytoken-ssh")).unwrap();
        for name in names() {
            assert_eq!(directory.join(name).read_link().unwrap(), Path::new("/new/mytoken-ssh"), "{name}");
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), names().count());
        std::fs::remove_file(directory.join("scp")).unwrap();
        std::fs::write(directory.join("scp"), "somebody's").unwrap();
        let refused = keep(&directory, Path::new("/new/mytoken-ssh")).unwrap_err().to_string();
        assert!(refused.ends_with("a/bin/scp is in the way; move it away"), "{refused}");
        assert_eq!(std::fs::read_to_string(directory.join("scp")).unwrap(), "somebody's");
    }
}
