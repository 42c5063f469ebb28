// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a submission waits, and which requests are sent a second time.

use std::thread;
use std::time::Duration;

use mytoken::server::ServerError;
use mytoken::{Deadline, Error};

/// After the caller has given up, an answer of the server is awaited for this long: a sub-token in it must be revoked.
pub const LATE_ANSWER: Duration = Duration::from_secs(60);

/// Shortest pause before a request is repeated.
const PAUSE: Duration = Duration::from_millis(250);

/// How often a request is repeated after a 429.
const REPEATS_AFTER_429: u32 = 3;

/// How long the caller of a submission waits.
pub struct Patience<'a> {
    /// The caller gives up at this time.
    pub deadline: Deadline,
    /// Whether the caller still waits.
    pub waits: &'a dyn Fn() -> bool,
}

impl Patience<'_> {
    /// Until when the answer to a request that makes a sub-token is awaited.
    #[must_use]
    pub fn answers(&self) -> Deadline {
        Deadline::after(self.deadline.remaining().unwrap_or_default().saturating_add(LATE_ANSWER))
    }

    /// Sends a request that makes a sub-token. `single`: the parent rotates, so after a failure of the server nobody knows whether the
    /// parent is still the same, and the request is not repeated.
    ///
    /// # Errors
    /// The last error of `send`. `None` when the caller has given up and nothing was sent.
    pub fn request<T>(&self, single: bool, mut send: impl FnMut() -> Result<T, Error>) -> Result<T, Option<Error>> {
        let (mut failures, mut refusals) = (0, 0);
        loop {
            if !(self.waits)() || self.deadline.remaining().is_none() {
                return Err(None);
            }
            let error = match send() {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            let pause = match repeat(&error) {
                Some(Repeat::AfterFailure) if failures == 0 && !single => {
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
            if self.deadline.remaining().is_none_or(|left| left <= pause) || !(self.waits)() {
                return Err(Some(error));
            }
            thread::sleep(pause);
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

    /// The number of requests when the first ones fail with `errors`, and the result.
    fn play(single: bool, seconds: u64, errors: &[Error]) -> (usize, Result<(), Option<Error>>) {
        let patience = Patience { deadline: Deadline::after(Duration::from_secs(seconds)), waits: &|| true };
        let mut sent = 0;
        let result = patience.request(single, || {
            sent += 1;
            errors.get(sent - 1).map_or(Ok(()), |error| Err(error.clone()))
        });
        (sent, result)
    }

    #[test]
    fn one_failure_of_the_server_is_followed_by_a_second_request() {
        for error in [failed(500), failed(502), failed(503)] {
            assert_eq!(play(false, 10, std::slice::from_ref(&error)), (2, Ok(())), "{error}");
            assert_eq!(
                play(true, 10, std::slice::from_ref(&error)),
                (1, Err(Some(error.clone()))),
                "rotating: {error}"
            );
            let twice = [error.clone(), error.clone()];
            assert_eq!(play(false, 10, &twice), (2, Err(Some(error))));
        }
    }

    #[test]
    fn other_errors_are_not_repeated() {
        let lost = Error::Http(HttpError::Unreachable { host: server(), reason: "reset".into(), sent: true });
        let dead = Error::Server(ServerError::TokenRefused { server: server() });
        let late = Error::Http(HttpError::TooLate { host: server() });
        for error in [failed(501), failed(504), lost, dead, late] {
            assert_eq!(play(false, 10, std::slice::from_ref(&error)), (1, Err(Some(error))));
        }
    }

    #[test]
    fn a_wait_that_the_server_names_is_kept_within_the_patience() {
        assert_eq!(play(true, 10, &[limited(0)]), (2, Ok(())));
        assert_eq!(play(false, 2, &[limited(60)]), (1, Err(Some(limited(60)))));
        assert_eq!(play(false, 0, &[]), (0, Err(None)));
    }

    #[test]
    fn nothing_is_sent_for_a_caller_who_has_given_up() {
        let asked = Cell::new(0);
        // The caller gives up after the first request.
        let waits = || {
            asked.set(asked.get() + 1);
            asked.get() < 2
        };
        let patience = Patience { deadline: Deadline::after(Duration::from_secs(10)), waits: &waits };
        let mut sent = 0;
        let result: Result<(), _> = patience.request(false, || {
            sent += 1;
            Err(failed(500))
        });
        assert_eq!((sent, result), (1, Err(Some(failed(500)))));
        assert_eq!(patience.request(false, || Ok(())), Err(None));
        assert!(patience.answers().remaining() > Some(LATE_ANSWER));
    }
}
