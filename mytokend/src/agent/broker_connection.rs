// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connection of this node to the brokers: its certificate, which it gets by enrolment and renews, and requests with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mytoken::config::FileTrust;
use mytoken::{Clock as _, Deadline, SystemClock};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::broker::client::{BrokerClient, ClientError, FORBIDDEN};
use crate::broker::identity::authority::read_certificates;
use crate::broker::identity::enrol_client::{EnrolClient, EnrolClientError, NodeProof, Obtained};
use crate::broker::identity::munge::Munge;
use crate::broker::identity::{Enrolment, NodeFiles, NodeIdentity, SiteCertificate};
use crate::broker::settings::BrokerSettings;
use crate::log::{Level, Log};

mod each;
mod no_certificate;

use no_certificate::{NoCertificate, pause};

/// Time limit of one enrolment or renewal.
const ENROLMENT: Duration = Duration::from_secs(20);

/// Shortest time between two looks at the certificate.
const SHORTEST_LOOK: Duration = Duration::from_secs(5);

/// Longest time between two looks at the certificate.
const LOOK: Duration = Duration::from_secs(3600);

/// The connection. It is dropped at a reload, and a new one made.
pub struct BrokerConnection {
    shared: Arc<Shared>,
}

struct Shared {
    settings: BrokerSettings,
    cluster: String,
    files: NodeFiles,
    /// Who may write the files with certificates.
    trust: FileTrust,
    log: Arc<Log>,
    state: Mutex<State>,
    /// Notified when the state has changed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// `None`: the node has no certificate.
    client: Option<Arc<BrokerClient>>,
    /// The last second of its certificate, Unix seconds.
    ends: u64,
    /// When to ask for the next certificate, or to read it again, Unix seconds.
    renew_at: u64,
    /// An enrolment or renewal is under way.
    busy: bool,
    /// Failures in a row.
    failures: u32,
    /// No attempt before this time.
    retry_at: Option<Instant>,
    /// Why the last attempt failed.
    trouble: Option<String>,
    stopping: bool,
}

/// What the node needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// Its next certificate.
    Next,
    /// A certificate: it has none, or one that the brokers refuse, with which the next one cannot be had.
    First,
}

impl State {
    /// What the node needs at `now`, Unix seconds.
    fn need(&self, now: u64) -> Need {
        if self.client.is_none() || now > self.ends {
            Need::First
        } else if now >= self.renew_at {
            Need::Next
        } else {
            Need::Nothing
        }
    }
}

/// A certificate of this node, with its key.
struct Shown {
    tls: ClientConfig,
    renew_at: u64,
    ends: u64,
}

impl BrokerConnection {
    /// A connection with the certificate in `files`, or with that of the site. A thread enrols the node if it has none, and renews it.
    ///
    /// # Errors
    /// A sentence, when a file cannot be used or a thread not be started.
    pub fn start(
        settings: BrokerSettings,
        cluster: String,
        files: NodeFiles,
        trust: FileTrust,
        log: Arc<Log>,
    ) -> Result<Self, String> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { settings, cluster, files, trust, log, state, changed });
        if let Some(shown) = shared.at_start()? {
            shared.adopt(&mut shared.state(), shown)?;
        }
        let own = Arc::clone(&shared);
        let builder = std::thread::Builder::new().name("enrolment".to_owned());
        builder.spawn(move || own.keep()).map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self { shared })
    }

    /// Sends a request to a broker. A broker that does not know this node is asked to enrol it first, and if it does not, another one is
    /// asked: it may know it.
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

    /// The same. `body` gets the time that this node waits for one broker.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post_within<T: DeserializeOwned, B: Serialize>(
        &self,
        path: &str,
        body: &dyn Fn(Duration) -> B,
        deadline: Deadline,
    ) -> Result<T, ClientError> {
        let client = self.shared.client(deadline)?;
        match client.post_within(path, body, deadline) {
            Err(ClientError::Refused { broker, status: FORBIDDEN, reason, .. }) => {
                match self.shared.enrol_at(&broker, &reason, deadline) {
                    Ok(()) => self.shared.client(deadline)?.post_within(path, body, deadline),
                    Err(refused) => client.post_beside(refused, path, body, deadline),
                }
            }
            answered => answered,
        }
    }

    /// Whether the brokers keep the sealed credentials of submissions.
    #[must_use]
    pub fn keeps_texts(&self) -> bool {
        self.shared.settings.escrow
    }

    /// Whether the node has a certificate.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        self.shared.state().client.is_some()
    }
}

