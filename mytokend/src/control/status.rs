// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl status`: the state of each job's and session's credential, and what happened to it.

use std::fmt::Write as _;

use mytoken::time_format::TimeFormat;
use mytoken_wire::agent::{Event, EventKind, JobState, JobStatus, Status};
use mytoken_wire::printable;
use nix::unistd::{Uid, User};

/// The status for a terminal. `account_of` gives the account name of a uid.
#[must_use]
pub fn render(status: &Status, times: TimeFormat, account_of: &dyn Fn(u32) -> Option<String>) -> String {
    let mut text = String::new();
    if status.omitted > 0 {
        let _ = writeln!(
            text,
            "({} older jobs and sessions are not shown; for one job: mytokenctl status JOB)",
            status.omitted
        );
    }
    for job in &status.jobs {
        let title = if job.job == 0 { "SESSION".to_owned() } else { format!("JOB {}", job.job) };
        let user = account_of(job.uid).unwrap_or_else(|| job.uid.to_string());
        let head = format!("{title}  profile {}  uid {user}", shown(&job.profile));
        let _ = writeln!(text, "{head:<52} credential: {}", credential(job, times));
        for event in &job.events {
            let time = times.seconds(event.time);
            let (kind, sentence) = (shown(event.kind.as_str()), shown(&event.text));
            let repeated = if event.times > 1 { format!(" ({} times)", event.times) } else { String::new() };
            let _ = writeln!(text, "  {time}  {kind:<10} {:<8} {sentence}{repeated}", status.node);
        }
    }
    text
}

/// The state of the credential.
fn credential(job: &JobStatus, times: TimeFormat) -> String {
    let renewal = job.events.iter().rev().find(|event| matches!(event.kind, EventKind::Started | EventKind::Renewed));
    let until = job.until.map(|until| format!("valid until {}", times.minutes(until)));
    match job.state {
        JobState::Ready => {
            let renewed = renewal.map(|event| format!("renewed {}", times.ago(event.time)));
            [until, renewed].into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
        JobState::Pending => match job.events.last() {
            Some(Event { kind: EventKind::Waiting, text, .. }) => shown(text),
            _ => "no access token yet, the agent tries again".to_owned(),
        },
        JobState::Failed => match job.events.last().map(|event| &event.kind) {
            Some(EventKind::Revoked) => "ended, revoked".to_owned(),
            Some(EventKind::Removed | EventKind::Dropped | EventKind::Left | EventKind::Kept | EventKind::Requeued) => {
                "ended".to_owned()
            }
            _ => "none".to_owned(),
        },
    }
}

/// Text that a user may have chosen, made safe for root's terminal: users can seal credentials with any profile name.
fn shown(text: &str) -> String {
    printable(text, usize::MAX)
}

/// The account name of a uid, from the system.
#[must_use]
pub fn account(uid: u32) -> Option<String> {
    Some(User::from_uid(Uid::from_raw(uid)).ok()??.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: u64, what: &str, text: &str) -> Event {
        Event { time, kind: what.parse().unwrap(), text: text.into(), times: 1 }
    }

    #[test]
    fn the_screen_shows_state_and_events() {
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
                    job: 4713,
                    uid: 2001,
                    profile: "data".into(),
                    state: JobState::Pending,
                    until: Some(now + 75_709),
                    events: vec![event(
                        now - 5,
                        "waiting",
                        "the credential gives access tokens again from tomorrow on",
                    )],
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
            ..Status::default()
        };
        let account = |uid| (uid == 2001).then(|| "alice".to_owned());
        let expected = "\
(3 older jobs and sessions are not shown; for one job: mytokenctl status JOB)
JOB 4711  profile data  uid alice                    credential: valid until Sun 18:00, renewed 3 min ago
  20:24:51  opened     n1       sub-token: scopes storage.read, audience https://se.example.org
  20:24:52  started    n1       access token in 31 ms, next in 42 min
  20:55:11  renewed    n1       access token in 18 ms, next in 40 min (2 times)
JOB 4713  profile data  uid alice                    credential: the credential gives access tokens again from tomorrow on
  20:58:06  waiting    n1       the credential gives access tokens again from tomorrow on
JOB 4712  profile -  uid 2002                        credential: none
  20:58:06  refused    n1       the credential was made for user 2001?[2J
";
        assert_eq!(render(&status, TimeFormat::utc(now), &account), expected);
    }
}
