// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads `/etc/mytoken/*.toml` strictly, with file and line in every error (`docs/interfaces.md`).
//!
//! Each program reads only the parts it needs, so that a mistake in `jobs.toml` does not lock users out of ssh.

mod algorithm;
pub mod duration;
mod error;
mod issuer;
mod merge;
mod mistake;
mod shared;
mod source;
mod trust;

pub use algorithm::Algorithm;
pub use duration::Duration;
pub use error::ConfigError;
pub use issuer::{
    ANY_AUDIENCE, AudienceClaim, ClientAuthentication, ClientProof, IntrospectionClient, IssuerError, IssuerSettings,
    ValidationMode, media_type,
};
pub use mistake::{Mistake, Setting};
pub use shared::{DIRECTORY, HttpSection, ServerSettings, Shared};
pub use source::{ConfigPlaces, EntryPlace, KeyError, read, read_key, read_key_leniently, read_list_leniently};
pub use trust::{FileTrust, is_missing};
