// SPDX-License-Identifier: MIT OR Apache-2.0
//! The decisions about logins in the journal of systemd.

use std::io::{self, BufRead, Read as _};
use std::process::Command;
use std::time::{Duration, Instant};

use mytoken_login::LoggedDecision;
use serde::Deserialize;

use super::journalctl::{Reading, run};
use super::lines::for_each;
use super::{Entry, Found, Moment, PROGRAMS};

/// How far the search goes back.
pub(super) const DAYS: u32 = 30;

/// How long the search may take. A host that is attacked has many lines.
const TIME: Duration = Duration::from_secs(30);

/// The search in the journal of this host. Also returns what journalctl says about journal files that it cannot read.
///
/// # Errors
/// A sentence: there is no journal, or it was not searched.
pub(super) fn search(account: &str) -> Result<(Found, Option<String>), String> {
    search_by(|| Command::new("journalctl"), account)
}

fn search_by(journalctl: impl Fn() -> Command, account: &str) -> Result<(Found, Option<String>), String> {
    let end = Instant::now() + TIME;
    let mut command = journalctl();
    command.args(search_arguments());
    let (found, warning) = run(command, end, |output| read(output, account, end))?;
    if found == Found::default() && !has_entries(journalctl(), end)? {
        return Err("this host keeps none".to_owned());
    }
    Ok((found, warning))
}

fn search_arguments() -> Vec<String> {
    let mut arguments = ["--quiet", "--no-pager", "--reverse", "--output=json"].map(str::to_owned).to_vec();
    arguments.push(format!("--since=-{DAYS}d"));
    // Everybody can write to the journal as sshd, but not as root.
    arguments.push("_UID=0".to_owned());
    arguments.extend(PROGRAMS.map(|program| format!("--identifier={program}")));
    arguments
}

/// Whether the journal has any entry. Without a journal journalctl succeeds, too, and shows nothing.
fn has_entries(mut journalctl: Command, end: Instant) -> Result<bool, String> {
    journalctl.args(["--quiet", "--no-pager", "--lines=1", "--output=json"]);
    let (any, _) = run(journalctl, end, |mut output| {
        let length = output.read(&mut [0])?;
        Ok(Reading { value: length > 0, whole: length == 0 })
    })?;
    Ok(any)
}

/// One entry as journalctl writes it. Each value is text, or something else if it is not valid text or too long.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    microseconds: String,
    #[serde(rename = "MESSAGE")]
    message: String,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    program: String,
    #[serde(rename = "_PID", default)]
    process: Option<String>,
    #[serde(rename = "_UID")]
    uid: String,
}

/// Reads entries, the newest first.
fn read(output: impl BufRead, account: &str, end: Instant) -> io::Result<Reading<Found>> {
    let mut found = Found::default();
    let mut late = false;
    let read = for_each(output, |line| {
        late = Instant::now() > end;
        if late {
            return false;
        }
        let Some(entry) = entry(line).filter(|entry| entry.decision.is_of(account)) else { return true };
        if entry.decision.accepted {
            found.accepted.get_or_insert(entry);
            return true;
        }
        found.refused = Some(entry);
        false
    });
    let whole = read?;
    if late { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Reading { value: found, whole }) }
}

