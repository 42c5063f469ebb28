// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verification of access tokens (RFC 9068, RFC 7519) against providers that the configuration names.

mod claims;
mod jws;
mod keys;
mod provider;
mod rejection;
mod signature;
mod strict;
mod verify;

pub use claims::{Claims, list};
pub use keys::{Fresh, KeySet, KeySource};
pub use provider::ProviderKeys;
pub use rejection::Rejection;
pub use verify::verify;
