// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the budget: a table of decisions, and properties of any sequence of requests.

mod refusals;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use Purpose::{
    Asked, FirstToken, LastRevocation, Login, RefusedToken, Revocation, Submission, Token, UnverifiedRevocation,
};

const SECOND: u64 = 1_000;
const PERIOD: u64 = 300 * SECOND;
const ALICE: u32 = 2001;
const BOB: u32 = 2002;
const CAROL: u32 = 2003;

fn limited(requests: u32) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.configure(Some(Some(Limit { requests, period: PERIOD, guessed: false })));
    ledger
}

fn answer(requests: u64, left: u64, reset: u64) -> RequestLimit {
    RequestLimit { requests, left, reset: Some(Duration::from_secs(reset)) }
}

/// A purpose, a user, and the number of his requests.
type Requests = (Purpose, u32, u32);

/// A ledger with so many requests at the time 0.
fn after(limit: u32, sent: &[Requests]) -> Ledger {
    let mut ledger = limited(limit);
    for (purpose, uid, count) in sent {
        (0..*count).for_each(|_| ledger.count(*purpose, Some(*uid), 0));
    }
    ledger
}

#[test]
fn the_table_of_decisions() {
    let rows: &[(&str, &[Requests], Purpose, u32, bool)] = &[
        ("nothing was sent", &[], Submission, ALICE, true),
        ("one user alone in a loop", &[(Submission, ALICE, 46)], Submission, ALICE, true),
        ("he has his share", &[(Submission, ALICE, 47)], Submission, ALICE, false),
        ("another one asks", &[(Submission, ALICE, 47)], Submission, BOB, true),
        ("his share of the rest", &[(Submission, ALICE, 47), (Submission, BOB, 16)], Submission, BOB, false),
        ("a third one", &[(Submission, ALICE, 47), (Submission, BOB, 16)], Submission, CAROL, true),
        ("a loop leaves something", &[(Token, 0, 60), (Submission, ALICE, 7)], Submission, ALICE, false),
        ("to whoever submits few jobs", &[(Token, 0, 60), (Submission, ALICE, 7)], Submission, BOB, true),
        ("three tenths are for jobs and logins", &[(Token, 0, 60), (Submission, ALICE, 10)], Submission, BOB, false),
        ("which they may use", &[(Token, 0, 60), (Submission, ALICE, 10)], Token, BOB, true),
        ("to the last", &[(Token, 0, 99)], Token, ALICE, true),
        ("unless a user has many", &[(Token, ALICE, 95)], Token, ALICE, false),
        ("which leaves something for", &[(Token, ALICE, 95)], Token, BOB, true),
        ("and for jobs that begin", &[(Token, ALICE, 95)], FirstToken, BOB, true),
        ("also his own, to the twentieth", &[(Token, ALICE, 94)], FirstToken, ALICE, true),
        ("what the server refuses counts", &[(RefusedToken, ALICE, 47)], FirstToken, ALICE, false),
        ("for his share alone", &[(RefusedToken, ALICE, 47)], FirstToken, BOB, true),
        ("and not for running jobs", &[(RefusedToken, ALICE, 47)], Token, ALICE, true),
        ("one job of each user may begin", &[(Token, 0, 98)], FirstToken, ALICE, true),
        ("and a second one", &[(Token, 0, 90), (RefusedToken, ALICE, 1)], FirstToken, ALICE, true),
        (
            "of the assured tenth a user may have several",
            &[(Token, 0, 68), (Submission, ALICE, 1)],
            Submission,
            ALICE,
            true,
        ),
        (
            "the last that is not assured is for who has none",
            &[(Submission, BOB, 68), (Submission, ALICE, 1)],
            Submission,
            ALICE,
            false,
        ),
        ("what a user asks for", &[(Asked, ALICE, 46)], Asked, ALICE, true),
        ("is of his share", &[(Asked, ALICE, 47)], Asked, ALICE, false),
        ("with his submissions", &[(Asked, ALICE, 40), (Submission, ALICE, 7)], Asked, ALICE, false),
        ("and they with it", &[(Asked, ALICE, 47)], Submission, ALICE, false),
        ("not of another user's", &[(Asked, ALICE, 47)], Asked, BOB, true),
        ("nor of what is kept for jobs", &[(Token, 0, 70)], Asked, ALICE, false),
        ("what nobody has verified", &[(UnverifiedRevocation, ALICE, 47)], UnverifiedRevocation, ALICE, false),
        ("takes from nobody else", &[(UnverifiedRevocation, ALICE, 47)], UnverifiedRevocation, BOB, true),
        ("is never put off for ever", &[(Token, 0, 90)], UnverifiedRevocation, ALICE, true),
        ("by much traffic", &[(Token, 0, 80), (UnverifiedRevocation, BOB, 5)], UnverifiedRevocation, ALICE, false),
        ("a last one leaves half", &[(Token, 0, 45), (LastRevocation, BOB, 5)], LastRevocation, ALICE, false),
        ("and takes the rest", &[(Token, 0, 44), (LastRevocation, BOB, 5)], LastRevocation, ALICE, true),
        ("not for ever, either", &[(Token, 0, 90)], LastRevocation, ALICE, true),
        ("by both", &[(Token, 0, 80), (LastRevocation, BOB, 5)], UnverifiedRevocation, ALICE, false),
        ("it is not of his share", &[(LastRevocation, ALICE, 20), (Submission, ALICE, 30)], Submission, ALICE, true),
        ("and not beyond", &[(Token, 0, 100)], Token, ALICE, false),
        ("a login too", &[(Submission, ALICE, 99)], Login, BOB, true),
        ("submissions are assured of a tenth", &[(Token, 0, 89)], Submission, ALICE, true),
        ("and not of more", &[(Token, 0, 80), (Submission, ALICE, 5), (Submission, BOB, 5)], Submission, CAROL, false),
        ("nor of what is not there", &[(Token, 0, 100)], Submission, ALICE, false),
        ("revocations are shared, too", &[(Revocation, ALICE, 60)], Revocation, ALICE, false),
        ("among the users", &[(Revocation, ALICE, 60)], Revocation, BOB, true),
        ("a revocation leaves the last tenth", &[(Token, 0, 90)], Revocation, 0, false),
        ("and takes what is before it", &[(Token, 0, 89)], Revocation, 0, true),
    ];
    for (what, sent, purpose, uid, expected) in rows {
        let mut ledger = after(100, sent);
        assert_eq!(ledger.ask(*purpose, Some(*uid), SECOND).is_ok(), *expected, "{what}");
        let free = if *expected { 0 } else { PERIOD + 1 };
        assert!(ledger.ask(*purpose, Some(*uid), SECOND + free).is_ok() || *expected, "{what}: later");
    }
}

