// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the broker forgets because it has expired, and which clock says so.

use std::sync::atomic::AtomicU64;

use mytoken::Clock;
use mytoken::private_files::{Directory, Owner};

use super::super::escrow::Escrow;
use super::kept::{HANDLE, request};
use super::*;

/// The clocks of a host: a test sets the time of day and lets time pass.
#[derive(Default)]
struct Set {
    /// Seconds that were set, beside those that have passed.
    day: AtomicU64,
    passed: AtomicU64,
}

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

impl Set {
    fn pass(&self, seconds: u64) {
        self.passed.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for Set {
    fn now(&self) -> u64 {
        self.unix_millis() / 1000
    }
}

impl ScheduleClock for Set {
    fn unix_millis(&self) -> u64 {
        (NOW + self.day.load(Ordering::Relaxed)) * 1000 + millis(self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed() + Duration::from_secs(self.passed.load(Ordering::Relaxed))
    }
}

struct Test {
    own: TestBroker,
    clock: Arc<Set>,
}

impl Test {
    /// The mytoken server says that it is `at_server`.
    fn new(at_server: Option<u64>) -> Self {
        let clock = Arc::new(Set::default());
        let fakes = Fakes { life: 100, squeue: Mutex::new(Some(RUNNING.to_owned())), ..Fakes::default() };
        let fakes = Fakes { server_time: Mutex::new(at_server), ..fakes };
        Self { own: TestBroker::with(fakes, Arc::clone(&clock) as _), clock }
    }

    /// A submission of a sub-token that was made at `NOW` for a day.
    fn submit(&self, job: u32, handle: &str, is_over: bool) {
        let sealed = format!("7:{handle}");
        self.own.token("n1", job, 7, &sealed).unwrap();
        let mut state = self.own.broker.state();
        let submission = state.submissions.get_mut(&SubmissionKey::new(7, handle, &sealed)).unwrap();
        (submission.admitted.made, submission.admitted.exp) = (NOW, NOW + DAY);
        if is_over {
            // Its server is away.
            submission.end = End::Revoking { tries: 3, due: Duration::MAX, asked: false };
        }
    }

    /// The handles of the submissions that are left after slurmctld's next answer.
    fn known(&self) -> Vec<String> {
        self.own.ask_slurmctld();
        let mut known: Vec<_> = self.own.broker.state().submissions.keys().map(|key| key.handle.clone()).collect();
        known.sort();
        known
    }
}

#[test]
fn a_jump_of_this_hosts_clock_makes_no_broker_forget() {
    for at_server in [Some(NOW), None] {
        let test = Test::new(at_server);
        test.submit(1, "a", false);
        test.submit(2, "b", true);
        assert_eq!(test.known(), ["a", "b"]);
        test.clock.day.store(400 * DAY, Ordering::Relaxed);
        assert_eq!(test.known(), ["a", "b"], "{at_server:?}");
    }
}

#[test]
fn a_submission_is_forgotten_when_its_server_says_that_its_sub_token_has_expired() {
    let test = Test::new(Some(NOW + DAY));
    test.submit(1, "a", false);
    test.submit(2, "b", true);
    assert_eq!(test.known(), ["a", "b"], "clocks differ");
    *test.own.fakes.server_time.lock().unwrap() = Some(NOW + DAY + 700);
    assert_eq!(test.known(), ["b"], "nobody has answered the request to revoke it");
    assert_eq!(test.own.counts().1, 0);
}

#[test]
fn no_submission_is_known_for_longer_than_its_sub_token_lives() {
    let test = Test::new(None);
    // This host's clock is years behind.
    test.submit(1, "a", false);
    test.submit(2, "b", true);
    assert_eq!(test.known(), ["a", "b"]);
    test.clock.pass(DAY + 500);
    assert_eq!(test.known(), ["a", "b"], "clocks differ");
    test.clock.pass(200);
    assert!(test.known().is_empty());
}

#[test]
fn a_jump_of_this_hosts_clock_removes_no_kept_credential() {
    let temp = tempfile::tempdir().unwrap();
    let test = Test::new(None);
    test.own.broker.use_escrow(Escrow::open(Directory::open(temp.path()).unwrap(), Owner::current()).unwrap());
    test.own.broker.take_texts(true);
    assert_eq!(test.own.keep(&request(7, HANDLE)), "");
    // The texts of the test never expire, so the clocks say when they do.
    let begin = test.own.broker.begin.0;
    let at = |server: &str| test.own.broker.expiry_times().at(server);
    let expiry = || at("https://mytoken");
    assert!(expiry() <= begin - DAY + 60, "this host's clock may be ahead");
    test.clock.day.store(400 * DAY, Ordering::Relaxed);
    assert!(expiry() <= begin - DAY + 60, "a jump");
    test.clock.pass(2 * DAY);
    assert!((begin + DAY..begin + DAY + 60).contains(&expiry()));
    *test.own.fakes.server_time.lock().unwrap() = Some(NOW + 77);
    assert_eq!(expiry(), NOW + 77, "the server knows");
    assert!((begin + DAY..begin + DAY + 60).contains(&at("https://other")), "of another server it knows nothing");
    assert_eq!(at(""), NOW + 77, "a text of an earlier release: the earliest time");
    test.own.broker.sweep_kept(true);
    assert_eq!(test.own.kept_count(), 1);
    *test.own.fakes.server_time.lock().unwrap() = Some(u64::MAX);
    for other in ["", "https://other"] {
        assert!((begin + DAY..begin + DAY + 60).contains(&at(other)), "a wrong clock drops what is of other servers");
    }
    test.own.broker.sweep_kept(true);
    assert_eq!(test.own.kept_count(), 0);
}
