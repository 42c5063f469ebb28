// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the running sshd has what its files say: whether it has read them since they were changed, and with which options it runs.
//!
//! SIGHUP makes sshd execute itself again: the process, its start time and /proc/PID stay the same. But each time it has read its
//! configuration and listens, it writes its PID file again (SSH-35).

use std::path::Path;

use mytoken_wire::printable;

use super::super::host::Host;
use super::super::{Findings, kinds};
use super::files::Files;
use super::{Effective, LONGEST};

impl Findings {
    /// `sshd -T` does not know the command line of the running sshd.
    fn options(&mut self, host: &dyn Host, files: &Files, pid: u32) {
        let line = host.read(Path::new(&format!("/proc/{pid}/cmdline"))).unwrap_or_default();
        let options = options(&line, &files.main).join(" ");
        if !options.is_empty() {
            let options = printable(&options, LONGEST);
            let text = format!("sshd (process {pid}) was started with {options}: this counts before what is said here");
            let fix = format!("tr '\\0' ' ' </proc/{pid}/cmdline; systemctl status {pid}   # its unit");
            self.add_fixed(kinds::SSHD_OPTIONS, text, fix);
        }
    }

    pub(super) fn reload(&mut self, host: &dyn Host, sshd: &Effective, files: &Files) {
        // Without a PID file it is not known. With ssh.socket each connection has an sshd of its own, which reads everything.
        let Some(file) = sshd.get("pidfile").filter(|file| *file != "none").map(Path::new) else { return };
        let pid = host.read(file).and_then(|text| text.trim().parse::<u32>().ok());
        let Some(pid) = pid.filter(|pid| runs(host, *pid)) else { return };
        self.options(host, files, pid);
        let Some(read) = host.last_change(file) else { return };
        let changes = files.paths.iter().filter_map(|path| Some((host.last_change(path)?, path)));
        // File systems count in ticks of some milliseconds: a change in the same tick is taken for a later one.
        if let Some((_, path)) = changes.max().filter(|(changed, _)| *changed >= read) {
            let text = format!(
                "{} was changed after sshd (process {pid}) last read its configuration: what is said here is not in force yet",
                path.display()
            );
            self.add_kind(kinds::SSHD_NOT_RELOADED, text);
        }
    }
}

/// What counts for tokens, in small letters. Red Hat's sshd always has options about ciphers.
const OPTIONS: [&str; 10] = [
    "usepam",
    "kbdinteractive",
    "challengeresponse",
    "passwordauth",
    "authenticationmethods",
    "logingracetime",
    "maxstartups",
    "permitrootlogin",
    "allow",
    "deny",
];

/// The options of a command line that count for tokens. `main`: the file that sshd reads without any. sshd shows its own behind its name, with blanks between them.
fn options(command_line: &str, main: &Path) -> Vec<String> {
    let command = command_line.split('[').next().unwrap_or_default();
    let mut words = command.split([' ', '\0']).filter(|word| !word.is_empty());
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let Some((option, value)) = ["-o", "-f"].iter().find_map(|option| Some((*option, word.strip_prefix(option)?)))
        else {
            continue;
        };
        let value = if value.is_empty() { words.next().unwrap_or_default() } else { value };
        let counts = if option == "-f" {
            Path::new(value) != main
        } else {
            OPTIONS.iter().any(|known| value.to_ascii_lowercase().starts_with(known))
        };
        if counts {
            found.push(format!("{option} {value}"));
        }
    }
    found
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
    fn options_that_count_for_tokens_are_found() {
        for (line, expected) in [
            ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups\0\0", ""),
            ("sshd: /usr/sbin/sshd -D -oCiphers=a,b -oGSSAPIKexAlgorithms=c [listener] 0 of 10-100", ""),
            ("sshd: /usr/sbin/sshd -D -oUsePAM=no -o AllowUsers=a [listener] -f x", "-o UsePAM=no -o AllowUsers=a"),
            ("/usr/sbin/sshd\0-f\0/etc/ssh/other\0", "-f /etc/ssh/other"),
            ("sshd: /usr/sbin/sshd -f /etc/ssh/sshd_config [listener]", ""),
        ] {
            assert_eq!(options(line, Path::new(MAIN)).join(" "), expected, "{line}");
        }
    }

    #[test]
    fn a_file_that_is_newer_than_the_last_reload_is_found() {
        for (times, comm, expected) in [
            (&[(PID, 2), (MAIN, 1)][..], "sshd\n", None),
            (&[(PID, 1), (MAIN, 2)], "sshd\n", Some("/etc/ssh/sshd_config was changed after sshd (process 7)")),
            (&[(PID, 2), (MAIN, 2)], "sshd\n", Some("/etc/ssh/sshd_config was changed")),
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
