// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the running sshd has read its files since they were changed.
//!
//! SIGHUP makes sshd execute itself again: the process, its start time and /proc/PID stay the same. But each time it has read its
//! configuration and listens, it writes its PID file again (SSH-35).

use std::path::Path;

use super::super::host::Host;
use super::super::{Findings, kinds};
use super::Effective;
use super::files::Files;

impl Findings {
    pub(super) fn reload(&mut self, host: &dyn Host, sshd: &Effective, files: &Files) {
        // Without a PID file it is not known. With ssh.socket each connection has an sshd of its own, which reads everything.
        let Some(file) = sshd.get("pidfile").filter(|file| *file != "none").map(Path::new) else { return };
        let pid = host.read(file).and_then(|text| text.trim().parse::<u32>().ok());
        let Some(pid) = pid.filter(|pid| runs(host, *pid)) else { return };
        let Some(read) = host.last_change(file) else { return };
        let changes = files.paths.iter().filter_map(|path| Some((host.last_change(path)?, path)));
        if let Some((_, path)) = changes.max().filter(|(changed, _)| *changed > read) {
            let text = format!(
                "{} was changed after sshd (process {pid}) last read its configuration: what is said here is not in force yet",
                path.display()
            );
            self.add_kind(kinds::SSHD_NOT_RELOADED, text);
        }
    }
}

/// Whether the process is an sshd: a number can be that of another process by now.
fn runs(host: &dyn Host, pid: u32) -> bool {
    host.read(Path::new(&format!("/proc/{pid}/comm"))).is_some_and(|name| name.trim() == "sshd")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HEALTHY, Site};
    use super::*;

    const MAIN: &str = "/etc/ssh/sshd_config";
    const PID: &str = "/run/sshd.pid";

    #[test]
    fn a_file_that_is_newer_than_the_last_reload_is_found() {
        for (times, comm, expected) in [
            (&[(PID, 2), (MAIN, 1)][..], "sshd\n", None),
            (&[(PID, 1), (MAIN, 2)], "sshd\n", Some("/etc/ssh/sshd_config was changed after sshd (process 7)")),
            (&[(PID, 2), (MAIN, 1), ("/etc/ssh/d", 3)], "sshd\n", Some("/etc/ssh/d was changed")),
            (&[(PID, 1), (MAIN, 2)], "bash\n", None),
            (&[(MAIN, 2)], "sshd\n", None),
        ] {
            let mut site = Site::of(&[(MAIN, "Include d/*"), ("/etc/ssh/d", ""), (PID, "7\n"), ("/proc/7/comm", comm)]);
            site.times = times.iter().map(|(path, time)| ((*path).into(), *time)).collect();
            let mut findings = Findings::default();
            let sshd = Effective::parse(&format!("{HEALTHY}pidfile {PID}\n"));
            findings.reload(&site, &sshd, &Files::read(&site));
            let text = findings.findings.first().map(|finding| finding.text.clone());
            assert_eq!(text.is_some(), expected.is_some(), "{times:?} {text:?}");
            assert!(text.unwrap_or_default().starts_with(expected.unwrap_or_default()));
        }
    }
}
