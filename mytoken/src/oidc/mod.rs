// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verification of access tokens (RFC 9068, RFC 7519) against providers that the configuration names.

mod algorithm;
mod settings;

pub use algorithm::Algorithm;
pub use settings::IssuerSettings;
