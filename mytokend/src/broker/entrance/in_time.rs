// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the entrance reads, writes and runs, in threads beside those of the connections and for a limited time. Work that comes to its end
//! later counts all the same: the node asks again, with the same key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Entrance;
use crate::broker::disk_work::{DiskTrouble, DiskWork, PLACES};
use crate::broker::identity::Peer;
use crate::broker::identity::enrolment::EnrolmentRefusal;
use crate::broker::messages::{CertificateAnswer, EnrolRequest, PERMIT_PATH, RenewRequest};

/// Longest wait for a certificate. MUNGE and the resolver have limits of their own, and the connection of a host without a certificate ends
/// after ten seconds.
const PATIENCE: Duration = Duration::from_secs(8);

/// Longest wait of a question for a permit for the addresses of its node: an agent waits one second for the answer.
const PERMIT_PATIENCE: Duration = Duration::from_millis(300);

/// Most enrolments at a time: the limit for all addresses together.
const ENROLMENTS: usize = 16;

/// The threads. They outlive a reload, which makes another entrance: those that hang do not become more.
pub struct EntranceWork {
    patience: Duration,
    enrolments: DiskWork,
    renewals: DiskWork,
    requests: DiskWork,
    looks: DiskWork,
    addresses: DiskWork,
}

impl Default for EntranceWork {
    fn default() -> Self {
        Self {
            patience: PATIENCE,
            enrolments: DiskWork::new(ENROLMENTS, PATIENCE),
            renewals: DiskWork::new(PLACES, PATIENCE),
            requests: DiskWork::default(),
            looks: DiskWork::default(),
            addresses: DiskWork::default(),
        }
    }
}

impl EntranceWork {
    /// The same that waits less.
    #[cfg(test)]
    pub(crate) fn impatient(patience: Duration) -> Self {
        let work = || DiskWork::new(PLACES, patience);
        Self { patience, enrolments: work(), renewals: work(), requests: work(), looks: work(), addresses: work() }
    }

    /// Looks for changes of the register, if it is time. The answer counts from memory, also if this takes too long.
    pub async fn look(&self, entrance: &Arc<Entrance>) {
        if entrance.enrolments().register.is_look_due() {
            let own = Arc::clone(entrance);
            let _ = self.looks.run(move || own.enrolments().register.follow()).await;
        }
    }

    /// [`Entrance::admit`].
    ///
    /// # Errors
    /// [`EnrolmentRefusal`], which is logged.
    pub async fn admit(&self, entrance: &Arc<Entrance>, peer: &Arc<Peer>) -> Result<(), EnrolmentRefusal> {
        let (own, of) = (Arc::clone(entrance), Arc::clone(peer));
        let admitted = self.requests.run(move || own.admit(&of)).await;
        admitted.unwrap_or_else(|trouble| Err(entrance.refused(peer, trouble.into())))
    }

    /// Whether a node may make a request to this path from this address. The resolver is asked only if it has enrolled at another one, once
    /// for all requests that the node makes meanwhile. If all threads wait for the resolver, the request does not: it is judged by what is
    /// known, like one for which the answer is late.
    ///
    /// # Errors
    /// [`EnrolmentRefusal`], which is logged.
    pub async fn check_address(
        &self,
        entrance: &Arc<Entrance>,
        peer: &Peer,
        address: IpAddr,
        path: &str,
    ) -> Result<(), EnrolmentRefusal> {
        let Some(origin) = entrance.other_origin(peer, address) else { return Ok(()) };
        if entrance.is_to_look_up(peer, address) {
            if let Some(running) = entrance.look_up_once(&peer.node, &self.addresses) {
                let whole = self.addresses.patience();
                let patience = if path == PERMIT_PATH { whole.min(PERMIT_PATIENCE) } else { whole };
                // An answer that is late counts for the next request.
                let is_late = timeout(patience, running.end()).await.is_err();
                if is_late && patience == whole {
                    entrance.resolver_is_late(&peer.node);
                }
            }
        }
        entrance.judge_address(peer, address, &origin)
    }

    /// [`Entrance::enrol`].
    ///
    /// # Errors
    /// [`EnrolmentRefusal`], which is logged.
    pub async fn enrol(
        &self,
        entrance: &Arc<Entrance>,
        request: EnrolRequest,
        address: IpAddr,
    ) -> Result<CertificateAnswer, EnrolmentRefusal> {
        let (own, node) = (Arc::clone(entrance), request.node.clone());
        // Before the wait for a thread: who has to come back later is told so at once.
        let attempt = match entrance.enrolments().begin(address) {
            Ok(attempt) => attempt.waiting(),
            Err(refusal) => return Err(entrance.not_enrolled(&node, address, refusal)),
        };
        let enrolled = self.enrolments.run(move || own.enrol(&request, address, attempt.running())).await;
        enrolled.unwrap_or_else(|trouble| Err(entrance.not_enrolled(&node, address, self.late(trouble))))
    }

    /// [`Entrance::renew`].
    ///
    /// # Errors
    /// [`EnrolmentRefusal`], which is logged.
    pub async fn renew(
        &self,
        entrance: &Arc<Entrance>,
        peer: &Arc<Peer>,
        request: RenewRequest,
    ) -> Result<CertificateAnswer, EnrolmentRefusal> {
        let (own, of) = (Arc::clone(entrance), Arc::clone(peer));
        let renewed = self.renewals.run(move || own.renew(&of, &request)).await;
        renewed.unwrap_or_else(|trouble| Err(entrance.not_renewed(peer, trouble.into())))
    }

    fn late(&self, trouble: DiskTrouble) -> EnrolmentRefusal {
        match trouble {
            DiskTrouble::Hangs => EnrolmentRefusal::Late { seconds: self.patience.as_secs() },
            DiskTrouble::Internal => trouble.into(),
        }
    }
}
