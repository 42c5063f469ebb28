// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `mytokenctl check` about escrow: whether a broker can keep credentials, and whether other hosts can give it any.

use std::path::Path;

use mytoken::config::FileTrust;

use super::super::configuration::{exists, word};
use super::super::{Findings, Severity, kinds_broker as kinds};
use super::{Network, PART, Seen, name_files};
use crate::broker::identity::StateDir;
use crate::broker::identity::state_dir::ESCROW;
use crate::broker::settings::BrokerSettings;

/// Less room than this is told, in bytes: some ten thousand credentials, each in a file of its own.
const ROOM: u64 = 64 * 1024 * 1024;

impl Findings {
    /// Checks where a broker keeps credentials. Nothing is written there.
    pub(super) fn escrow_directory(&mut self, settings: &BrokerSettings) {
        let (state_dir, path) = (&settings.state_dir, settings.state_dir.join(ESCROW));
        if !exists(&path) {
            let text = format!("{} does not exist: no broker has started here", path.display());
            return self.add_fixed(kinds::ESCROW, text, "systemctl restart mytokend-broker   # it makes it".to_owned());
        }
        let found = StateDir::open(state_dir).map_err(|error| error.to_string()).and_then(|state| {
            let directory = state.look_at_escrow().map_err(|error| error.to_string())?;
            directory.ok_or_else(|| format!("{}: it was removed a moment ago", path.display()))
        });
        let directory = match found {
            Ok(directory) => directory,
            Err(error) => return self.add_fixed(kinds::ESCROW, error, name_files(&[&path])),
        };
        match directory.could_write().and_then(|()| directory.free_bytes()) {
            Ok(free) => self.escrow_room(&path, free),
            Err(error) => self.add_fixed(kinds::ESCROW, error.to_string(), usage(&path)),
        }
    }

    /// `free`: bytes, if the file system counts them.
    pub(super) fn escrow_room(&mut self, path: &Path, free: Option<u64>) {
        let Some(free) = free.filter(|free| *free < ROOM) else { return };
        let text = format!("the disk of {} has {} MiB left for credentials of jobs", path.display(), free / 1_048_576);
        self.add_fixed(kinds::ESCROW_ROOM, text, usage(path));
    }

    /// A host that is neither a broker nor a node: with escrow, its agent gives the brokers the credentials of its submissions. Without
    /// that, jobs carry them: no more than a warning.
    pub(super) fn other_host(
        &mut self,
        settings: &BrokerSettings,
        seen: &Seen,
        trust: FileTrust,
        network: &dyn Network,
    ) {
        let neither = "this host is neither a broker nor a node that runs jobs";
        if !settings.escrow {
            return self.ok(PART, neither);
        }
        let file = &settings.ca_file;
        if !exists(file) {
            let text = format!("there is no {}: jobs that are submitted here carry their credentials", file.display());
            let path = word(&file.to_string_lossy());
            return self.add_fixed(kinds::ESCROW_CA_FILE, text, format!("scp -p BROKER:{path} {path}"));
        }
        let (first, before) = (self.findings.len(), self.problems().count());
        let shown = self
            .authority_certificates(settings, trust, false)
            .and_then(|authority| self.enrolment(settings, seen, &authority, trust));
        let answered = shown.map_or(0, |shown| self.each_broker(settings, &shown, network));
        if self.problems().count() == before {
            self.ok(PART, format!("{neither}, {answered} of {} brokers answer", settings.names.len()));
        }
        for finding in self.findings.iter_mut().skip(first).filter(|finding| finding.level == Severity::Error) {
            finding.level = Severity::Warning;
        }
    }
}

/// Shows the room on the disk and in its table of files.
fn usage(path: &Path) -> String {
    let path = word(&path.to_string_lossy());
    format!("df -h {path}; df -i {path}")
}
