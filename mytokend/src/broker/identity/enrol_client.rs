// SPDX-License-Identifier: MIT OR Apache-2.0
//! The node's side of enrolment, and of the renewal of its certificate.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mytoken::config::FileTrust;
use mytoken::{Clock, Deadline, Secret};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use super::authority::{AuthorityError, read_certificates};
use super::munge::{Munge, MungeUnavailable};
use super::node_files::{Enrolment, NodeFiles, NodeFilesError, NodeIdentity, client_config};
use super::request;
use super::tls::TlsError;
use crate::broker::client::{BrokerClient, ClientError};
use crate::broker::messages::{CertificateAnswer, ENROL_PATH, EnrolRequest, RENEW_PATH, RenewRequest};
use crate::broker::settings::BrokerSettings;

/// A path that no broker has: it refuses the request of an enrolled node otherwise than that of another host.
const NOTHING: &str = "/v1/nothing";

/// This host as a node that wants certificates.
pub struct EnrolClient<'a> {
    /// Where the brokers are, and the file with their authority.
    pub settings: &'a BrokerSettings,
    /// The name of the cluster in jobs.toml.
    pub cluster: &'a str,
    /// Where key and certificate are kept.
    pub files: &'a NodeFiles,
    /// Who may write the authority's file.
    pub trust: FileTrust,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// How a node proves who it is.
#[derive(Clone, Copy)]
pub enum NodeProof<'a> {
    /// By a MUNGE credential of root, which is made for each broker.
    Munge(&'a Munge),
    /// With a one-time code. It is valid at the broker where it was made.
    Code(&'a Secret),
}

/// A certificate that was obtained and kept.
#[derive(Debug)]
pub struct Obtained {
    /// The broker that gave it.
    pub broker: String,
    /// The identity with it.
    pub identity: NodeIdentity,
}

/// Why there is no certificate. A sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolClientError {
    /// The files of this node cannot be used.
    #[error(transparent)]
    Files(#[from] NodeFilesError),
    /// The file with the authority's certificate cannot be used.
    #[error("{0}; copy this file from a broker (broker.ca_file in jobs.toml)")]
    Authority(#[from] AuthorityError),
    /// The TLS settings cannot be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// MUNGE gives no credential.
    #[error(transparent)]
    Munge(#[from] MungeUnavailable),
    /// There is no certificate to renew.
    #[error("this node has no valid certificate; it has to enrol: mytokenctl node enrol")]
    NotEnrolled,
    /// No broker gave one.
    #[error(transparent)]
    Broker(#[from] ClientError),
}

impl EnrolClientError {
    /// How long a broker wants this host to wait before it asks again.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        if let Self::Broker(ClientError::Refused { wait, .. }) = self { *wait } else { None }
    }
}

impl EnrolClient<'_> {
    /// Enrols this host at the first broker that accepts it, and keeps the certificate.
    ///
    /// # Errors
    /// [`EnrolClientError`]. If a broker refused it, the first refusal.
    pub fn enrol(&self, proof: NodeProof<'_>, deadline: Deadline) -> Result<Obtained, EnrolClientError> {
        self.at_one(deadline, |broker, deadline| self.enrol_at(broker, proof, deadline))
    }

    /// Enrols this host at one broker (`NAME:PORT`). Each broker has a register of its own.
    ///
    /// # Errors
    /// [`EnrolClientError`].
    pub fn enrol_at(
        &self,
        broker: &str,
        proof: NodeProof<'_>,
        deadline: Deadline,
    ) -> Result<Obtained, EnrolClientError> {
        let tls = client_config(&self.authority()?, None, Arc::clone(&self.clock))?;
        let identity = self.files.load()?;
        let der = identity.request()?;
        let (munge, code) = match proof {
            NodeProof::Munge(munge) => {
                (Some(munge.encode(self.cluster, self.files.node(), &request::hash(&der))?), None)
            }
            NodeProof::Code(code) => (None, Some(code.clone())),
        };
        let message = EnrolRequest { node: self.files.node().clone(), request: STANDARD.encode(der), munge, code };
        self.ask(broker, tls, identity, (ENROL_PATH, &message), deadline)
    }

    /// Gets the next certificate from the first broker that gives one, and keeps it.
    ///
    /// # Errors
    /// [`EnrolClientError`]. The current certificate stays.
    pub fn renew(&self, deadline: Deadline) -> Result<Obtained, EnrolClientError> {
        let identity = self.files.load()?;
        if identity.enrolment(self.clock.now()) == Enrolment::Missing {
            return Err(EnrolClientError::NotEnrolled);
        }
        self.at_one(deadline, |broker, deadline| {
            let identity = self.files.load()?;
            let tls = identity.client_config(&self.authority()?, Arc::clone(&self.clock))?;
            let message = RenewRequest { request: STANDARD.encode(identity.request()?) };
            self.ask(broker, tls, identity, (RENEW_PATH, &message), deadline)
        })
    }

    /// Whether a broker (`NAME:PORT`) is there, and knows this host as a node that is enrolled. Nothing is changed here and there.
    ///
    /// # Errors
    /// [`ClientError`]: it does not answer, or the connection is not safe.
    pub fn is_known_at(broker: &str, tls: ClientConfig, deadline: Deadline) -> Result<bool, ClientError> {
        let client = BrokerClient::new(vec![broker.to_owned()], tls)?;
        match client.post::<serde_json::Value>(NOTHING, &(), deadline) {
            Err(ClientError::Refused { status: 403, .. }) => Ok(false),
            Ok(_) | Err(ClientError::Refused { status: 404, .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn authority(&self) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
        read_certificates(&self.settings.ca_file, self.trust)
    }

    fn ask(
        &self,
        broker: &str,
        tls: ClientConfig,
        identity: NodeIdentity,
        (path, message): (&str, &impl Serialize),
        deadline: Deadline,
    ) -> Result<Obtained, EnrolClientError> {
        let client = BrokerClient::new(vec![broker.to_owned()], tls)?;
        let answer: CertificateAnswer = client.post(path, message, deadline)?;
        let identity = self.files.store(identity, &answer.certificate)?;
        Ok(Obtained { broker: broker.to_owned(), identity })
    }

    /// Asks one broker after the other until one gives a certificate. A fault of this host ends it.
    fn at_one(
        &self,
        deadline: Deadline,
        ask: impl Fn(&str, Deadline) -> Result<Obtained, EnrolClientError>,
    ) -> Result<Obtained, EnrolClientError> {
        let brokers = self.settings.addresses();
        let mut error = ClientError::Settings("no broker is named".to_owned());
        for (step, broker) in brokers.iter().enumerate() {
            let Some(left) = deadline.remaining() else { break };
            // A broker that hangs must leave time for the others.
            let others = u32::try_from(brokers.len() - step).unwrap_or(1);
            match ask(broker, Deadline::after(left / others)) {
                // The refusal says more than that another broker is away.
                Err(EnrolClientError::Broker(_)) if matches!(error, ClientError::Refused { status: ..500, .. }) => {}
                Err(EnrolClientError::Broker(of_broker)) => error = of_broker,
                done => return done,
            }
        }
        Err(error.into())
    }
}
