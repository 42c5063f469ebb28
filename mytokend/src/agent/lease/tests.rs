// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

const OWNER: Owner = Owner { uid: 1, gid: 1 };

fn lease(phase: Phase, token: Option<u64>) -> Lease {
    let mut lease = Lease::new(LeaseKey::Job(1), OWNER, "default", 0);
    lease.phase = phase;
    lease.token = token.map(|exp| CurrentToken { exp, lifetime: 60 });
    lease
}

#[test]
fn the_next_action_is_the_earliest() {
    let ended = Phase::Ended { due: 7, tries: 0, revoke: None };
    for (lease, next, while_busy) in [
        (lease(Phase::Active { due: 5_000 }, None), Some((5_000, Action::Renew)), Some(5_000)),
        (lease(Phase::Active { due: 5_000 }, Some(10)), Some((5_000, Action::Renew)), Some(5_000)),
        (lease(Phase::Active { due: 50_000 }, Some(10)), Some((9_750, Action::Expire)), Some(9_750)),
        (lease(Phase::Refused, None), None, None),
        (lease(Phase::Refused, Some(10)), Some((9_750, Action::Expire)), Some(9_750)),
        (lease(ended, None), Some((7, Action::Settle)), None),
        (lease(Phase::Finished { due: 9 }, None), Some((9, Action::Delete)), None),
        (Lease { write_due: Some(3), ..lease(Phase::Refused, Some(10)) }, Some((3, Action::Write)), Some(3)),
    ] {
        assert_eq!(lease.next_action(), next, "{:?}", lease.phase);
        let busy = Lease { in_progress: true, ..lease };
        assert_eq!(busy.next_action().map(|(due, _)| due), while_busy, "{:?}", busy.phase);
        let revoking = Lease { in_progress: false, revoking: true, ..busy };
        assert_eq!(revoking.next_action().map(|(due, _)| due), while_busy, "{:?}", revoking.phase);
    }
}

#[test]
fn a_second_request_has_its_own_time() {
    let mut lease = lease(Phase::Active { due: 5_000 }, Some(10));
    lease.requests.queue();
    assert_eq!(lease.next_action(), Some((9_750, Action::Expire)));
    lease.requests.further_due = Some(7_000);
    assert_eq!(lease.next_action(), Some((7_000, Action::Renew)));
}

#[test]
fn a_jump_of_the_clock_moves_the_plans_and_not_the_credential() {
    let hour = 3_600_000;
    let start = Lease { until: Some(9_000), ..lease(Phase::Active { due: 5_000_000 }, Some(6_000)) };
    let mut back = start.clone();
    back.follow_jump(-hour, 1, 9_000_000);
    assert_eq!((back.phase, back.token.unwrap().exp), (Phase::Active { due: 1_400_000 }, 2_400));
    assert_eq!((back.until, back.clock_offset), (Some(9_000), Some(1)));
    let mut forward = start.clone();
    forward.follow_jump(hour, 1, 5_500_000);
    assert_eq!((forward.phase, forward.token.unwrap().exp), (Phase::Active { due: 5_500_000 }, 9_600));
    let mut waiting = Lease { waits_until: Some(7_000), ..start };
    waiting.follow_jump(-hour, 1, 0);
    assert_eq!(waiting.phase, Phase::Active { due: 1_400_000 }, "and then it waits again");
    waiting.follow_jump(2 * hour, 1, 0);
    assert_eq!(waiting.phase, Phase::Active { due: 7_006_000 });
    let mut ended = lease(Phase::Ended { due: 5_000_000, tries: 3, revoke: Some(5_500_000) }, None);
    ended.follow_jump(-hour, 1, 0);
    assert_eq!(ended.phase, Phase::Ended { due: 1_400_000, tries: 3, revoke: Some(1_900_000) });
}

