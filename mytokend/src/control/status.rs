// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl status`: why has my job a token, or none?

use std::fmt::Write as _;

use mytoken_wire::agent::{EventKind, JobState, JobStatus, Status};
use nix::unistd::{Uid, User};

use super::moment::Moments;

/// The status for a screen. `name_of` gives the account of a uid.
#[must_use]
pub fn render(status: &Status, moments: Moments, name_of: &dyn Fn(u32) -> Option<String>) -> String {
    let mut text = String::new();
    if status.omitted > 0 {
        let _ = writeln!(text, "({} older ones are left out; ask for one: mytokenctl status JOB)", status.omitted);
    }
    for job in &status.jobs {
        let title = if job.job == 0 { "SESSION".to_owned() } else { format!("JOB {}", job.job) };
        let user = name_of(job.uid).unwrap_or_else(|| job.uid.to_string());
        let head = format!("{title}  profile {}  uid {user}", printable(&job.profile));
        let _ = writeln!(text, "{head:<52} credential: {}", credential(job, moments));
        for event in &job.events {
            let time = moments.clock(event.time);
            let (what, told) = (printable(event.kind.as_str()), printable(&event.text));
            let times = if event.times > 1 { format!(" ({} times)", event.times) } else { String::new() };
            let _ = writeln!(text, "  {time}  {what:<10} {:<8} {told}{times}", status.node);
        }
    }
    text
}

/// The state in words.
fn credential(job: &JobStatus, moments: Moments) -> String {
    let fresh = job.events.iter().rev().find(|event| matches!(event.kind, EventKind::Started | EventKind::Renewed));
    let until = job.until.map(|until| format!("valid until {}", moments.until(until)));
    match job.state {
        JobState::Ready => {
            let renewed = fresh.map(|event| format!("renewed {}", moments.ago(event.time)));
            [until, renewed].into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
        JobState::Pending => "no access token yet, the agent tries on".to_owned(),
        JobState::Failed => match job.events.last().map(|event| &event.kind) {
            Some(EventKind::Revoked) => "over, revoked".to_owned(),
            Some(EventKind::Removed | EventKind::Dropped | EventKind::Left | EventKind::Kept | EventKind::Requeued) => {
                "over".to_owned()
            }
            _ => "none".to_owned(),
        },
    }
}

/// A user chooses the name of a profile in a credential of his own making, and root reads it on a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The name of an account, from the system.
#[must_use]
pub fn account(uid: u32) -> Option<String> {
    Some(User::from_uid(Uid::from_raw(uid)).ok()??.name)
}

#[cfg(test)]
mod tests {
    use mytoken_wire::agent::Event;

    use super::*;

    fn event(time: u64, what: &str, text: &str) -> Event {
        Event { time, kind: what.parse().unwrap(), text: text.into(), times: 1 }
    }

    #[test]
    fn a_screen_for_the_owner() {
        // 2026-11-21 20:58:11 UTC, a Saturday.
        let now = 1_795_294_691;
        let status = Status {
            node: "n1".into(),
            jobs: vec![
                JobStatus {
                    job: 4711,
                    uid: 2001,
                    profile: "data".into(),
                    state: JobState::Ready,
                    until: Some(now + 75_709),
                    events: vec![
                        event(now - 2_000, "opened", "sub-token: scopes storage.read, audience https://se.example.org"),
                        event(now - 1_999, "started", "access token in 31 ms, next in 42 min"),
                        Event { times: 2, ..event(now - 180, "renewed", "access token in 18 ms, next in 40 min") },
                    ],
                },
                JobStatus {
                    job: 4712,
                    uid: 2002,
                    profile: "-".into(),
                    state: JobState::Failed,
                    until: None,
                    events: vec![event(now - 5, "refused", "the credential was made for user 2001\u{1b}[2J")],
                },
            ],
            omitted: 3,
        };
        let name = |uid| (uid == 2001).then(|| "alice".to_owned());
        let expected = "\
(3 older ones are left out; ask for one: mytokenctl status JOB)
JOB 4711  profile data  uid alice                    credential: valid until Sun 18:00, renewed 3 min ago
  20:24:51  opened     n1       sub-token: scopes storage.read, audience https://se.example.org
  20:24:52  started    n1       access token in 31 ms, next in 42 min
  20:55:11  renewed    n1       access token in 18 ms, next in 40 min (2 times)
JOB 4712  profile -  uid 2002                        credential: none
  20:58:06  refused    n1       the credential was made for user 2001?[2J
";
        assert_eq!(render(&status, Moments::utc(now), &name), expected);
    }
}