impl Drop for BrokerConnection {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// The client. Without a certificate, it waits for the enrolment that is under way.
    fn client(&self, deadline: Deadline) -> Result<Arc<BrokerClient>, ClientError> {
        let mut state = self.state();
        loop {
            if let Some(client) = &state.client {
                return Ok(Arc::clone(client));
            }
            let left = deadline.remaining().filter(|_| state.busy && !state.stopping);
            let Some(left) = left else {
                let reason = state.trouble.clone().unwrap_or_else(|| "its enrolment has not begun yet".to_owned());
                return Err(ClientError::NotEnrolled(reason));
            };
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What the node shows brokers from the start on. `None`: it has to enrol.
    fn at_start(&self) -> Result<Option<Shown>, String> {
        if self.has_site_certificate() {
            // One that has expired may be replaced at any time: the thread reads it again, and tells.
            let shown = self.of_site()?;
            return Ok(Some(shown).filter(|shown| SystemClock.now() <= shown.ends));
        }
        let identity = self.files.load().map_err(|error| error.to_string())?;
        if let Some(problem) = identity.problem() {
            self.log.line(Level::Warning, problem);
        }
        match identity.enrolment(SystemClock.now()) {
            Enrolment::Missing => Ok(None),
            Enrolment::Valid { .. } => self.of_cluster(&identity).map(Some),
        }
    }

    /// Enrols and renews until the connection is dropped.
    fn keep(&self) {
        let mut state = self.state();
        while !state.stopping {
            let now = SystemClock.now();
            let need = state.need(now);
            if need == Need::Nothing || state.busy {
                let until = Duration::from_secs(state.renew_at.saturating_sub(now)).clamp(SHORTEST_LOOK, LOOK);
                (state, _) = self.changed.wait_timeout(state, until).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.busy = true;
            drop(state);
            // Whoever waits for this must not wait for ever.
            let result = catch_unwind(AssertUnwindSafe(|| self.next_certificate(need)));
            let result = result.unwrap_or_else(|_| Err(NoCertificate::from("an internal error".to_owned())));
            state = self.state();
            let pause = self.finish(&mut state, result);
            if let Some(pause) = pause {
                let idle = |state: &mut State| !state.stopping;
                (state, _) =
                    self.changed.wait_timeout_while(state, pause, idle).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn next_certificate(&self, need: Need) -> Result<Shown, NoCertificate> {
        if self.has_site_certificate() {
            let shown = self.of_site()?;
            if SystemClock.now() > shown.ends {
                return Err("the certificate in broker.site_cert_file has expired".to_owned().into());
            }
            Ok(shown)
        } else if need == Need::First {
            self.enrol(None, Deadline::after(ENROLMENT))
        } else {
            self.renew()
        }
    }

    /// Takes note of the outcome of an attempt. Returns the pause before the next one.
    fn finish(&self, state: &mut State, result: Result<Shown, NoCertificate>) -> Option<Duration> {
        state.busy = false;
        let adopted = result.and_then(|shown| Ok(self.adopt(state, shown)?));
        let pause = match adopted {
            Ok(()) => {
                (state.failures, state.retry_at, state.trouble) = (0, None, None);
                None
            }
            Err(NoCertificate { reason, wait }) => {
                if state.trouble.as_deref() != Some(&reason) {
                    let what = if state.client.is_none() { "is not enrolled" } else { "has no new certificate" };
                    self.log.line(Level::Error, &format!("this node {what} at a broker: {reason}"));
                }
                state.trouble = Some(reason);
                let pause = pause(state.failures, wait, rand::random());
                state.failures = state.failures.saturating_add(1);
                state.retry_at = Instant::now().checked_add(pause);
                Some(pause)
            }
        };
        self.changed.notify_all();
        pause
    }

    /// Enrols at this broker, or at the first that accepts this node.
    fn enrol(&self, broker: Option<&str>, deadline: Deadline) -> Result<Shown, NoCertificate> {
        // `mytokenctl node enrol` may have done it.
        let identity = self.files.load().map_err(|error| error.to_string())?;
        if broker.is_none() && identity.enrolment(SystemClock.now()) != Enrolment::Missing {
            return Ok(self.of_cluster(&identity)?);
        }
        if !self.settings.munge {
            let node = self.files.node();
            let reason = format!(
                "it needs a one-time code. At the broker: mytokenctl node code {node}; then here: mytokenctl node enrol --code"
            );
            return Err(reason.into());
        }
        let enrolled = Munge::usual().map_err(EnrolClientError::from).and_then(|munge| {
            let (client, proof) = (self.enrol_client(), NodeProof::Munge(&munge));
            match broker {
                Some(broker) => client.enrol_at(broker, proof, deadline),
                None => client.enrol(proof, deadline),
            }
        });
        let Obtained { broker, identity } = enrolled?;
        let shown = self.of_cluster(&identity)?;
        self.log.line(Level::Notice, &format!("this node is enrolled at the broker {broker}"));
        Ok(shown)
    }

    fn renew(&self) -> Result<Shown, NoCertificate> {
        let renewed = self.enrol_client().renew(Deadline::after(ENROLMENT));
        let Obtained { broker, identity } = renewed?;
        let shown = self.of_cluster(&identity)?;
        self.log.line(Level::Info, &format!("the broker {broker} has renewed the certificate of this node"));
        Ok(shown)
    }

    fn enrol_client(&self) -> EnrolClient<'_> {
        EnrolClient {
            settings: &self.settings,
            cluster: &self.cluster,
            files: &self.files,
            trust: self.trust,
            clock: Arc::new(SystemClock),
        }
    }

    /// Enrols at a broker that has answered that it does not know this node.
    fn enrol_at(&self, broker: &str, reason: &str, deadline: Deadline) -> Result<(), ClientError> {
        let mut state = self.state();
        let refused = || {
            let (broker, reason) = (broker.to_owned(), reason.to_owned());
            ClientError::Refused { broker, status: FORBIDDEN, reason, wait: None }
        };
        if self.has_site_certificate() {
            return Err(refused());
        }
        if state.busy || state.retry_at.is_some_and(|retry_at| Instant::now() < retry_at) {
            // It is being done, or could not be done a moment ago.
            return Err(refused());
        }
        state.busy = true;
        drop(state);
        let result = catch_unwind(AssertUnwindSafe(|| self.enrol(Some(broker), deadline)));
        let result = result.unwrap_or_else(|_| Err(NoCertificate::from("an internal error".to_owned())));
        let failed = result.is_err();
        let mut state = self.state();
        self.finish(&mut state, result);
        if failed { Err(refused()) } else { Ok(()) }
    }

    fn has_site_certificate(&self) -> bool {
        self.settings.site_cert_file.is_some()
    }

    /// The certificate of the cluster's authority.
    fn of_cluster(&self, identity: &NodeIdentity) -> Result<Shown, String> {
        let Enrolment::Valid { renew_at, ends } = identity.enrolment(SystemClock.now()) else {
            return Err(
                "its certificate is not valid at this time: compare the clocks of this host and the broker".to_owned()
            );
        };
        let tls =
            identity.client_config(&self.authority()?, Arc::new(SystemClock)).map_err(|error| error.to_string())?;
        Ok(Shown { tls, renew_at, ends })
    }

    /// The certificate of the site's authority. Whoever gives it replaces the file, which is read again once an hour.
    fn of_site(&self) -> Result<Shown, String> {
        let (Some(certificate), Some(key)) = (&self.settings.site_cert_file, &self.settings.site_key_file) else {
            return Err("broker.site_cert_file and broker.site_key_file need each other".to_owned());
        };
        let SiteCertificate { config, ends } =
            SiteCertificate::load(certificate, key, &self.authority()?, self.trust, Arc::new(SystemClock))?;
        Ok(Shown { tls: config, renew_at: SystemClock.now().saturating_add(LOOK.as_secs()), ends })
    }

    fn authority(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        read_certificates(&self.settings.ca_file, self.trust).map_err(|error| error.to_string())
    }

    /// Shows this certificate from now on.
    fn adopt(&self, state: &mut State, shown: Shown) -> Result<(), String> {
        let Shown { tls, renew_at, ends } = shown;
        let client = BrokerClient::new(self.settings.addresses(), tls).map_err(|error| error.to_string())?;
        state.client = Some(Arc::new(client));
        (state.renew_at, state.ends) = (renew_at, ends);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