#[test]
fn small_limits_have_no_share_of_zero() {
    for limit in 1..12 {
        assert!(limited(limit).ask(Submission, Some(ALICE), 0).is_ok(), "{limit}");
        assert!(limited(limit).ask(Revocation, None, 0).is_ok(), "{limit}");
        assert!(limited(limit).ask(Token, None, 0).is_ok(), "{limit}");
    }
}

#[test]
fn without_a_limit_everything_is_permitted_and_counted() {
    let mut ledger = Ledger::default();
    assert!((0..500).all(|_| ledger.ask(Submission, Some(ALICE), 0).is_ok()));
    assert_eq!((ledger.limit(0), ledger.recent(1), ledger.left(1)), (None, 500, u32::MAX));
    ledger.configure(Some(None));
    ledger.learn(answer(100, 0, 60), 1);
    assert!(ledger.ask(Submission, Some(ALICE), 2).is_ok(), "the configuration says: no limit");
}

#[test]
fn where_limits_are_assumed_a_server_has_the_usual_one_until_it_answers() {
    let mut ledger = Ledger::default();
    ledger.assume();
    assert_eq!(ledger.limit(0), Some(Limit { requests: 100, period: PERIOD, guessed: true }));
    assert!((0..150).all(|number| ledger.ask(Token, Some(ALICE), number).is_ok()), "running jobs do not wait for it");
    assert!(ledger.ask(Submission, Some(BOB), 200).is_err());
    ledger.answered(300);
    assert!(ledger.limit(300).is_none() && !ledger.is_assumed(300) && ledger.ask(Submission, Some(BOB), 300).is_ok());
    let hour = 3_600 * SECOND;
    assert!(!ledger.is_assumed(hour) && ledger.is_assumed(hour + 300), "what was heard is too long ago");
    ledger.answered(hour + 301);
    ledger.learn(answer(40, 39, 300), hour + 301);
    assert_eq!(ledger.limit(hour + 302).map(|limit| (limit.requests, limit.guessed)), Some((40, false)));
    // A refusal tells more than what is assumed.
    let mut refused = Ledger::default();
    refused.assume();
    (0..30).for_each(|_| refused.count(Submission, Some(ALICE), 0));
    refused.refused(Some(Duration::from_secs(30)), 1);
    assert_eq!((refused.limit(1).unwrap().requests, refused.is_assumed(1)), (30, false));
    // The configuration knows it.
    let mut configured = Ledger::default();
    configured.assume();
    configured.configure(Some(None));
    assert!(configured.limit(0).is_none() && !configured.is_assumed(0));
}

