// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why an access token is rejected.

/// Why an access token is rejected: a sentence for the user, and a word for the log. Neither repeats text of the token, which an
/// attacker may have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Not a signed JWT: its parts, base64url or JSON are wrong, or a JSON key occurs twice.
    #[error("the token is malformed")]
    Malformed,
    /// `iss` is not a configured issuer. The token was sent nowhere.
    #[error("tokens of this issuer are not accepted here")]
    IssuerUnknown,
    /// The header's algorithm is not allowed for this issuer.
    #[error("the token is signed with an algorithm that is not accepted here")]
    Algorithm,
    /// The header requires an extension (RFC 7515 4.1.11). None is supported.
    #[error("the token requires an extension that is not supported here")]
    Critical,
    /// An ID token, refresh token, logout token or mytoken.
    #[error("this is not an access token but {0}")]
    WrongKind(
        /// Its kind.
        &'static str,
    ),
    /// No key of the issuer has the `kid` of the header.
    #[error("the token is signed with a key that its issuer does not publish")]
    KeyUnknown,
    /// The key is for another algorithm, or is too weak.
    #[error("the token is signed with a key that is too weak or is for another algorithm")]
    KeyUnfit,
    /// The signature is not valid.
    #[error("the signature of the token is not valid")]
    Signature,
    /// `exp` has passed.
    #[error("the token has expired; get a new one")]
    Expired,
    /// `nbf` or `iat` is in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iat` is older than `max_age`.
    #[error("the token is too old; get a new one")]
    TooOld,
    /// A required claim is missing or malformed.
    #[error("the claim {0} of the token is missing or malformed")]
    Claim(
        /// Name of the claim.
        &'static str,
    ),
    /// No claim of `audience_claims` holds a configured audience.
    #[error("the token is for another service (audience)")]
    Audience,
    /// A scope that the issuer's configuration requires is missing.
    #[error("the token lacks the scope {0}")]
    Scope(
        /// The scope, from the configuration.
        String,
    ),
    /// The provider says that the token is not valid, or not any more.
    #[error("the provider of the token says that it is not valid; get a new one")]
    Inactive,
    /// The provider says another thing about the token than the token itself, or than at its other endpoint.
    #[error("what the provider says about the token does not agree with it (claim {0})")]
    ClaimsDiffer(
        /// The claim.
        &'static str,
    ),
    /// The provider does not say anything about the token.
    #[error("the provider of the token does not say whose it is; get one with the scope openid")]
    ValidationRefused(
        /// For the log.
        String,
    ),
    /// The provider cannot be asked about the token.
    #[error("the provider of the token cannot be asked about it at the moment; try again later")]
    ValidationUnavailable(
        /// For the log.
        String,
    ),
    /// The issuer's keys cannot be fetched.
    #[error("the keys of the token's issuer cannot be fetched at the moment; try again later")]
    KeysUnavailable(
        /// For the log.
        String,
    ),
}

impl Rejection {
    /// One word for the log.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::IssuerUnknown => "issuer_unknown",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical_header",
            Self::WrongKind(_) => "wrong_kind",
            Self::KeyUnknown => "key_unknown",
            Self::KeyUnfit => "key_unfit",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::TooOld => "too_old",
            Self::Claim(_) => "claim_missing",
            Self::Audience => "audience",
            Self::Scope(_) => "scope_missing",
            Self::Inactive => "inactive",
            Self::ClaimsDiffer(_) => "claims_differ",
            Self::ValidationRefused(_) => "validation_refused",
            Self::ValidationUnavailable(_) => "validation_unavailable",
            Self::KeysUnavailable(_) => "keys_unavailable",
        }
    }
}
