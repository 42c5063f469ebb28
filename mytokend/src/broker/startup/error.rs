// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a broker does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::agent::runtime_dir::LockError;
use crate::broker::disk_work::DiskTrouble;
use crate::broker::identity::TlsError;
use crate::broker::identity::authority::AuthorityError;
use crate::broker::identity::munge::MungeUnavailable;
use crate::jobs::SealError;

/// Why the broker did not start, or was not reloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerStartupError {
    /// Configuration or directories.
    #[error(transparent)]
    Setup(#[from] mytoken::Error),
    /// The configuration names no broker.
    #[error("broker.names in jobs.toml names no broker, so no node would ask this one")]
    NoNames,
    /// The cluster's private key.
    #[error(transparent)]
    Key(#[from] SealError),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// MUNGE.
    #[error("{0}; where there is no MUNGE, set broker.munge = false in jobs.toml")]
    Munge(#[from] MungeUnavailable),
    /// The TLS settings.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The runtime directory is in use.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The port cannot be used.
    #[error("cannot listen at {address}: {error}")]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// What the broker keeps cannot be read in time.
    #[error("what the broker keeps in {} cannot be read: {trouble}", .directory.display())]
    State {
        /// Its directory.
        directory: PathBuf,
        /// Why.
        trouble: DiskTrouble,
    },
    /// A thread, the signals or the runtime.
    #[error("cannot start: {0}")]
    System(io::Error),
}

mytoken::impl_from_part_errors!(BrokerStartupError::Setup: mytoken::config::ConfigError, mytoken::private_files::FileError);
