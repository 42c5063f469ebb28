// SPDX-License-Identifier: MIT OR Apache-2.0
//! The decisions about logins in the text logs of rsyslog and syslog-ng.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek as _, SeekFrom};
use std::path::Path;

use mytoken_login::LoggedDecision;

use super::lines::for_each;
use super::{Entry, Found, Moment, PROGRAMS};

/// Where text logs are.
pub(super) const DIRECTORY: &str = "/var/log";

/// Where authpriv is logged: Debian's file and the one before it, and that of Red Hat's family.
pub(super) const FILES: [&str; 3] = ["auth.log", "auth.log.1", "secure"];

/// How much of a file is read, from its end.
const LAST: u64 = 256 * 1024 * 1024;

/// The search in one file.
///
/// # Errors
/// The system's.
pub(super) fn search(file: &Path, account: &str) -> io::Result<Found> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST)))?;
    read(BufReader::new(file), account)
}

/// Reads lines, the oldest first. The first line may be a part of one; it then has no form that is known.
fn read(log: impl BufRead, account: &str) -> io::Result<Found> {
    let mut found = Found::default();
    for_each(log, |line| {
        let entry = std::str::from_utf8(line).ok().and_then(entry);
        if let Some(entry) = entry.filter(|entry| entry.decision.is_of(account)) {
            if entry.decision.accepted {
                found.accepted = Some(entry);
            } else {
                found = Found { refused: Some(entry), accepted: None };
            }
        }
        true
    })?;
    Ok(found)
}

/// `Nov 26 10:00:07 login sshd[347]: MESSAGE`, or with `2026-11-26T10:00:07.123456+01:00` as time. The message must begin right behind the
/// program's name: other lines repeat names that a client has chosen.
fn entry(line: &str) -> Option<Entry> {
    let (time, rest) = if line.starts_with(|first: char| first.is_ascii_digit()) {
        line.split_once(' ')?
    } else {
        let (time, rest) = line.split_at_checked("Nov 26 10:00:07".len())?;
        (time, rest.strip_prefix(' ')?)
    };
    if time.len() > 40 || !time.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return None;
    }
    let (_host, rest) = rest.split_once(' ')?;
    let (program, message) = rest.split_once(": ")?;
    let name = program.split('[').next().unwrap_or_default();
    let process = program.strip_prefix(name)?;
    let is_process = process.is_empty()
        || process
            .strip_prefix('[')
            .and_then(|process| process.strip_suffix(']'))
            .is_some_and(|process| process.bytes().all(|byte| byte.is_ascii_digit()));
    if !PROGRAMS.contains(&name) || !is_process {
        return None;
    }
    let decision = LoggedDecision::parse(message)?;
    Some(Entry { moment: Moment::Written(time.to_owned()), program: program.to_owned(), decision })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: &str = "pam_mytoken(sshd:auth): refuse user=alice uid=2001 rhost=192.0.2.7 reason=expired issuer=- sub=- \
                           rule=- token=at:82912b4c ms=59 (exchange 0, verify 46, map 0)";
    const ACCEPT: &str =
        "pam_mytoken(sshd:auth): accept user=alice uid=2001 rhost=192.0.2.7 issuer=op sub=s rule=hpc token=at:1 ms=2";

    fn times(text: &[u8]) -> (String, String) {
        let found = read(text, "alice").unwrap();
        let time = |entry: Option<Entry>| match entry.map(|entry| entry.moment) {
            Some(Moment::Written(time)) => time,
            _ => String::new(),
        };
        (time(found.refused), time(found.accepted))
    }

    #[test]
    fn both_forms_of_time_are_read_and_the_last_refusal_counts() {
        let text = format!(
            "Nov 26 10:00:07 login sshd[347]: {ACCEPT}\n\
             Nov 26 10:00:08 login sshd[348]: {REFUSAL}\n\
             Nov  6 10:00:09 login sshd-session[349]: {REFUSAL}\n\
             2026-11-26T10:00:10.123456+01:00 login sshd[350]: {ACCEPT}\n\
             2026-11-26T10:00:11Z login sshd[351]: {}\n",
            REFUSAL.replace("alice", "bob")
        );
        assert_eq!(times(text.as_bytes()), ("Nov  6 10:00:09".into(), "2026-11-26T10:00:10.123456+01:00".into()));
    }

    #[test]
    fn a_line_of_another_form_is_none() {
        assert_eq!(times(format!("Nov 26 10:00:08 login sshd[348]: {REFUSAL}").as_bytes()).0, "Nov 26 10:00:08");
        for line in [
            REFUSAL.to_owned(),
            format!("Nov 26 10:00:08 login su[348]: {REFUSAL}"),
            format!("Nov 26 10:00:08 login sshd[x]: {REFUSAL}"),
            format!("Nov 26 10:00:08 login sshd[1: {REFUSAL}"),
            format!("Nov 26 10:00:08 login sshd[348]: Invalid user {REFUSAL}"),
            format!("Nov 26 10:00:08 login sudo: a: sshd[348]: {REFUSAL}"),
            format!("Nov 26 10:00:08 login  sshd[348]: {REFUSAL}"),
            format!("Nov\u{1b}26 10:00:08 login sshd[348]: {REFUSAL}"),
            format!("N\u{f6}v 26 10:00:0 login sshd[348]: {REFUSAL}"),
            format!("2{} login sshd[348]: {REFUSAL}", "0".repeat(100)),
            format!("Nov 26 10:00:08 login sshd[348]: {REFUSAL}{}", "x".repeat(100_000)),
            format!("Nov 26 10:00:08 login sshd[348]: {REFUSAL}\r"),
            "Nov 26 10:00:08 login sshd[348]:".to_owned(),
            "Nov".to_owned(),
            String::new(),
        ] {
            let text = format!("\u{fffd}\n{line}\nx\n");
            assert_eq!(times(text.as_bytes()), (String::new(), String::new()), "{line}");
        }
        assert_eq!(times(b"\xff\xff\xff \xff\n\n\n"), (String::new(), String::new()));
    }
}