#[test]
fn a_stored_lease_is_read_back() {
    let mut before = lease(Phase::Ended { due: 5, tries: 1, revoke: Some(9) }, Some(10));
    before.key = LeaseKey::Submission { uid: 1, handle: "h".into() };
    before.credential = Some(LeaseCredential::Sealed("mt1.x".into()));
    before.windows = vec![Window { nbf: Some(5), exp: None }];
    before.in_progress = true;
    before.token_text = Some(Secret::new("an access token"));
    before.add_job(8, 5, Some(7), 1);
    before.known.remember_own(8, "n[1-4]", "n2", false);
    before.record(1_000, EventKind::Started, "here");
    let text = serde_json::to_string(&before).unwrap();
    assert!(!text.contains("an access token"), "{text}");
    let after: Lease = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (after.key.clone(), after.phase, after.token, after.credential.clone()),
        (before.key, before.phase, before.token, before.credential)
    );
    assert_eq!((&after.history, &after.windows), (&before.history, &before.windows));
    assert_eq!(after.known, before.known);
    assert_eq!((after.running_jobs().collect::<Vec<_>>(), after.leaders.clone()), (vec![8], [7].into()));
    assert!(!after.in_progress && after.scheduled.is_none());
    assert_eq!(after.in_present_form(4).jobs[&8].last_seen, 4);
}

#[test]
fn an_end_that_no_broker_understands_is_given_up_after_days() {
    let mut lease = lease(Phase::Ended { due: 0, tries: 9, revoke: Some(0) }, None);
    lease.add_job(8, 5, None, 1_000);
    lease.is_unopened = true;
    assert!(!lease.is_given_up(1_000 + LONGEST_UNOPENED) && lease.is_given_up(1_001 + LONGEST_UNOPENED));
    lease.is_unopened = false;
    assert!(!lease.is_given_up(u64::MAX), "it expires");
}

#[test]
fn the_revocation_of_a_session_without_an_end_is_given_up_after_a_day() {
    let day = 86_400_000;
    let ended = |tries| Phase::Ended { due: 0, tries, revoke: Some(1_000) };
    let mut lease = lease(ended(9), None);
    assert!(!lease.is_never_revoked(u64::MAX), "a job");
    lease.key = LeaseKey::Session("a".repeat(32));
    assert!(!lease.is_never_revoked(1_000 + day) && lease.is_never_revoked(1_001 + day));
    lease.until = Some(5);
    assert!(!lease.is_never_revoked(u64::MAX), "it expires");
    (lease.until, lease.phase) = (None, ended(0));
    assert!(!lease.is_never_revoked(u64::MAX), "it was not tried");
}

#[test]
fn an_old_token_that_could_not_be_replaced_expires_at_its_own_time() {
    let mut lease = lease(Phase::Active { due: 900_000 }, Some(1_000));
    lease.add_job(8, 5, None, 1);
    lease.jobs.get_mut(&8).unwrap().file = Some(400);
    assert_eq!(lease.next_action(), Some((399_750, Action::Expire)));
    assert_eq!(lease.state(Some(8)), JobState::Ready);
}

#[test]
fn of_many_ended_jobs_the_last_ones_are_shown() {
    let mut lease = lease(Phase::Active { due: 0 }, None);
    for job in 0..1_000 {
        lease.add_job(job, 1, Some(7), 0);
        lease.jobs.get_mut(&job).unwrap().running = job == 3;
    }
    assert_eq!(lease.jobs.len(), MOST_ENDED_JOBS + 2, "{:?}", lease.jobs.keys());
    assert!(lease.runs(3) && lease.jobs.contains_key(&999));
    assert_eq!(lease.leaders, [7].into());
}

#[test]
fn a_refused_submission_keeps_its_credential_for_the_revocation() {
    for (key, kept) in
        [(LeaseKey::Submission { uid: 1, handle: "h".into() }, true), (LeaseKey::Session("s".into()), false)]
    {
        let mut lease = Lease::new(key, OWNER, "p", 0);
        lease.credential = Some(LeaseCredential::Sealed("mt1.x".into()));
        lease.refuse(1, "no".into());
        assert_eq!(lease.credential.is_some(), kept, "{:?}", lease.key);
    }
}

