// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system log of a site: everything that arrives at `/dev/log` goes into one file.

use std::fs::{File, set_permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::error::WithContext;
use crate::site::daemon::Daemon;
use crate::site::plan::TESTBED_INSIDE;
use crate::{Result, Site};

/// The file with the messages.
pub const LOG: &str = "/var/log/all.log";

const SOCKET: &str = "/dev/log";

pub(crate) fn start(site: &Site) -> Result<()> {
    site.start_daemon(Daemon::new("syslog", [TESTBED_INSIDE, "syslog"]))?;
    site.wait_for("the system log", Duration::from_secs(5), "root", &format!("test -w {SOCKET} -a -e {LOG}")).map(drop)
}

/// `testbed syslog`: writes each message on one line, with its severity first and control characters escaped.
///
/// # Errors
/// When the socket or the file cannot be used.
pub fn collect() -> Result<()> {
    let mut log = File::options().append(true).create(true).open(LOG).with_context(|| format!("opening {LOG}"))?;
    let socket = UnixDatagram::bind(SOCKET).with_context(|| format!("listening at {SOCKET}"))?;
    set_permissions(SOCKET, PermissionsExt::from_mode(0o666)).with_context(|| format!("opening {SOCKET} to all"))?;
    let mut message = vec![0; 1 << 20];
    loop {
        let length = socket.recv(&mut message).with_context(|| "reading a message".into())?;
        let text = String::from_utf8_lossy(message.get(..length).unwrap_or_default());
        log.write_all(line(&text).as_bytes()).with_context(|| format!("writing {LOG}"))?;
    }
}

/// `<38>Nov 21 10:00:00 sshd[7]: text` becomes `info Nov 21 10:00:00 sshd[7]: text`.
fn line(message: &str) -> String {
    const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    let (severity, text) = message
        .strip_prefix('<')
        .and_then(|rest| rest.split_once('>'))
        .and_then(|(priority, text)| Some((SEVERITIES.get(priority.parse::<usize>().ok()? % 8)?, text)))
        .unwrap_or((&"-", message));
    let mut line = format!("{severity} ");
    for character in text.trim_end_matches(['\n', '\0']).chars() {
        if character.is_control() { line.extend(character.escape_default()) } else { line.push(character) }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_message_is_one_line_with_its_severity() {
        assert_eq!(line("<38>Nov 21 10:00:00 sshd[7]: hello"), "info Nov 21 10:00:00 sshd[7]: hello\n");
        assert_eq!(line("<83>two\nlines\n"), "err two\\nlines\n");
        assert_eq!(line("no priority"), "- no priority\n");
    }
}
