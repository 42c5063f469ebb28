// SPDX-License-Identifier: MIT OR Apache-2.0
//! The node's side: one connection to one of the brokers, kept open. Another broker is asked when one gives no answer that can be used.

mod in_turn;

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mytoken::Deadline;
use mytoken::http::root_cause;
use reqwest::blocking::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::messages::{BODY_LIMIT, JOBS_LIMIT, JOBS_PATH, Refusal};
use in_turn::in_turn;

/// HTTP status: the broker does not know this node, or not with this key.
pub const FORBIDDEN: u16 = 403;

/// Time limit for a connection to one broker: another one may answer.
const CONNECT: Duration = Duration::from_secs(2);

/// Why no broker gave an answer that can be used. A sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// TLS settings or names are wrong.
    #[error("the connection to the broker cannot be set up: {0}")]
    Settings(
        /// Why.
        String,
    ),
    /// This node has no certificate.
    #[error("this node is not enrolled at a broker: {0}")]
    NotEnrolled(
        /// Why.
        String,
    ),
    /// The broker could not be reached.
    #[error("no broker can be reached: {broker}: {reason}")]
    Unreachable {
        /// Its name.
        broker: String,
        /// Why.
        reason: String,
    },
    /// The broker answered with an error.
    #[error("the broker {broker} answered {status}: {reason}")]
    Refused {
        /// Its name.
        broker: String,
        /// The status.
        status: u16,
        /// The reason that it gave.
        reason: String,
        /// How long the node shall wait before it asks again, if the broker says it.
        wait: Option<Duration>,
    },
    /// The answer has another form.
    #[error("the answer of the broker {0} cannot be read; it may be of another version")]
    Answer(
        /// Its name.
        String,
    ),
    /// The answer is longer than any that a broker gives.
    #[error("the answer of the broker {0} is too long")]
    TooLong(
        /// Its name.
        String,
    ),
    /// An error, and not as a broker tells it: a proxy's page.
    #[error("{broker} answered {status}, but not as a broker does; is a proxy in between?")]
    Foreign {
        /// Its name.
        broker: String,
        /// The status.
        status: u16,
    },
    /// None of several brokers gave an answer that can be used.
    #[error("no broker gave an answer that can be used: {}", in_turn::told(.0))]
    All(
        /// What each of them did, in the order in which they were asked.
        Vec<ClientError>,
    ),
}

/// A client of the brokers.
pub struct BrokerClient {
    http: Client,
    /// Names with ports.
    brokers: Vec<String>,
    /// The one that answered last.
    current: AtomicUsize,
}