#[test]
fn the_servers_answer_counts_the_other_hosts_at_this_address() {
    let mut ledger = Ledger::default();
    ledger.count(Token, None, 0);
    ledger.learn(answer(100, 12, 200), 0);
    assert_eq!((ledger.left(1), ledger.limit(1).unwrap().period), (12, PERIOD));
    assert!(ledger.ask(Token, None, 1).is_ok());
    // A tenth is assured to submissions, of which a user takes two thirds.
    assert_eq!((ledger.left(2), ledger.left_for(ALICE, 2)), (11, 7));
    // An older answer that arrives late takes nothing back.
    ledger.learn(answer(100, 12, 199), SECOND);
    assert_eq!(ledger.left(SECOND), 11);
    ledger.learn(answer(100, 0, 100), 100 * SECOND);
    let wait = ledger.ask(Token, None, 100 * SECOND).unwrap_err();
    assert_eq!(wait, 102 * SECOND, "until the server begins a new period");
    assert!(ledger.ask(Token, None, 100 * SECOND + wait).is_ok());
    // The first answer of a period tells how long it is.
    ledger.learn(answer(100, 99, 60), 400 * SECOND);
    assert_eq!(ledger.limit(400 * SECOND).unwrap().period, 60 * SECOND);
    // Without an answer for an hour, the limit is not known any more.
    assert_eq!(ledger.limit(400 * SECOND + 3_600 * SECOND), None);
}

#[test]
fn a_request_that_was_not_sent_costs_nothing() {
    let mut ledger = limited(10);
    for _ in 0..50 {
        ledger.ask(Token, None, 0).unwrap();
        ledger.refund(Token, None, 0);
    }
    assert_eq!(ledger.left(0), 10);
}

#[test]
fn what_is_shown_to_a_user_is_what_he_gets() {
    for sent in [&[][..], &[(Submission, ALICE, 30)], &[(Submission, BOB, 47)], &[(Token, 0, 95)], &[(Token, 0, 100)]] {
        let mut ledger = after(100, sent);
        let shown = ledger.left_for(ALICE, SECOND);
        let got = (0..200).filter(|_| ledger.ask(Submission, Some(ALICE), SECOND).is_ok()).count();
        assert_eq!(shown as usize, got, "{sent:?}");
    }
    let ledger = after(100, &[(Submission, ALICE, 2), (Submission, BOB, 3), (Token, ALICE, 1), (Asked, ALICE, 1)]);
    assert_eq!(ledger.uses(Some(BOB), 1), [("submission", Some(BOB), 3)]);
    let all = [("token", Some(ALICE), 2), ("submission", Some(BOB), 3), ("submission", Some(ALICE), 2)];
    assert_eq!(ledger.uses(None, 1), all);
}

