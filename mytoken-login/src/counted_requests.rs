// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests of a login to one server: each is counted before it is sent, a long wait is recorded, and a server that does not answer
//! gets no request for a while.

use std::time::Duration;

use mytoken::http::HttpError;
use mytoken::{Deadline, Error, Secret};

use crate::budget::{Allowance, RequestProvider};
use crate::refusal::Refusal;

/// Time of a probe: a server that takes longer for its discovery document counts as silent. It is reserved for [`CountedRequests::probe`].
/// After a login was ended while it waited, the next login waits for it.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// Time that is reserved for recording what an answer means, or that there was none. The login waits for the lock of the ledger meanwhile.
const RECORD_TIME: Duration = Duration::from_millis(500);

/// Who else hears of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// The agent of the host: it sends requests to the same server.
    Agent,
    /// The server is a provider, to which the agent sends nothing.
    Nobody,
}

/// Whether an answer with this status may be due to the token, by its text or its length. Whoever enters a token must not choose an answer
/// that looks like an outage: for outages a site may keep another way to log in.
pub(crate) fn is_about_token(status: u16) -> bool {
    matches!(status, 300..=399 | 400 | 413 | 414 | 431)
}

/// The requests to one server.
pub(crate) struct CountedRequests<'a> {
    /// Its URL.
    pub url: &'a str,
    pub allowance: &'a Allowance<'a>,
    pub told: Told,
    /// Sends a request that holds no claim of its sender: for the discovery document.
    pub look: &'a dyn Fn(Deadline) -> Result<(), Error>,
    /// Whether the last request still waits for a name server.
    pub looks_up_name: &'a dyn Fn() -> bool,
}

impl CountedRequests<'_> {
    /// Refuses a token that was sent and refused in this connection, and any while the server gets no requests.
    pub(crate) fn check_before(&self, entered: Option<&Secret>, deadline: Deadline) -> Result<(), Refusal> {
        if let Some(entered) = entered {
            self.allowance.refuse_repeated(entered)?;
        }
        // A shorter probe would take a slow server for a silent one.
        let has_time = deadline.remaining().is_some_and(|left| left > PROBE_TIME);
        if has_time && self.allowance.settle_ended_logins(self.url, deadline) {
            self.probe_after_ended_login(deadline);
        }
        match entered {
            Some(_) => self.allowance.check_backoff(self.url),
            // A limit that other people have reached must not cost the user a mytoken that was redeemed in this login.
            None => self.allowance.check_silence(self.url),
        }
    }

    /// Counts and sends one request, and records what its failure means for later requests. `entered` is the entered token, if the request
    /// holds it.
    pub(crate) fn send<T>(
        &self,
        entered: Option<&Secret>,
        provider: RequestProvider<'_>,
        deadline: Deadline,
        send: impl FnOnce(Deadline) -> Result<T, Error>,
    ) -> Result<T, Refusal> {
        let url = self.url;
        self.count(provider, deadline)?;
        let Some(left) = deadline.remaining() else { return Err(Refusal::DeadlinePassed) };
        if let Some(token) = entered {
            self.allowance.record_sent(token);
        }
        let (probe_time, record_time) = (PROBE_TIME.min(left / 4), RECORD_TIME.min(left / 8));
        let probe_by = deadline.earlier(record_time);
        let (answer, _recorded) =
            self.allowance.wait_for(url, provider, deadline, || send(probe_by.earlier(probe_time)));
        answer.inspect(|_| self.allowance.record_answer(url, provider, deadline)).map_err(|error| {
            match &error {
                // There was no connection, so the entered text is not the cause.
                Error::Http(error) if error.is_without_connection() => self.record_silence_for_all(deadline),
                Error::Http(HttpError::Unreachable { .. } | HttpError::TooLate { .. }) => {
                    // A process that was stopped until now must not take a late answer for a silent server.
                    if probe_by.remaining().is_some_and(|left| left >= probe_time / 2) {
                        self.probe(probe_by, deadline);
                    }
                    self.allowance.record_silence(url, provider, deadline);
                }
                _ => self.allowance.record_error(url, provider, &error, deadline),
            }
            Refusal::from(error)
        })
    }

    fn count(&self, provider: RequestProvider<'_>, deadline: Deadline) -> Result<(), Refusal> {
        match self.told {
            Told::Agent => self.allowance.count_request(self.url, provider, deadline),
            Told::Nobody => self.allowance.count_untold(self.url, provider, deadline),
        }
    }

    /// Asks whether the server is silent for all requests, or only for this token. Some tokens make the server wait: for a provider
    /// that their holder chose, or for the server itself (a short token that rotates, MT-45). The answer serves the next login, not this
    /// one.
    fn probe(&self, answer_by: Deadline, deadline: Deadline) {
        let counted = self.count(RequestProvider::UNKNOWN, answer_by);
        if counted.is_ok() && self.is_silent(answer_by, deadline) {
            self.record_silence_for_all(deadline);
        }
    }

    /// Asks the same after a login that was ended. Its sender may have chosen the end, so it has shown nothing about the server. Only a server
    /// that is silent itself for the whole time stops other addresses, not name servers that are slow: with those, logins still work.
    fn probe_after_ended_login(&self, deadline: Deadline) {
        if self.is_silent(deadline.at_most(PROBE_TIME), deadline) && !(self.looks_up_name)() {
            self.record_silence_for_all(deadline);
        }
    }

    /// Whether a request that holds no claim of its sender gets no answer. Records another error until `deadline`.
    fn is_silent(&self, answer_by: Deadline, deadline: Deadline) -> bool {
        match (self.look)(answer_by) {
            Err(Error::Http(error)) => {
                error.is_without_connection()
                    || matches!(error, HttpError::Unreachable { .. } | HttpError::TooLate { .. })
            }
            Err(error) => {
                self.allowance.record_error(self.url, RequestProvider::UNKNOWN, &error, deadline);
                false
            }
            Ok(()) => false,
        }
    }

    fn record_silence_for_all(&self, deadline: Deadline) {
        self.allowance.record_silence(self.url, RequestProvider::NO_CLAIM, deadline);
    }
}
