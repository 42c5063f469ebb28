// SPDX-License-Identifier: MIT OR Apache-2.0
//! Enrolment and renewal as nodes ask for them.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Application, Enrolled, EnrolmentRefusal, Enrolments, OfferedProof};
use crate::broker::identity::attempts::Attempt;
use crate::broker::identity::authority::SignedCertificate;
use crate::broker::identity::tls::Peer;
use crate::broker::messages::{EnrolRequest, RenewRequest};

impl Enrolments {
    /// Enrols a node that connects from `connection` and sends this message, in an attempt of [`Self::begin`]. A message of another form
    /// counts as a failed attempt.
    ///
    /// # Errors
    /// [`EnrolmentRefusal`].
    pub fn enrol(
        &self,
        message: &EnrolRequest,
        connection: IpAddr,
        attempt: Attempt,
    ) -> Result<Enrolled, EnrolmentRefusal> {
        self.limited(attempt, || {
            let proof = match (&message.munge, &message.code) {
                (Some(credential), None) => OfferedProof::Munge(credential),
                (None, Some(code)) => OfferedProof::Code(code.expose()),
                _ => {
                    return Err(EnrolmentRefusal::Form("it needs a MUNGE credential or a one-time code, and not both"));
                }
            };
            let request = certificate_request(&message.request)?;
            self.attempt(&Application { node: &message.node, request: &request, proof }, connection)
        })
    }

    /// A new certificate for a node that shows its current one and sends this message.
    ///
    /// # Errors
    /// [`EnrolmentRefusal`].
    pub fn renew_by(&self, message: &RenewRequest, peer: &Peer) -> Result<SignedCertificate, EnrolmentRefusal> {
        self.renew(peer, &certificate_request(&message.request)?)
    }
}

/// The certificate request of a message, DER. Its length is checked by who reads it.
fn certificate_request(text: &str) -> Result<Vec<u8>, EnrolmentRefusal> {
    STANDARD.decode(text).map_err(|_| EnrolmentRefusal::Form("the certificate request is not base64"))
}
