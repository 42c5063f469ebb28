// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

/// 2026-11-21 20:58:11 UTC, a Saturday.
const NOW: u64 = 1_795_294_691;

fn event(time: u64, what: &str, text: &str) -> Event {
    Event { time, kind: what.parse().unwrap(), text: text.into(), times: 1 }
}

fn job(condition: Condition) -> JobStatus {
    JobStatus {
        job: 4711,
        uid: 2001,
        profile: "data".into(),
        state: JobState::Ready,
        name: None,
        session: None,
        running: true,
        condition: Some(condition),
        since: None,
        from: None,
        reason: None,
        file: Some("/run/mytoken/jobs/4711/bt_u2001".into()),
        token_until: Some(NOW + 2_400),
        until: Some(NOW + 75_709),
        files: Vec::new(),
        events: vec![event(NOW - 1_999, "started", "access token in 31 ms, next in 42 min")],
    }
}

fn alice(uid: u32) -> Option<String> {
    (uid == 2001).then(|| "alice".to_owned())
}

fn status(jobs: Vec<JobStatus>) -> Status {
    Status { node: "n1".into(), jobs, version: Some("1.2.3".into()), ..Status::default() }
}

#[test]
fn each_further_file_has_a_line_and_counts_for_the_exit_status() {
    let file = |name: &str, state: &str| -> FileStatus {
        let json = format!(
            r#"{{"name":"{name}","file":"/run/mytoken/jobs/4711/bt_u2001-{name}","state":"{state}","reason":"why","since":{NOW},"from":{NOW}}}"#
        );
        serde_json::from_str(&json).unwrap()
    };
    let valid = FileStatus { token_until: Some(NOW + 2_400), reason: None, ..file("ce", "valid") };
    let line = |file: &FileStatus| file_line(file, TimeFormat::utc(NOW));
    for (state, expected) in [
        ("pending", "no access token yet, the agent requests one"),
        ("waiting", "no access token; the credential gives the next from 20:58 on"),
        ("outage", "outage since 20:58: no access token, the agent tries again: why"),
        ("file_missing", "the file is missing or was changed; mytokenctl renew writes it"),
        ("refused", "refused: why; no access token"),
        ("revoked", "revoked with the credential"),
        ("frozen", "frozen: no access token"),
    ] {
        assert_eq!(line(&file("ce", state)), expected);
    }
    let good = JobStatus { files: vec![valid.clone()], ..job(Condition::Valid) };
    let screen = render(&status(vec![good.clone()]), TimeFormat::utc(NOW), &alice);
    assert!(screen.contains("\n  file ce  access token valid until 21:38\n  20:2"), "{screen}");
    assert_eq!(exit_status(&status(vec![good]), true), 0);
    let bad = JobStatus { files: vec![valid, file("tape", "refused")], ..job(Condition::Valid) };
    assert_eq!(exit_status(&status(vec![bad]), true), NOT_VALID);
}

