// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether only root can change the files of a PAM stack and its modules. Whoever else can do that logs in as anybody.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mytoken_wire::printable;
use mytoken_wire::shell_word;

use super::Findings;
use super::host::{Host, module_paths};
use super::kinds;
use super::pam_stack::Stack;

/// Most paths in the text; the command has all.
const SHOWN: usize = 3;

impl Findings {
    /// Checks the files of these stacks.
    pub(super) fn pam_files(&mut self, host: &dyn Host, stacks: [&Stack; 3]) {
        let files: BTreeSet<PathBuf> = stacks
            .iter()
            .flat_map(|stack| stack.lines())
            .flat_map(|line| {
                let module = module_paths(&line.module).into_iter().find(|path| host.exists(path));
                let file = line.place.rsplit_once(':').map(|(file, _)| PathBuf::from(file));
                module.into_iter().chain(file)
            })
            .collect();
        let open: BTreeSet<PathBuf> = files.iter().filter_map(|file| host.changeable(file)).collect();
        if open.is_empty() {
            return;
        }
        let shown: Vec<String> = open.iter().take(SHOWN).map(|path| printable(&path.to_string_lossy(), 80)).collect();
        let more = if open.len() > SHOWN { format!(" and {} more", open.len() - SHOWN) } else { String::new() };
        let text = format!("not only root can change {}{more}: who does that logs in as anybody", shown.join(", "));
        let paths: Vec<String> = open.iter().map(|path| shell_word(&path.to_string_lossy())).collect();
        let paths = paths.join(" ");
        self.add_fixed(kinds::PAM_OPEN_FILE, text, format!("chown root: {paths} && chmod go-w {paths}"));
    }
}

/// The path, or the directory above it, that others than root can change.
pub(super) fn changeable(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    // Where the links lead; root's links alone lead there.
    let path = path.canonicalize().ok()?;
    path.ancestors().find_map(|place| {
        let about = place.symlink_metadata().ok()?;
        let by_group = about.mode() & 0o020 != 0 && about.gid() != 0;
        // Others may add files to a directory with the sticky bit, and cannot replace any.
        let by_others = about.mode() & 0o002 != 0 && about.mode() & 0o1000 == 0;
        (about.uid() != 0 || by_group || by_others).then(|| place.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_others_can_change_is_found_on_the_way_too() {
        // Below a directory of root alone: the one for temporary files has the sticky bit.
        if !nix::unistd::geteuid().is_root() {
            return assert_eq!(changeable(Path::new("/etc/passwd")), None);
        }
        let directory = tempfile::tempdir().unwrap();
        let (above, file) = (directory.path().join("a"), directory.path().join("a/file"));
        fs::create_dir(&above).unwrap();
        fs::write(&file, "").unwrap();
        let set = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let own = |path: &Path, user: u32, group: u32| std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
        set(&above, 0o755);
        set(&file, 0o644);
        assert_eq!(changeable(&file), None);
        set(&file, 0o666);
        assert_eq!(changeable(&file).as_deref(), Some(file.as_path()));
        set(&file, 0o664);
        assert_eq!(changeable(&file), None, "root's group");
        own(&file, 0, 100);
        assert_eq!(changeable(&file).as_deref(), Some(file.as_path()));
        set(&file, 0o644);
        own(&above, 2001, 0);
        assert_eq!(changeable(&file).as_deref(), Some(above.as_path()));
        own(&above, 0, 0);
        set(&above, 0o777);
        assert_eq!(changeable(&file).as_deref(), Some(above.as_path()));
        set(&above, 0o1777);
        assert_eq!(changeable(&file), None);
        assert_eq!(changeable(Path::new("/nonexistent")), None);
    }
}
