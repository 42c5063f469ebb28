// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether only root can change the files of the PAM stacks and their modules, and those of sshd. Whoever else can do that decides who
//! logs in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mytoken::config::ConfigError;

use super::Findings;
use super::host::{Host, module_paths};
use super::kinds::{self, Kind};
use super::pam_stack::{ModuleLine, Stack};

impl Findings {
    /// Checks the files of these stacks. A directory above several of them is told once.
    pub(super) fn pam_files(&mut self, host: &dyn Host, stacks: [&Stack; 3]) {
        let modules = stacks.iter().flat_map(|stack| stack.lines()).filter_map(|line| module_of(host, line));
        // A file can have nothing but other files in it.
        let files: BTreeSet<PathBuf> =
            stacks.iter().flat_map(|stack| stack.read.iter().cloned()).chain(modules).collect();
        self.open_files(host, files, kinds::PAM_OPEN_FILE, "who can change it logs in as anybody");
    }

    /// Adds those of the files that others than root can change.
    pub(super) fn open_files(
        &mut self,
        host: &dyn Host,
        files: impl IntoIterator<Item = PathBuf>,
        kind: Kind,
        effect: &str,
    ) {
        // By the command: a directory above several of them is one fault.
        let mut faults = BTreeMap::new();
        for file in files {
            let Err(error) = host.trusted(&file) else { continue };
            // That a file is missing or cannot be read is told elsewhere.
            if let ConfigError::Unsafe { file, reason, fix } = &error {
                let text = format!("{file}: {reason}; {effect}");
                faults.entry(fix.clone()).or_insert((text, error));
            }
        }
        for (text, error) in faults.into_values() {
            self.add_file_error(kind, &error.into(), &text);
        }
    }
}

/// The file of the module of this line.
fn module_of(host: &dyn Host, line: &ModuleLine) -> Option<PathBuf> {
    module_paths(&line.module).into_iter().find(|path| host.exists(path))
}
