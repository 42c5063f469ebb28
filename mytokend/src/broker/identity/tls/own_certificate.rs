// SPDX-License-Identifier: MIT OR Apache-2.0
//! The broker's own certificate, which is renewed while it runs.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mytoken::Clock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{TlsError, provider, settings};
use crate::broker::identity::authority::{Authority, renew_at};

/// Shortest time between two attempts to renew, in seconds.
const PAUSE: u64 = 60;

/// Makes certificates for the broker and keeps the newest.
pub(super) struct OwnCertificate {
    authority: Arc<Authority>,
    names: Vec<String>,
    clock: Arc<dyn Clock>,
    current: Mutex<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    begins: u64,
    ends: u64,
    /// Time of the last attempt, Unix seconds.
    tried: u64,
}

impl OwnCertificate {
    pub(super) fn new(authority: Arc<Authority>, names: Vec<String>, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let current = Mutex::new(make(&authority, &names, clock.now())?);
        Ok(Self { authority, names, clock, current })
    }

    pub(super) fn ends(&self) -> u64 {
        self.current().ends
    }

    /// The certificate for a connection that begins now.
    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        let now = self.clock.now();
        let mut current = self.current();
        // Before its begin: the time of day was set back.
        let due = now < current.begins || now >= renew_at(current.begins, current.ends);
        if due && now.abs_diff(current.tried) >= PAUSE {
            current.tried = now;
            // Without a new one the old one may still be valid.
            if let Ok(new) = make(&self.authority, &self.names, now) {
                *current = new;
            }
        }
        Arc::clone(&current.key)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make(authority: &Authority, names: &[String], now: u64) -> Result<Current, TlsError> {
    let made = authority.broker_certificate(names, now)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.key.as_slice())).clone_key();
    let key = provider().key_provider.load_private_key(key).map_err(settings)?;
    let key = Arc::new(CertifiedKey::new(vec![made.certificate], key));
    Ok(Current { key, begins: made.begins, ends: made.ends, tried: now })
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnCertificate")
    }
}
