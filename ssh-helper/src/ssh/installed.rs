// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the real ssh, scp and sftp: in PATH a link of that name to this program may come first, and a script of the user that starts the
//! next one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{AccessFlags, access};

use crate::error::Error;

/// Name of this program's file, also behind a link of another name.
const OWN_NAME: &str = "mytoken-ssh";

/// `PATH` where the environment has none.
pub const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Environment variable: the scripts that this program has started in the place of ssh, and that may start it again.
const SCRIPTS_VARIABLE: &str = "MYTOKEN_SSH_SCRIPTS";

/// Environment variable: how many programs in the place of ssh this one is below. Each jump host is one more.
const DEPTH_VARIABLE: &str = "MYTOKEN_SSH_DEPTH";
const DEEPEST: u32 = 16;

/// The first program `name` in PATH that is not this one, nor a script that has started this one.
///
/// # Errors
/// There is none, or those that are there start this one again and again.
pub fn find(name: &str) -> Result<PathBuf, Error> {
    if depth() > DEEPEST {
        let reason = format!("it starts this program again and again; look at: which -a {name}");
        return Err(Error::CannotRun { program: name.to_owned(), reason });
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(USUAL_PATH));
    find_in(&path, name, &scripts())
        .ok_or_else(|| Error::CannotRun { program: name.to_owned(), reason: "it is not in your PATH".into() })
}

/// Whether a script that this program has started in the place of ssh has started it again.
pub fn is_below_a_script() -> bool {
    !scripts().is_empty()
}

fn depth() -> u32 {
    std::env::var(DEPTH_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn scripts() -> Vec<PathBuf> {
    std::env::var_os(SCRIPTS_VARIABLE).map(|text| std::env::split_paths(&text).collect()).unwrap_or_default()
}

/// Entries of PATH that are no whole path, such as empty ones, are left out: to start `ssh` without one means to look in PATH again.
fn find_in(path: &OsStr, name: &str, scripts: &[PathBuf]) -> Option<PathBuf> {
    let own = std::env::current_exe().ok();
    let is_own = |file: &Path| {
        let real = file.canonicalize().ok();
        real.as_deref().is_some_and(|real| real.file_name() == Some(OsStr::new(OWN_NAME))) || real == own
    };
    let is_known = |file: &Path| scripts.iter().any(|script| script == file);
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok() && !is_own(file) && !is_known(file))
}

/// Starts the program in `file` under its plain name. For a jump host ssh runs a program of its own name once more, and looks for a plain
/// name in PATH: so it finds the stand-in there, and the jump host gets a token of its own.
pub fn command(file: &Path) -> Command {
    use std::os::unix::process::CommandExt;

    let mut command = Command::new(file);
    if let Some(name) = file.file_name() {
        command.arg0(name);
    }
    let mut begin = [0; 2];
    let is_script = File::open(file).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == *b"#!";
    mark_below(&mut command);
    let all = std::env::join_paths(scripts().into_iter().chain([file.to_owned()]));
    match all {
        Ok(all) if is_script => command.env(SCRIPTS_VARIABLE, all),
        // What ssh itself starts is another connection.
        _ => command.env_remove(SCRIPTS_VARIABLE),
    };
    command
}

/// What the program starts is one deeper.
pub fn mark_below(command: &mut Command) {
    command.env(DEPTH_VARIABLE, depth().saturating_add(1).to_string());
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
        let all = path(&["a", "b", "c", "d", "e"]);
        assert_eq!(find_in(&all, "ssh", &[]).as_ref(), Some(&real));
        assert_eq!(find_in(&all, "ssh", &[real]), None);
        assert_eq!(find_in(&path(&["a", "b", "c", "d"]), "ssh", &[]), None);
    }
}