#[test]
fn the_screen_shows_jobs_sessions_and_events() {
    let session = JobStatus {
        job: 0,
        session: Some("0a1b2c3d4e5f60718293a4b5c6d7e8f9".into()),
        reason: Some("the login brought no mytoken".into()),
        events: Vec::new(),
        ..job(Condition::NotRenewed)
    };
    let task = JobStatus {
        name: "4700_3".parse().ok(),
        events: vec![
            event(NOW - 2_000, "opened", "sub-token: scopes storage.read, audience https://se.example.org"),
            Event { times: 2, ..event(NOW - 180, "renewed", "access token in 18 ms, next in 40 min") },
        ],
        ..job(Condition::Valid)
    };
    let refused = JobStatus {
        job: 4712,
        uid: 2002,
        profile: "-\u{7}".into(),
        token_until: None,
        since: Some(NOW - 5),
        events: vec![event(NOW - 5, "refused", "the credential was made for user 2001\u{1b}[2J")],
        ..job(Condition::Refused)
    };
    let refused_reload = Some(RefusedReload { time: NOW - 60, reason: "the key is gone\u{1b}".into() });
    let status = Status { omitted: 3, refused_reload, ..status(vec![session, task, refused]) };
    let expected = "\
(3 older jobs and sessions are not shown; for one job: mytokenctl status JOB)
(the agent goes on with its earlier configuration: the reload of 20:57 was refused: the key is gone?)
SESSION 0a1b2c3d  user alice                  access token valid until 21:38, not renewed: the login brought no mytoken
JOB 4700_3  profile data  user alice          access token valid until 21:38, renewed 3 min ago; credential until Sun 18:00
  20:24:51  opened     n1       sub-token: scopes storage.read, audience https://se.example.org
  20:55:11  renewed    n1       access token in 18 ms, next in 40 min (2 times)
JOB 4712  profile -?  user 2002               refused since 20:58: no access token, no further one
  20:58:06  refused    n1       the credential was made for user 2001?[2J
";
    assert_eq!(render(&status, TimeFormat::utc(NOW), &alice), expected);
}

#[test]
fn each_condition_has_a_headline_and_an_exit_status() {
    let none = |job: JobStatus| JobStatus { token_until: None, ..job };
    let ended = |what: &str| JobStatus {
        running: false,
        events: vec![event(NOW, what, "")],
        ..none(job(if what == "revoked" { Condition::Revoked } else { Condition::Ended }))
    };
    let since = |job: JobStatus| JobStatus { since: Some(NOW - 60), ..job };
    for (job, headline, exit) in [
        (job(Condition::Valid), "access token valid until 21:38, renewed 33 min ago; credential until Sun 18:00", 0),
        (none(job(Condition::Pending)), "no access token yet, the agent requests one; credential until Sun 18:00", 3),
        (
            JobStatus { from: Some(NOW + 3_600), ..none(job(Condition::Waiting)) },
            "no access token; the credential gives the next from 21:58 on; credential until Sun 18:00",
            3,
        ),
        (
            since(job(Condition::Outage)),
            "outage since 20:57: access token valid until 21:38, the agent tries again; credential until Sun 18:00",
            3,
        ),
        (
            job(Condition::FileMissing),
            "the file with the access token is missing or was changed; mytokenctl renew writes it; credential until Sun 18:00",
            3,
        ),
        (since(job(Condition::Refused)), "refused since 20:57: access token valid until 21:38, no further one", 3),
        (
            none(job(Condition::Revoking)),
            "no access token; the server has not revoked the credential yet, the agent tries again",
            3,
        ),
        (since(none(job(Condition::Revoked))), "revoked since 20:57, no access token", 3),
        (ended("revoked"), "ended, revoked", 0),
        (ended("left"), "ended; another node revokes the sub-token", 0),
        (ended("kept"), "ended, not revoked, valid until Sun 18:00", 0),
        (ended("requeued"), "ended here; the submission goes on and keeps its credential", 0),
        (ended("removed"), "ended", 0),
    ] {
        assert_eq!(super::headline(&job, TimeFormat::utc(NOW)), headline);
        let status = status(vec![job]);
        assert_eq!((exit_status(&status, true), exit_status(&status, false)), (exit, 0), "{headline}");
    }
}

#[test]
fn the_names_of_the_json_are_stable() {
    let session = JobStatus { job: 0, session: Some("0a".into()), events: Vec::new(), ..job(Condition::NotRenewed) };
    let waits = JobStatus { from: Some(NOW), since: Some(1), reason: Some("why".into()), ..job(Condition::Waiting) };
    let refused_reload = Some(RefusedReload { time: NOW, reason: "the key is gone".into() });
    let status = Status { refused_reload, ..status(vec![session, waits]) };
    let expected = serde_json::json!({
        "node": "n1",
        "version": "1.2.3",
        "keys": [],
        "omitted": 0,
        "jobs": [{
            "job": 4711,
            "name": "4711",
            "uid": 2001,
            "user": "alice",
            "profile": "data",
            "running": true,
            "state": "waiting",
            "since": 1,
            "from": NOW,
            "reason": "why",
            "file": "/run/mytoken/jobs/4711/bt_u2001",
            "access_token_until": NOW + 2_400,
            "credential_until": NOW + 75_709,
            "events": [{"time": NOW - 1_999, "what": "started", "text": "access token in 31 ms, next in 42 min"}],
        }],
        "sessions": [{
            "session": "0a",
            "uid": 2001,
            "user": "alice",
            "running": true,
            "state": "not_renewed",
            "file": "/run/mytoken/jobs/4711/bt_u2001",
            "access_token_until": NOW + 2_400,
            "credential_until": NOW + 75_709,
            "events": [],
        }],
        "refused_reload": {"time": NOW, "reason": "the key is gone"},
    });
    assert_eq!(serde_json::to_value(Report::of(&status, &alice)).unwrap(), expected);
}

#[test]
fn an_agent_of_an_earlier_release_is_understood() {
    let line = r#"{"node":"n1","jobs":[{"job":7,"uid":2001,"profile":"data","state":"ready","until":1,"events":[]},
        {"job":0,"uid":2001,"profile":"session","state":"failed","events":[]}]}"#;
    let status: Status = serde_json::from_str(line).unwrap();
    let report = serde_json::to_value(Report::of(&status, &alice)).unwrap();
    assert_eq!((&report["jobs"][0]["state"], &report["sessions"][0]["state"]), (&"valid".into(), &"ended".into()));
}
