// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the real ssh, scp and sftp: in PATH a link of that name to this program may come first.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{AccessFlags, access};

use crate::error::Error;

/// Name of this program's file, also behind a link of another name.
const OWN_NAME: &str = "mytoken-ssh";

/// The first program `name` in PATH that is not this one.
///
/// # Errors
/// There is none.
pub fn find(name: &str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    find_in(&path, name)
        .ok_or_else(|| Error::CannotRun { program: name.to_owned(), reason: "it is not in your PATH".into() })
}

fn find_in(path: &OsStr, name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok();
    let is_own = |file: &Path| {
        let real = file.canonicalize().ok();
        real.as_deref().is_some_and(|real| real.file_name() == Some(OsStr::new(OWN_NAME))) || real == own
    };
    std::env::split_paths(path)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok() && !is_own(file))
}

/// Starts the program in `file` under its plain name. For a jump host ssh runs a program of its own name once more, and looks for a plain
/// name in PATH: so it finds the stand-in there, and the jump host gets a token of its own.
pub fn command(file: &Path) -> Command {
    use std::os::unix::process::CommandExt;

    let mut command = Command::new(file);
    if let Some(name) = file.file_name() {
        command.arg0(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_to_this_program_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, mode: u32| {
            let file = root.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            file
        };
        let (other, real) = (file("a/mytoken-ssh", 0o755), file("e/ssh", 0o755));
        file("d/ssh", 0o644);
        for (directory, target) in [("b", other), ("c", std::env::current_exe().unwrap())] {
            std::fs::create_dir(root.path().join(directory)).unwrap();
            symlink(target, root.path().join(directory).join("ssh")).unwrap();
        }
        let path = |names: &[&str]| std::env::join_paths(names.iter().map(|name| root.path().join(name))).unwrap();
        assert_eq!(find_in(&path(&["a", "b", "c", "d", "e"]), "ssh"), Some(real));
        assert_eq!(find_in(&path(&["a", "b", "c", "d"]), "ssh"), None);
    }
}