fn entry(line: &[u8]) -> Option<Entry> {
    let line: Line = serde_json::from_slice(line).ok()?;
    if line.uid != "0" || !PROGRAMS.contains(&line.program.as_str()) {
        return None;
    }
    let decision = LoggedDecision::parse(&line.message)?;
    let at = line.microseconds.parse::<u64>().ok()? / 1_000_000;
    let program = format!("{}[{}]", line.program, line.process.as_deref().unwrap_or("?"));
    Some(Entry { moment: Moment::At(at), program, decision })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refusal(user: &str, reason: &str) -> String {
        format!(
            "pam_mytoken(sshd:auth): refuse user={user} uid=2001 rhost=192.0.2.7 reason={reason} issuer=- sub=- rule=- token=at:1"
        )
    }

    fn line(seconds: u64, message: impl Into<Value>) -> Value {
        json!({
            "__REALTIME_TIMESTAMP": (seconds * 1_000_000).to_string(), "MESSAGE": message.into(),
            "SYSLOG_IDENTIFIER": "sshd-session", "_PID": "410", "_UID": "0", "__CURSOR": "s=1",
        })
    }

    fn changed(mut line: Value, name: &str, value: Value) -> Value {
        line[name] = value;
        line
    }

    fn read_lines(lines: &[Value]) -> Found {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        read(text.as_bytes(), "alice", Instant::now() + TIME).unwrap().value
    }

    fn reason(found: &Found) -> &str {
        found.refused.as_ref().map_or("", |entry| &entry.decision.reason)
    }

    #[test]
    fn the_newest_refusal_of_the_account_is_found() {
        let accept = "pam_mytoken(sshd:auth): accept user=alice uid=2001 rhost=- issuer=op sub=s rule=r token=at:1";
        let found = read_lines(&[
            line(90, accept),
            line(80, accept),
            line(70, refusal("bob", "expired")),
            line(60, refusal("alice", "audience")),
            line(50, refusal("alice", "expired")),
        ]);
        assert_eq!(reason(&found), "audience");
        let refused = found.refused.unwrap();
        assert_eq!((refused.moment, refused.program.as_str()), (Moment::At(60), "sshd-session[410]"));
        assert_eq!(found.accepted.unwrap().moment, Moment::At(90));
        let none = read_lines(&[line(70, refusal("bob", "expired")), line(60, refusal("alicex", "expired"))]);
        assert_eq!(none, Found::default());
    }

    #[test]
    fn a_refused_key_login_is_newer_than_an_old_refusal_of_a_token() {
        let key_login = refusal("alice", "no_recent_login").replace(":auth)", ":account)");
        let found = read_lines(&[line(70, key_login), line(60, refusal("alice", "expired"))]);
        assert_eq!(reason(&found), "no_recent_login");
    }

    #[test]
    fn lines_of_others_and_odd_lines_are_passed_over() {
        let forged = || line(90, refusal("alice", "forged"));
        let bytes: Vec<Value> = refusal("alice", "forged").bytes().map(Value::from).collect();
        let found = read_lines(&[
            changed(forged(), "_UID", json!("1000")),
            changed(forged(), "SYSLOG_IDENTIFIER", json!("su")),
            changed(forged(), "SYSLOG_IDENTIFIER", json!(["sshd", "sshd"])),
            changed(forged(), "MESSAGE", Value::Null),
            changed(forged(), "MESSAGE", json!(bytes)),
            changed(forged(), "MESSAGE", json!(format!("Invalid user {}", refusal("alice", "forged")))),
            changed(forged(), "MESSAGE", json!(format!("x\n{}", refusal("alice", "forged")))),
            changed(forged(), "MESSAGE", json!(format!("{}{}", refusal("alice", "forged"), "x".repeat(100_000)))),
            changed(forged(), "__REALTIME_TIMESTAMP", json!("-1")),
            json!([]),
            json!("text"),
            line(60, refusal("alice", "expired")),
        ]);
        assert_eq!(reason(&found), "expired");
        for text in [&b"\xff\xfe\n{\n"[..], b"", &[b'['; 200_000]] {
            assert_eq!(read(text, "alice", Instant::now() + TIME).unwrap().value, Found::default());
        }
    }

    #[test]
    fn the_search_ends_in_time() {
        let text = format!("{}\n", line(60, refusal("alice", "expired")));
        let late = read(text.as_bytes(), "alice", Instant::now().checked_sub(Duration::from_secs(1)).unwrap());
        assert!(late.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut));
    }

    /// The search with a shell in place of journalctl. Its arguments are those of journalctl.
    fn search_with(script: &str) -> Result<(Found, Option<String>), String> {
        let shell = || {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script, "journalctl"]);
            command
        };
        search_by(shell, "alice")
    }

    #[test]
    fn a_journal_that_was_not_searched_is_told() {
        let ask = "case \"$*\" in *--lines=1*) echo '{}';; *) ";
        assert_eq!(search_with(&format!("{ask};; esac")).unwrap(), (Found::default(), None));
        assert_eq!(search_with("exit 0").unwrap_err(), "this host keeps none");
        let failed = search_with("echo 'Failed to open files: Permission denied' >&2; exit 1").unwrap_err();
        assert_eq!(failed, "journalctl failed: Failed to open files: Permission denied");
        let (_, warning) = search_with(&format!("{ask} echo 'Journal file /x is truncated' >&2;; esac")).unwrap();
        assert_eq!(warning.as_deref(), Some("Journal file /x is truncated"));
        let entry = line(60, refusal("alice", "expired"));
        let (found, _) = search_with(&format!("echo '{entry}'; exec sleep 600")).unwrap();
        assert_eq!(reason(&found), "expired");
    }

    #[test]
    fn only_entries_of_root_and_of_sshd_are_asked_for() {
        let arguments = search_arguments();
        for argument in ["_UID=0", "--identifier=sshd", "--identifier=sshd-session", "--reverse", "--since=-30d"] {
            assert!(arguments.iter().any(|given| given == argument), "{argument}: {arguments:?}");
        }
    }
}
