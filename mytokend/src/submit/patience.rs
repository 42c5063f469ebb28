// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a submission waits, and which requests are sent a second time.

use std::time::Duration;

use mytoken::server::ServerError;
use mytoken::{Deadline, Error};

use super::request_threads::{RequestThreads, Requests};
use crate::jobs::{AttemptTimes, repeatable};

/// After the caller has given up, an answer of the server is awaited for this long: a sub-token in it must be revoked.
pub const LATE_ANSWER: Duration = Duration::from_secs(60);

/// Shortest pause before a request is repeated.
const PAUSE: Duration = Duration::from_millis(250);

/// How often a request is repeated after a 429.
const REPEATS_AFTER_429: u32 = 3;

/// Longest wait for an answer before a second request is sent. A mytoken server answers within a second.
const LONGEST_WAIT_FOR_ANSWER: Duration = Duration::from_secs(3);

/// How long the caller of a submission waits.
pub struct Patience<'a> {
    /// The caller gives up at this time.
    pub deadline: Deadline,
    /// Whether the caller still waits.
    pub waits: &'a dyn Fn() -> bool,
    /// Where requests run that have no answer when the submission has its credential. `None`: the process does not wait for them, so there
    /// is only one at a time, because the sub-token of the other would stay.
    pub threads: Option<&'a RequestThreads>,
}

/// How the request for a sub-token may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sends {
    /// Only once: the parent rotates, so after a failure of the server nobody knows whether the parent is still the same.
    Single,
    /// Again when it has failed.
    InTurn,
    /// Also while it has no answer.
    Overlapping,
}

/// The times of a request that may take `limit`.
fn times_within(limit: Duration) -> AttemptTimes {
    AttemptTimes { deadline: limit, second: (limit / 3).min(LONGEST_WAIT_FOR_ANSWER) }
}

impl Patience<'_> {
    /// Until when the answer to a request that makes a sub-token is awaited.
    #[must_use]
    pub fn answers(&self) -> Deadline {
        Deadline::after(self.deadline.remaining().unwrap_or_default().saturating_add(LATE_ANSWER))
    }

    /// Until when the answer to a request that changes nothing is awaited, if it can be sent again after that.
    pub(super) fn first_answer(&self) -> Deadline {
        self.deadline.at_most(times_within(self.deadline.remaining().unwrap_or_default()).second)
    }

    /// Sends a request that makes a sub-token. One failure is followed by a further request, and with [`Sends::Overlapping`] so is one
    /// request without an answer. The first sub-token counts.
    ///
    /// # Errors
    /// The last error. `None` when the caller has given up and nothing was sent.
    pub(super) fn request<T>(&self, sends: Sends, requests: &mut impl Requests<T>) -> Result<T, Option<Error>> {
        let limit = self.deadline.remaining().unwrap_or_default();
        let times = times_within(limit);
        let (mut running, mut failures, mut refusals) = (0_u8, 0, 0);
        let mut overlaps = sends == Sends::Overlapping;
        let (mut due, mut last) = (Some(Duration::ZERO), None);
        loop {
            let now = requests.elapsed();
            if due.is_some_and(|due| due <= now) {
                due = None;
                if now < limit && (self.waits)() {
                    // There is one second request, however long the deadline.
                    overlaps &= running == 0;
                    requests.send();
                    running = running.saturating_add(1);
                    due = times.further(running).filter(|_| overlaps).map(|wait| now.saturating_add(wait));
                } else if running == 0 {
                    return Err(last);
                }
            }
            let error = match requests.answer(due.map(|due| due.saturating_sub(requests.elapsed()))) {
                Some(Ok(result)) => return Ok(result),
                Some(Err(error)) => error,
                // Another request is due.
                None => continue,
            };
            running = running.saturating_sub(1);
            if running > 0 {
                if repeatable(&error).is_none() {
                    return Err(Some(error));
                }
                // The other request may still be answered.
                last = Some(error);
                continue;
            }
            let pause = match repeat(&error) {
                Some(Repeat::AfterFailure) if failures == 0 && sends != Sends::Single => {
                    failures += 1;
                    PAUSE
                }
                Some(Repeat::AfterRefusal(wait)) if refusals < REPEATS_AFTER_429 => {
                    refusals += 1;
                    wait.max(PAUSE)
                }
                _ => return Err(Some(error)),
            };
            // Callers that failed at the same time do not come back at the same time.
            let pause = pause.saturating_add(Duration::from_millis(u64::from(rand::random::<u8>())));
            let next = requests.elapsed().saturating_add(pause);
            if next >= limit || !(self.waits)() {
                return Err(Some(error));
            }
            (due, last) = (Some(next), Some(error));
        }
    }
}

