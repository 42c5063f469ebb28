// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leaves the caller's terminal before a process gives up root's rights.
//!
//! A program with the rights of a user can be traced by this user. If it still had root's controlling terminal, the user could write
//! commands into root's shell (`TIOCSTI`), and read what root types.

use std::os::fd::RawFd;

use nix::errno::Errno;

/// Puts this process into a session of its own, without a controlling terminal, and closes every descriptor except the three standard
/// ones. Whoever starts the process gives it pipes for these. To be called first, while this process has opened no file.
///
/// # Errors
/// A sentence: the process leads the group of a shell's job, or its terminal cannot be told.
pub fn leave() -> Result<(), String> {
    nix::unistd::setsid().map_err(|errno| format!("this process cannot leave its terminal: {}", errno.desc()))?;
    let descriptors = open_descriptors().map_err(|error| format!("/proc/self/fd cannot be read: {error}"))?;
    for descriptor in descriptors.into_iter().filter(|descriptor| *descriptor > 2) {
        match nix::unistd::close(descriptor) {
            // The one with which the directory was read.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(errno) => return Err(format!("descriptor {descriptor} cannot be closed: {}", errno.desc())),
        }
    }
    Ok(())
}

fn open_descriptors() -> std::io::Result<Vec<RawFd>> {
    let entries = std::fs::read_dir("/proc/self/fd")?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use std::fs::{File, read_to_string};
    use std::process::Command;

    use super::*;

    /// Session and terminal of this process.
    fn session() -> (String, String) {
        let stat = read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[3].to_owned(), fields[4].to_owned())
    }

    #[test]
    fn a_process_leaves_its_terminal_and_its_descriptors() {
        let script = format!(
            "exec 9<>/dev/tty; '{}' --exact terminal::tests::part_on_a_terminal --ignored --nocapture; exit $?",
            std::env::current_exe().unwrap().display()
        );
        let ran = Command::new("script").args(["-qec", &script, "/dev/null"]).output().unwrap();
        let shown = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && shown.contains("1 passed"), "{ran:?}");
    }

    #[test]
    #[ignore = "the test above runs it on a terminal of its own"]
    fn part_on_a_terminal() {
        let before = session();
        assert!(before.1 != "0" && File::open("/dev/tty").is_ok() && open_descriptors().unwrap().contains(&9));
        leave().unwrap();
        let after = session();
        assert!(after.0 != before.0 && after.1 == "0", "{before:?} {after:?}");
        assert!(File::open("/dev/tty").is_err());
        // One more reads the directory.
        assert!(open_descriptors().unwrap().iter().all(|descriptor| *descriptor <= 3));
        leave().unwrap_err();
    }
}
