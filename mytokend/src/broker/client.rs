// SPDX-License-Identifier: MIT OR Apache-2.0
//! The node's side: one connection to one of the brokers, kept open. Another broker is asked when one does not answer.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mytoken::Deadline;
use reqwest::blocking::Client;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::messages::BODY_LIMIT;

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
    /// No broker could be reached.
    #[error("no broker can be reached: {0}")]
    Unreachable(
        /// The last one, and why.
        String,
    ),
    /// The broker answered with an error.
    #[error("the broker {broker} answered {status}: {reason}")]
    Refused {
        /// Its name.
        broker: String,
        /// The status.
        status: u16,
        /// The reason that it gave.
        reason: String,
    },
    /// The answer has another form.
    #[error("the answer of the broker {0} cannot be read; it may be of another version")]
    Answer(
        /// Its name.
        String,
    ),
}

#[derive(Deserialize)]
struct Fault {
    error: String,
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

    /// Sends a request to the broker that answered last, and to the others if it does not answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        deadline: Deadline,
    ) -> Result<T, ClientError> {
        let bytes = bytes_of(body)?;
        let first = self.current.load(Ordering::Relaxed);
        let mut last = ClientError::Unreachable("there was no time left".to_owned());
        for step in 0..self.brokers.len() {
            let index = (first + step) % self.brokers.len();
            let (Some(broker), Some(left)) = (self.brokers.get(index), deadline.remaining()) else { break };
            // A broker that hangs must leave time for the others.
            let others = u32::try_from(self.brokers.len() - step).unwrap_or(1);
            match self.post_to(broker, path, bytes.clone(), left / others) {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error @ (ClientError::Unreachable(_) | ClientError::Refused { status: 500.., .. })) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
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
        let unreachable = |reason: String| ClientError::Unreachable(format!("{broker}: {reason}"));
        let request = self.http.post(format!("https://{broker}{path}")).timeout(patience).body(body);
        let answer = request.send().map_err(|error| unreachable(root_cause(&error)))?;
        let status = answer.status();
        let mut bytes = Vec::new();
        let limit = u64::try_from(BODY_LIMIT).unwrap_or(u64::MAX);
        answer.take(limit).read_to_end(&mut bytes).map_err(|error| unreachable(error.to_string()))?;
        if !status.is_success() {
            let reason = serde_json::from_slice::<Fault>(&bytes).map_or_else(|_| String::new(), |fault| fault.error);
            let reason = mytoken_wire::printable(&reason, 200);
            return Err(ClientError::Refused { broker: broker.to_owned(), status: status.as_u16(), reason });
        }
        serde_json::from_slice(&bytes).map_err(|_| ClientError::Answer(broker.to_owned()))
    }
}

fn bytes_of(body: &impl Serialize) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(body).map_err(|error| ClientError::Settings(error.to_string()))
}

/// The innermost error: the outer ones repeat the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
