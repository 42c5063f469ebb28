// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verification of access tokens (RFC 9068, RFC 7519) of the issuers in the configuration.

mod audience;
mod claim_checks;
mod claims;
mod discovery;
mod jws;
mod keys;
mod kind;
mod provider;
mod rejection;
mod signature;
mod skew;
mod strict;
mod verify;

pub(crate) use claim_checks::{Dates, Expected, check_before_request, check_claims, check_every_claim, required_text};
pub use claims::{AccessTokenClaims, string_list};
pub(crate) use claims::{date, scopes};
pub use discovery::{ProviderEndpoint, ProviderError, ProviderMetadata};
pub(crate) use jws::Jws;
pub use keys::{InvalidKeySet, KeyFreshness, KeySet, KeySource, KeysUnavailable};
pub(crate) use kind::check_claimed_kind;
pub use provider::ProviderKeys;
pub(crate) use provider::describe_missing;
pub use rejection::Rejection;
pub use skew::Skew;
pub(crate) use strict::object as strict_object;
pub use verify::verify;
pub(crate) use verify::{check_recorded_kind, find_issuer, verify_signature};
