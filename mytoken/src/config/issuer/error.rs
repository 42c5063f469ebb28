// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes in `[[issuer]]`.

/// Why the settings of a provider are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// The audience is required, and none is named.
    #[error(
        "issuer \"{name}\" has no audiences; name those that tokens for this site carry, or write require_audience = false to accept tokens that were made for any service"
    )]
    Audiences {
        /// The provider.
        name: String,
    },
    /// `audience_claims` is empty.
    #[error(
        "issuer \"{name}\" names no claim in audience_claims; write [\"aud\"], or require_audience = false to accept tokens that were made for any service"
    )]
    AudienceClaims {
        /// The provider.
        name: String,
    },
    /// `accept_typ` is empty.
    #[error("issuer \"{name}\" accepts no typ; \"\" stands for a header that has none")]
    Typ {
        /// The provider.
        name: String,
    },
    /// `algorithms` is empty.
    #[error("issuer \"{name}\" allows no signature algorithm")]
    Algorithms {
        /// The provider.
        name: String,
    },
    /// The name or the URL is empty.
    #[error("an issuer needs a name and a url")]
    NameOrUrl,
    /// An entry of `endpoint_hosts` is no host name.
    #[error(
        "endpoint_hosts of the issuer \"{name}\" has \"{entry}\"; write the host name only, in lower case, without https:// and port"
    )]
    EndpointHost {
        /// The provider.
        name: String,
        /// The entry.
        entry: String,
    },
    /// `validation` and what belongs to it do not fit together.
    #[error("issuer \"{name}\": {problem}")]
    Validation {
        /// The provider.
        name: String,
        /// The problem.
        problem: &'static str,
    },
}

impl IssuerError {
    /// The keys of `[[issuer]]` that can have the mistake.
    pub(crate) fn keys(&self) -> &'static [&'static str] {
        match self {
            Self::Audiences { .. } => &["audiences", "require_audience"],
            Self::AudienceClaims { .. } => &["audience_claims"],
            Self::Typ { .. } => &["accept_typ"],
            Self::Algorithms { .. } => &["algorithms"],
            Self::NameOrUrl => &[],
            Self::EndpointHost { .. } => &["endpoint_hosts"],
            Self::Validation { .. } => &["validation", "opaque"],
        }
    }
}
