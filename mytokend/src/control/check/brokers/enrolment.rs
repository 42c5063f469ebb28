// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `mytokenctl check` about the certificate with which this host asks brokers.

use std::path::Path;
use std::sync::Arc;

use mytoken::SystemClock;
use mytoken::config::FileTrust;
use mytoken::time_format::utc_minute;
use rustls_pki_types::CertificateDer;

use super::super::configuration::exists;
use super::super::{Findings, kinds_broker as kinds};
use super::{DAY, PART, Seen, Shown, name_files};
use crate::broker::identity::authority::read_certificates;
use crate::broker::identity::node_files::{CERTIFICATE, KEY, client_config};
use crate::broker::identity::{Enrolment, NodeName, StateDir, certificate};
use crate::broker::settings::BrokerSettings;

/// A certificate of a host that ends within this time is told, in seconds: it is renewed at half of its life, half a year before.
const NODE_LEFT: u64 = 30 * DAY;

/// What a host loses that brokers do not know.
fn harm(seen: &Seen) -> &'static str {
    if seen.slurmd { "its jobs get no token" } else { "jobs that are submitted there carry their credentials" }
}

impl Findings {
    /// The key and the certificate of a node.
    pub(super) fn enrolment(
        &mut self,
        settings: &BrokerSettings,
        seen: &Seen,
        authority: &[CertificateDer<'static>],
        trust: FileTrust,
    ) -> Option<Shown> {
        if let Some(file) = &settings.site_cert_file {
            return self.site_certificate(file, seen, authority, trust);
        }
        if !seen.root {
            self.ok(PART, "only root can check whether this node is enrolled");
            return None;
        }
        let nothing = || client_config(authority, None, Arc::new(SystemClock)).ok().map(Shown::Nothing);
        let files = (settings.state_dir.join(KEY), settings.state_dir.join(CERTIFICATE));
        // Slurm may know this host by another name than its own.
        let node = named_in(&files.1, trust).or_else(|| seen.node.clone())?;
        if !exists(&files.0) || !exists(&files.1) {
            let text = format!("{node} is not enrolled at a broker: {}", harm(seen));
            self.add_kind(kinds::NOT_ENROLLED, text);
            return nothing();
        }
        let read = StateDir::open(&settings.state_dir)
            .map_err(|error| error.to_string())
            .and_then(|state| state.node_files(node.clone()).load().map_err(|error| error.to_string()));
        let identity = match read {
            Ok(identity) => identity,
            Err(error) => {
                self.add_fixed(kinds::NOT_ENROLLED, error, name_files(&[&files.0, &files.1]));
                return nothing();
            }
        };
        match identity.enrolment(seen.now) {
            Enrolment::Missing => {
                let expired = || format!("the certificate of {node} has expired: {}", harm(seen));
                let text = identity.problem().map_or_else(expired, str::to_owned);
                self.add_kind(kinds::NOT_ENROLLED, text);
                return nothing();
            }
            Enrolment::Valid { ends, .. } => self.node_certificate(ends, seen.now),
        }
        identity.client_config(authority, Arc::new(SystemClock)).ok().map(Shown::Certificate)
    }

    fn node_certificate(&mut self, ends: u64, now: u64) {
        if ends < now.saturating_add(NODE_LEFT) {
            let text = format!("the certificate of this node ends {}, and was not renewed", utc_minute(ends));
            self.add_kind(kinds::CERTIFICATE_ENDS, text);
        }
    }

    /// A certificate of the site's own authority. Its key is not read: the handshake with it is the agent's.
    fn site_certificate(
        &mut self,
        file: &Path,
        seen: &Seen,
        authority: &[CertificateDer<'static>],
        trust: FileTrust,
    ) -> Option<Shown> {
        let read = read_certificates(file, trust).map_err(|error| error.to_string());
        let ends = read.and_then(|chain| {
            let own = chain.first().ok_or("it holds no certificate")?;
            certificate::read(own).map(|content| content.ends).map_err(|error| format!("{}: {error}", file.display()))
        });
        match ends {
            Err(error) => self.add_fixed(kinds::NOT_ENROLLED, error, name_files(&[file])),
            Ok(ends) if ends < seen.now => {
                let text = format!("{} has expired: {}", file.display(), harm(seen));
                self.add_fixed(kinds::NOT_ENROLLED, text, name_files(&[file]));
            }
            Ok(ends) => self.node_certificate(ends, seen.now),
        }
        client_config(authority, None, Arc::new(SystemClock)).ok().map(Shown::Nothing)
    }
}

/// The node of a certificate.
fn named_in(file: &Path, trust: FileTrust) -> Option<NodeName> {
    let certificates = read_certificates(file, trust).ok()?;
    let content = certificate::read(certificates.first()?).ok()?;
    NodeName::from_uri(content.uris.first()?)
}
