// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verification of access tokens (RFC 9068, RFC 7519) of the issuers in the configuration.

mod audience;
mod claims;
mod discovery;
mod jws;
mod keys;
mod provider;
mod rejection;
mod signature;
mod skew;
mod strict;
mod verify;

pub use claims::{AccessTokenClaims, string_list};
pub use discovery::{ProviderError, ProviderMetadata};
pub use keys::{InvalidKeySet, KeyFreshness, KeySet, KeySource, KeysUnavailable};
pub use provider::ProviderKeys;
pub use rejection::Rejection;
pub use skew::Skew;
pub use verify::verify;