/// Jobs continue while the agent is upgraded. These are files of release 0.1.0 with invented secrets.
#[test]
fn files_of_earlier_releases_are_read() {
    let job = r#"{"key":{"job":1},"uid":1,"gid":2,"array_job":7,"process":null,"profile":"default","handle":"0123456789abcdef0123456789abcdef",
            "required":true,"until":1800086400,"source":{"sealed":"mt1.6a1d98ed.AAAA"},"held":{"exp":1800000120,"lifetime":60},
            "phase":{"alive":{"due":1800000060500}},"failures":0,"reason":null,
            "history":[{"time":1800000000,"what":"started","text":"node1"}]}"#;
    let lease = serde_json::from_str::<Lease>(job).unwrap().in_present_form(5);
    let handle = "0123456789abcdef0123456789abcdef".to_owned();
    assert_eq!(lease.key, LeaseKey::Submission { uid: 1, handle });
    assert!(lease.known.is_unknown());
    let (name, file) = (None, Some(1_800_000_120));
    let local = LocalJob { name, file, ..LocalJob::new(2, 5) };
    assert_eq!((lease.jobs, lease.leaders), ([(1, Box::new(local))].into(), [7].into()));
    let session = r#"{"key":{"session":"s1"},"uid":1,"gid":1,"array_job":null,"process":[4711,99],"profile":"session","handle":"",
            "required":false,"until":null,"source":{"mytoken":{"server":"main","mytoken":"a.b.c","scope":"openid",
            "audience":"https://testbed"}},"held":null,"phase":{"ended":{"due":5,"tries":2}},"failures":3,"reason":"no token",
            "history":[]}"#;
    let lease = serde_json::from_str::<Lease>(session).unwrap().in_present_form(5);
    assert_eq!(lease.key, LeaseKey::Session("s1".into()));
    assert_eq!((lease.phase, lease.process), (Phase::Ended { due: 5, tries: 2, revoke: None }, Some((4711, 99))));
    assert!(serde_json::from_str::<Lease>(job).unwrap().files.is_empty());
    // A job that was refused before the upgrade has no credential, so nobody knows its submission.
    let refused = job
        .replace(r#"{"sealed":"mt1.6a1d98ed.AAAA"}"#, "null")
        .replace(r#"{"alive":{"due":1800000060500}}"#, r#""refused""#);
    let lease = serde_json::from_str::<Lease>(&refused).unwrap().in_present_form(5);
    assert_eq!((lease.key.clone(), lease.runs(1)), (LeaseKey::Job(1), true));
}

#[test]
fn a_further_file_is_asked_for_and_expires_beside_the_main_one() {
    let file = |name: &str, due, exp: Option<u64>| {
        let admitted =
            AdmittedFile { name: mytoken_wire::FileName::parse(name).unwrap(), windows: Vec::new(), refused: None };
        NamedFile { token: exp.map(|exp| CurrentToken { exp, lifetime: 60 }), ..NamedFile::new(admitted, due) }
    };
    let mut lease = lease(Phase::Active { due: 50_000 }, Some(100));
    lease.files = vec![file("a", 40_000, None), file("b", 30_000, Some(35))];
    assert_eq!(lease.next_action(), Some((34_750, Action::Expire)), "nothing to ask with");
    lease.credential = Some(LeaseCredential::Sealed("mt1.x".into()));
    assert_eq!(lease.next_action(), Some((30_000, Action::RenewFile(1))));
    lease.phase = Phase::Refused;
    assert_eq!(lease.next_action(), Some((30_000, Action::RenewFile(1))), "the main file alone was refused");
    let round = lease.files[1].requests.queue();
    assert_eq!(lease.next_action(), Some((34_750, Action::Expire)));
    lease.end_task(Action::RenewFile(1), round);
    lease.end_task(Action::RenewFile(9), round);
    assert_eq!(lease.files[1].requests.count(), 0);
    lease.phase = Phase::Finished { due: 20_000 };
    assert_eq!(lease.next_action(), Some((20_000, Action::Delete)), "nothing is asked for after the end");
    let stored = serde_json::to_string(&lease).unwrap();
    let back: Lease = serde_json::from_str(&stored).unwrap();
    assert_eq!(
        (back.files[1].name.as_str(), back.files[1].due, back.files[1].token),
        ("b", Some(30_000), lease.files[1].token)
    );
    // An agent of an earlier release reads such a lease, and ignores what it does not know.
    let unknown: Lease = serde_json::from_str(&stored.replace("\"files\"", "\"later\"")).unwrap();
    assert_eq!((unknown.files.len(), unknown.token), (0, lease.token));
}

#[test]
fn a_lease_knows_its_server() {
    let followed = LeaseCredential::SubToken { server: "main".into(), sub_token: Secret::new("a.b.c") };
    let own = lane("https://mt.example", "https://op.example");
    for (credential, lane, expected) in [
        (None, own.as_str(), "https://mt.example"),
        (Some(&LeaseCredential::Sealed("mt1.x".into())), &own, "https://mt.example"),
        (Some(&followed), "", "main"),
        (None, "", ""),
    ] {
        assert_eq!(server(credential, lane), expected);
    }
}