/// Requests with the milliseconds since the one before.
fn requests() -> impl Strategy<Value = Vec<(u64, Purpose, u32)>> {
    let all = vec![Token, FirstToken, Asked, Revocation, UnverifiedRevocation, LastRevocation, Submission, Submission];
    let purpose = prop::sample::select(all);
    prop::collection::vec((0..6 * SECOND, purpose, 0..4_u32), 0..400)
}

/// The limit of a mytoken server: a period begins with the first request after the one before (MT-07).
struct Server {
    requests: u32,
    period: u64,
    begin: u64,
    seen: u32,
}

impl Server {
    /// The answer's headers; `None`: refused. It counts whole seconds.
    fn answer(&mut self, now: u64) -> Option<RequestLimit> {
        let now = now / SECOND;
        if self.seen == 0 || now >= self.begin + self.period {
            (self.begin, self.seen) = (now, 0);
        }
        self.seen += 1;
        let left = self.requests.checked_sub(self.seen)?;
        Some(answer(u64::from(self.requests), u64::from(left), (self.begin + self.period - now).max(1)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_period_has_more_than_the_limit(limit in 1..80_u32, requests in requests()) {
        let (mut ledger, mut now, mut permitted) = (limited(limit), 0, Vec::new());
        for (pause, purpose, uid) in requests {
            now += pause;
            let left = ledger.left(now);
            match ledger.ask(purpose, Some(uid), now) {
                Ok(()) => permitted.push(now),
                Err(wait) => {
                    prop_assert!((1..=PERIOD + 1).contains(&wait));
                    // A running job gets a permit while any is left, except the last of a user with many.
                    prop_assert!(purpose != Token || left <= limit / 20);
                    let mut later = ledger.clone();
                    prop_assert!(later.ask(purpose, Some(uid), now + wait).is_ok(), "after the wait");
                    prop_assert!(wait < 2 || ledger.clone().ask(purpose, Some(uid), now + wait - 2).is_err(), "not before");
                }
            }
            let recent = permitted.iter().filter(|at| **at + PERIOD >= now).count();
            prop_assert!(recent <= limit as usize);
        }
    }

    #[test]
    fn whatever_a_user_does_the_jobs_of_others_get_their_tokens(
        limit in 40..200_u32,
        harm in prop::collection::vec((0..2 * SECOND, 0..7_usize), 100..800),
    ) {
        // All that a user can cause: jobs with credentials of which some are refused, messages, commands.
        let all = [Token, FirstToken, Asked, Revocation, UnverifiedRevocation, LastRevocation, Submission];
        let (mut ledger, mut now) = (limited(limit), 0);
        for (number, (pause, which)) in harm.into_iter().enumerate() {
            now += pause;
            if ledger.ask(all[which], Some(ALICE), now).is_ok() && number % 2 == 0 {
                ledger.refused_token(Some(ALICE));
            }
            for purpose in [Token, FirstToken] {
                prop_assert_eq!(ledger.wait_for(purpose, Some(BOB), now), None, "{:?}: {:?}", purpose, ledger);
            }
        }
    }

    #[test]
    fn what_nobody_has_verified_leaves_what_is_kept(
        limit in 40..200_u32,
        harm in prop::collection::vec((0..2 * SECOND, 0..4_usize, 0..40_u32), 100..800),
    ) {
        let (mut ledger, mut now) = (limited(limit), 0);
        for (pause, which, uid) in harm {
            now += pause;
            let purpose = [FirstToken, Asked, UnverifiedRevocation, LastRevocation][which];
            if ledger.ask(purpose, Some(uid), now).is_ok() && purpose == FirstToken {
                ledger.refused_token(Some(uid));
            }
            // A twentieth for revocations, and one job of each user.
            prop_assert!(ledger.left(now) + limit / 20 + 40 >= limit * 3 / 10, "{ledger:?}");
            prop_assert!(ledger.left(now) > 0 || limit < 160);
        }
    }

    #[test]
    fn the_server_refuses_nothing_that_has_a_permit(
        limit in 20..120_u32,
        period in 20..300_u64,
        others in 0..15_u32,
        heard in prop::collection::vec(any::<bool>(), 400),
        requests in requests(),
    ) {
        let mut server = Server { requests: limit, period, begin: 0, seen: 0 };
        // The host has heard of the limit, when other hosts had sent something.
        let mut ledger = Ledger::default();
        (0..others).for_each(|_| assert!(server.answer(0).is_some()));
        ledger.count(Token, None, 0);
        ledger.learn(server.answer(0).unwrap(), 0);
        let mut now = 0;
        for ((pause, purpose, uid), heard) in requests.into_iter().zip(heard) {
            now += pause;
            if ledger.ask(purpose, Some(uid), now).is_ok() {
                let told = server.answer(now);
                prop_assert!(told.is_some(), "refused at {now}: {ledger:?}");
                // The agent hears the answers to its own requests only.
                if let Some(told) = told.filter(|_| heard && purpose != Submission) {
                    ledger.learn(told, now);
                }
            }
        }
    }

    #[test]
    fn nobody_starves(limit in 10..200_u32, loops in 1..5_u32, pause in 1..40_u64) {
        // Some users submit in a loop as fast as they can. Another one submits a job now and then.
        let mut ledger = limited(limit);
        let mut got: BTreeMap<u32, u32> = BTreeMap::new();
        let (mut asked, mut next) = (0, 400 * SECOND);
        for now in (0..4 * PERIOD).step_by(500) {
            for uid in 1..=loops {
                if ledger.ask(Submission, Some(uid), now).is_ok() {
                    *got.entry(uid).or_default() += 1;
                }
            }
            if now >= next {
                next += pause * SECOND;
                asked += 1;
                if ledger.ask(Submission, Some(99), now).is_ok() {
                    *got.entry(99).or_default() += 1;
                }
            }
            prop_assert!(ledger.left(now) >= limit * 3 / 10, "what is kept for logins and jobs is there");
        }
        let most = got.values().max().copied().unwrap_or(0);
        let all = (1..=loops).chain([99]).map(|uid| got.get(&uid).copied().unwrap_or(0));
        let fewest = all.min().unwrap_or(0);
        prop_assert!(fewest > 0, "{got:?}");
        let late = got.get(&99).copied().unwrap_or(0);
        prop_assert!(late >= asked.min(most / 8), "{late} of {asked}, others {got:?}");
    }
}

#[test]
fn what_is_withheld_is_given_back_at_its_end_and_the_servers_word_goes_before_it() {
    let mut ledger = limited(100);
    ledger.withhold(95, 60 * SECOND, 0);
    assert_eq!(ledger.left(0), 5);
    assert_eq!(ledger.wait_for(Submission, Some(ALICE), 0), None, "a tenth is assured");
    ledger.withhold(5, 30 * SECOND, 0);
    assert_eq!(ledger.wait_for(Token, Some(ALICE), 0), Some(30 * SECOND));
    assert_eq!([30, 59, 60].map(|second| ledger.left(second * SECOND)), [5, 5, 100]);
    let mut learned = Ledger::default();
    learned.learn(answer(100, 70, 200), 0);
    learned.withhold(60, 60 * SECOND, 0);
    assert_eq!(learned.left(0), 70);
}

#[test]
fn guesses_count_for_a_quarter_and_accepted_logins_for_their_users() {
    let mut ledger = limited(20);
    assert_eq!((0..9).filter(|_| ledger.unverified_login(0)).count(), 5);
    assert_eq!(ledger.left(0), 15);
    ledger.accept_logins(ALICE, 2, SECOND);
    assert_eq!((ledger.left(SECOND), ledger.uses(Some(ALICE), SECOND)), (15, vec![("login", Some(ALICE), 2)]));
    assert!(ledger.unverified_login(SECOND), "her requests are no guesses");
    ledger.accept_logins(BOB, 6, SECOND);
    assert_eq!(ledger.left(SECOND), 12, "two had not been counted");
    assert_eq!(ledger.uses(None, SECOND), [("login", Some(BOB), 6), ("login", Some(ALICE), 2)]);
    assert!(limited(1).unverified_login(0) && limited(3).unverified_login(0));
    let mut unlimited = Ledger::default();
    assert_eq!((0..99).filter(|_| unlimited.unverified_login(0)).count(), 99);
}
