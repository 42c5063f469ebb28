// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is who between brokers and nodes: the cluster's own certificate authority, and which nodes are enrolled.
//!
//! A node makes a key and a certificate request. It proves to a broker which node it is, by MUNGE or with a one-time code. The broker pins
//! the key and signs a certificate for it. Everything that arrives before that may come from an attacker.

pub mod attempts;
pub mod authority;
pub mod certificate;
pub mod codes;
pub mod enrol_client;
pub mod enrolment;
pub mod key_hash;
pub mod munge;
pub mod node_files;
pub mod node_name;
pub mod register;
pub mod request;
pub mod site_certificate;
pub mod state_dir;
pub mod tls;
mod wiped_key;

pub use authority::{Authority, AuthorityError, SignedCertificate};
pub use key_hash::KeyHash;
pub use node_files::{Enrolment, NodeFiles, NodeFilesError, NodeIdentity};
pub use node_name::{NodeName, NodeNameError};
pub use register::{NodeEntry, NodeList, Origin, PinRefusal, Pinned, Proof, Register, Repin};
pub use request::{CertificateRequest, RequestError};
pub use site_certificate::SiteCertificate;
pub use state_dir::StateDir;
pub use tls::{BrokerTls, NotANode, Peer, Signer, SiteAuthority, TlsError};
