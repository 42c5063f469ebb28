// SPDX-License-Identifier: MIT OR Apache-2.0
//! The decisions about logins in the journal of systemd.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mytoken_login::LoggedDecision;
use serde::Deserialize;

use super::lines::for_each;
use super::{Entry, Found, Moment, PROGRAMS};

/// How far the search goes back.
pub(super) const DAYS: u32 = 30;

/// How long the search may take. A host that is attacked has many lines.
const TIME: Duration = Duration::from_secs(30);

/// The search in the journal of this host.
///
/// # Errors
/// A sentence: there is no journal.
pub(super) fn search(account: &str) -> Result<Found, String> {
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--no-pager", "--reverse", "--output=json"]).arg(format!("--since=-{DAYS}d"));
    // Everybody can write to the journal as sshd, but not as root.
    command.arg("_UID=0").args(PROGRAMS.map(|program| format!("--identifier={program}")));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("journalctl cannot be run: {error}"))?;
    let found = match child.stdout.take() {
        Some(output) => read(BufReader::new(output), account, Instant::now() + TIME),
        None => Err("journalctl has no output".to_owned()),
    };
    // It may have more to tell than was read.
    let _ = child.kill();
    let _ = child.wait();
    found
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
fn read(output: impl BufRead, account: &str, end: Instant) -> Result<Found, String> {
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
    read.map_err(|error| error.to_string())?;
    if late { Err(format!("not read to its end within {} s", TIME.as_secs())) } else { Ok(found) }
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
        read(text.as_bytes(), "alice", Instant::now() + TIME).unwrap()
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
            assert_eq!(read(text, "alice", Instant::now() + TIME).unwrap(), Found::default());
        }
    }

    #[test]
    fn the_search_ends_in_time() {
        let text = format!("{}\n", line(60, refusal("alice", "expired")));
        let late = read(text.as_bytes(), "alice", Instant::now().checked_sub(Duration::from_secs(1)).unwrap());
        assert!(late.unwrap_err().contains("within 30 s"));
    }
}