impl BrokerClient {
    /// A client of these brokers, with a node's certificate in `tls`.
    ///
    /// # Errors
    /// [`ClientError::Settings`].
    pub fn new(brokers: Vec<String>, tls: rustls::ClientConfig) -> Result<Self, ClientError> {
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(None)
            .tcp_keepalive(Duration::from_secs(60))
            .pool_idle_timeout(None)
            // Requests at the same time need several. One of them stays.
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| ClientError::Settings(error.to_string()))?;
        if brokers.is_empty() {
            return Err(ClientError::Settings("no broker is named".to_owned()));
        }
        Ok(Self { http, brokers, current: AtomicUsize::new(0) })
    }

    /// Sends a request to the broker that answered last, and to the others if it gives no answer that can be used. A broker that does not
    /// know this node ends it: the caller may enrol there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        deadline: Deadline,
    ) -> Result<T, ClientError> {
        self.post_within(path, &|_: Duration| body, deadline)
    }

    /// The same. `body` gets the time that this node waits for one broker, which may be a part of what is left for all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post_within<T: DeserializeOwned, B: Serialize>(
        &self,
        path: &str,
        body: &dyn Fn(Duration) -> B,
        deadline: Deadline,
    ) -> Result<T, ClientError> {
        self.ask(None, path, body, deadline)
    }

    /// The same after a broker has refused this node, which cannot enrol there: another one may know it. `refused` is what
    /// [`Self::post_within`] has returned.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post_beside<T: DeserializeOwned, B: Serialize>(
        &self,
        refused: ClientError,
        path: &str,
        body: &dyn Fn(Duration) -> B,
        deadline: Deadline,
    ) -> Result<T, ClientError> {
        self.ask(Some(refused), path, body, deadline)
    }

    fn ask<T: DeserializeOwned, B: Serialize>(
        &self,
        refused: Option<ClientError>,
        path: &str,
        body: &dyn Fn(Duration) -> B,
        deadline: Deadline,
    ) -> Result<T, ClientError> {
        let send = |broker: &str, patience: Duration| self.post_to(broker, path, bytes_of(&body(patience))?, patience);
        let left = || deadline.remaining();
        let (index, answer) = in_turn(&self.brokers, self.current.load(Ordering::Relaxed), refused, &left, send)?;
        self.current.store(index, Ordering::Relaxed);
        Ok(answer)
    }

    /// All brokers, the one that answered last first.
    #[must_use]
    pub fn in_order(&self) -> Vec<&str> {
        let first = self.current.load(Ordering::Relaxed).min(self.brokers.len());
        let (before, after) = self.brokers.split_at(first);
        after.iter().chain(before).map(String::as_str).collect()
    }

    /// Sends a request to this broker.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post_at<T: DeserializeOwned>(
        &self,
        broker: &str,
        path: &str,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<T, ClientError> {
        self.post_to(broker, path, bytes_of(body)?, patience)
    }

    fn post_to<T: DeserializeOwned>(
        &self,
        broker: &str,
        path: &str,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<T, ClientError> {
        let unreachable = |reason: String| ClientError::Unreachable { broker: broker.to_owned(), reason };
        let request = self.http.post(format!("https://{broker}{path}")).timeout(patience).body(body);
        let answer = request.send().map_err(|error| unreachable(root_cause(&error)))?;
        let status = answer.status().as_u16();
        let bytes = at_most(limit_of(path), answer).map_err(|error| unreachable(error.to_string()))?;
        read(broker, status, &bytes.ok_or_else(|| ClientError::TooLong(broker.to_owned()))?)
    }
}

/// The most bytes of an answer to a request for `path`.
fn limit_of(path: &str) -> usize {
    if path == JOBS_PATH { JOBS_LIMIT } else { BODY_LIMIT }
}

/// All of `answer`. `None`: it has more than `limit` bytes.
fn at_most(limit: usize, answer: impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    answer.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

/// What an answer says.
fn read<T: DeserializeOwned>(broker: &str, status: u16, bytes: &[u8]) -> Result<T, ClientError> {
    let broker = broker.to_owned();
    if (200..300).contains(&status) {
        return serde_json::from_slice(bytes).map_err(|_| ClientError::Answer(broker));
    }
    match serde_json::from_slice::<Refusal>(bytes) {
        Ok(Refusal { error, wait }) => {
            let (reason, wait) = (mytoken_wire::printable(&error, 200), wait.map(Duration::from_millis));
            Err(ClientError::Refused { broker, status, reason, wait })
        }
        Err(_) => Err(ClientError::Foreign { broker, status }),
    }
}

fn bytes_of(body: &impl Serialize) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(body).map_err(|error| ClientError::Settings(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::messages::{JobsAnswer, TOKEN_PATH};

    #[test]
    fn the_jobs_of_a_large_array_can_be_read() {
        let lines = (0..100_000).map(|task| format!("1000_{task}|{task}|PENDING|2026-11-28T00:00:00|1000|a name\n"));
        let answer = serde_json::to_vec(&JobsAnswer { lines: lines.collect() }).unwrap();
        let read_whole = |path: &str| at_most(limit_of(path), &answer[..]).unwrap();
        let jobs: JobsAnswer = read("b1", 200, &read_whole(JOBS_PATH).expect("it is not too long")).unwrap();
        assert_eq!(jobs.lines.lines().count(), 100_000);
        assert_eq!(read_whole(TOKEN_PATH), None, "no part of an answer is taken for all of it");
    }
}