/// Why a request is sent again.
#[derive(Debug, PartialEq, Eq)]
enum Repeat {
    /// The server failed.
    AfterFailure,
    /// The server's request limit was reached; it names this wait. The request had no effect.
    AfterRefusal(Duration),
}

/// Whether the request is sent again after this error. After 500, 502 or 503 the server may have made a sub-token that nobody gets; it has
/// the name of the submission and ends with its expiry. [`mytoken::server`] itself tries a second connection when there was none. Other
/// errors would be the same again, or cost another wait.
fn repeat(error: &Error) -> Option<Repeat> {
    match error {
        Error::Server(ServerError::Failed { status: 500 | 502 | 503, .. }) => Some(Repeat::AfterFailure),
        Error::Server(ServerError::TooManyRequests { retry_after, .. }) => {
            Some(Repeat::AfterRefusal(retry_after.unwrap_or(Duration::from_secs(1))))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use mytoken::http::HttpError;

    use super::*;

    fn server() -> String {
        "https://mt.example.org".to_owned()
    }

    fn failed(status: u16) -> Error {
        Error::Server(ServerError::Failed { server: server(), status })
    }

    fn limited(seconds: u64) -> Error {
        let retry_after = Some(Duration::from_secs(seconds));
        Error::Server(ServerError::TooManyRequests { server: server(), retry_after })
    }

    fn lost() -> Error {
        Error::Http(HttpError::Unreachable { host: server(), reason: "reset".into(), sent: true })
    }

    fn dead() -> Error {
        Error::Server(ServerError::TokenRefused { server: server() })
    }

    /// Requests whose answers come after these milliseconds, in a time of its own. Further ones are answered at once. An answer is the
    /// number of its request.
    #[derive(Default)]
    struct Script {
        answers: Vec<(u64, Result<usize, Error>)>,
        now: Duration,
        /// When each request was sent, in milliseconds.
        sent: Vec<u128>,
        open: Vec<(Duration, Result<usize, Error>)>,
    }

    impl Requests<usize> for Script {
        fn send(&mut self) {
            let number = self.sent.len();
            let (takes, answer) = self.answers.get(number).cloned().unwrap_or((0, Ok(number)));
            self.sent.push(self.now.as_millis());
            self.open.push((self.now + Duration::from_millis(takes), answer));
        }

        fn answer(&mut self, wait: Option<Duration>) -> Option<Result<usize, Error>> {
            let first = (0..self.open.len()).min_by_key(|index| self.open[*index].0);
            let until = wait.map(|wait| self.now + wait);
            match first {
                Some(index) if until.is_none_or(|until| self.open[index].0 <= until) => {
                    let (at, answer) = self.open.remove(index);
                    self.now = self.now.max(at);
                    Some(answer)
                }
                _ => {
                    self.now = until.expect("nobody would answer");
                    None
                }
            }
        }

        fn elapsed(&self) -> Duration {
            self.now
        }
    }

    fn patience(seconds: u64, waits: &dyn Fn() -> bool) -> Patience<'_> {
        Patience { deadline: Deadline::after(Duration::from_secs(seconds)), waits, threads: None }
    }

    type Played = (Vec<u128>, Result<usize, Option<Error>>);

    /// When requests were sent, and the result.
    fn play_for(patience: &Patience<'_>, sends: Sends, answers: &[(u64, Result<usize, Error>)]) -> Played {
        let mut script = Script { answers: answers.to_vec(), ..Script::default() };
        let result = patience.request(sends, &mut script);
        (script.sent, result)
    }

    /// The number of requests when the first ones fail at once with `errors`, and the result.
    fn play(sends: Sends, seconds: u64, errors: &[Error]) -> (usize, Result<usize, Option<Error>>) {
        let answers: Vec<_> = errors.iter().map(|error| (0, Err(error.clone()))).collect();
        let (sent, result) = play_for(&patience(seconds, &|| true), sends, &answers);
        (sent.len(), result)
    }

    /// The same in ten seconds, with requests that may overlap and take these milliseconds.
    fn overlap(answers: &[(u64, Result<usize, Error>)]) -> Played {
        play_for(&patience(10, &|| true), Sends::Overlapping, answers)
    }

    #[test]
    fn one_failure_of_the_server_is_followed_by_a_second_request() {
        for error in [failed(500), failed(502), failed(503)] {
            let once = std::slice::from_ref(&error);
            for sends in [Sends::InTurn, Sends::Overlapping] {
                assert_eq!(play(sends, 10, once), (2, Ok(1)), "{error}");
                let twice = [error.clone(), error.clone()];
                assert_eq!(play(sends, 10, &twice), (2, Err(Some(error.clone()))));
            }
            assert_eq!(play(Sends::Single, 10, once), (1, Err(Some(error.clone()))), "rotating: {error}");
        }
    }

    #[test]
    fn other_errors_are_not_repeated() {
        let late = Error::Http(HttpError::TooLate { host: server() });
        for error in [failed(501), failed(504), lost(), dead(), late] {
            for sends in [Sends::InTurn, Sends::Overlapping] {
                assert_eq!(play(sends, 10, std::slice::from_ref(&error)), (1, Err(Some(error.clone()))));
            }
        }
    }

    #[test]
    fn a_wait_that_the_server_names_is_kept_within_the_patience() {
        assert_eq!(play(Sends::Single, 10, &[limited(0)]), (2, Ok(1)));
        assert_eq!(play(Sends::Single, 2, &[limited(60)]), (1, Err(Some(limited(60)))));
        assert_eq!(play(Sends::Single, 0, &[]), (0, Err(None)));
        let refusals = vec![limited(1); 9];
        assert_eq!(play(Sends::Single, 60, &refusals), (4, Err(Some(limited(1)))));
    }

    #[test]
    fn one_request_without_an_answer_is_followed_by_a_second_one() {
        assert_eq!(overlap(&[(60_000, Ok(0)), (10, Ok(1))]), (vec![0, 3_000], Ok(1)));
        assert_eq!(overlap(&[(60_000, Ok(0)), (59_000, Ok(1))]), (vec![0, 3_000], Ok(0)), "and by no third one");
        assert_eq!(overlap(&[(3_500, Ok(0)), (9_000, Ok(1))]), (vec![0, 3_000], Ok(0)), "the first answer counts");
        assert_eq!(overlap(&[(2_900, Ok(0))]), (vec![0], Ok(0)));
        let (sent, result) = play_for(&patience(60, &|| true), Sends::Overlapping, &[(59_000, Ok(0)), (59_000, Ok(1))]);
        assert_eq!((sent, result), (vec![0, 3_000], Ok(0)), "whatever the deadline");
        for sends in [Sends::Single, Sends::InTurn] {
            assert_eq!(play_for(&patience(10, &|| true), sends, &[(8_000, Ok(0))]), (vec![0], Ok(0)), "{sends:?}");
        }
    }

    #[test]
    fn a_short_deadline_leaves_time_for_the_second_request() {
        for (limit, second) in [(300, 100), (9_000, 3_000), (10_000, 3_000), (120_000, 3_000)] {
            assert_eq!(times_within(Duration::from_millis(limit)).second.as_millis(), second, "{limit}");
        }
        assert!(patience(3, &|| true).first_answer().remaining() <= Some(Duration::from_secs(1)));
        assert_eq!(patience(0, &|| true).first_answer().remaining(), None);
    }

    #[test]
    fn a_temporary_error_waits_for_the_other_request_and_a_final_one_does_not() {
        for error in [failed(500), lost(), limited(1)] {
            let answers = [(4_000, Err(error.clone())), (2_000, Ok(1))];
            assert_eq!(overlap(&answers), (vec![0, 3_000], Ok(1)), "{error}");
            // The same of the second request.
            let answers = [(6_000, Ok(0)), (10, Err(error.clone()))];
            assert_eq!(overlap(&answers), (vec![0, 3_000], Ok(0)), "{error}");
        }
        let answers = [(4_000, Err(dead())), (2_000, Ok(1))];
        assert_eq!(overlap(&answers), (vec![0, 3_000], Err(Some(dead()))));
        assert_eq!(overlap(&[(4_000, Err(lost())), (2_000, Err(lost()))]), (vec![0, 3_000], Err(Some(lost()))));
    }

    #[test]
    fn a_failure_and_a_hang_cost_one_more_request_each() {
        let (sent, result) = overlap(&[(0, Err(failed(500))), (60_000, Ok(1))]);
        assert_eq!((sent.len(), result), (3, Ok(2)), "{sent:?}");
        let (sent, result) = overlap(&[(4_000, Err(failed(500))), (2_000, Err(failed(503)))]);
        assert_eq!((sent.len(), result), (3, Ok(2)), "{sent:?}");
        assert!(sent[2] >= 5_250, "{sent:?}");
    }

    #[test]
    fn nothing_is_sent_for_a_caller_who_has_given_up() {
        // The caller gives up after the first request.
        let asked = Cell::new(0);
        let waits = || {
            asked.set(asked.get() + 1);
            asked.get() < 2
        };
        let patience = patience(10, &waits);
        assert_eq!(play_for(&patience, Sends::InTurn, &[(0, Err(failed(500)))]), (vec![0], Err(Some(failed(500)))));
        assert_eq!(play_for(&patience, Sends::InTurn, &[]), (vec![], Err(None)));
        asked.set(0);
        // Its answer is awaited, because a sub-token in it must be revoked.
        assert_eq!(play_for(&patience, Sends::Overlapping, &[(50_000, Ok(0))]), (vec![0], Ok(0)));
        assert!(patience.answers().remaining() > Some(LATE_ANSWER));
    }
}
