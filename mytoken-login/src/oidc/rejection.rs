// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why an access token is not accepted.

/// Why an access token is not accepted: a sentence for the person, and a word for the log. Nothing from the token is repeated,
/// for it is attacker text until it is verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No signed JWT: parts, base64url or JSON are wrong, or a JSON key is there twice.
    #[error("this is not a well-formed token")]
    Malformed,
    /// `iss` is none of the configured providers. Nothing was sent anywhere.
    #[error("tokens of this issuer are not accepted here")]
    IssuerUnknown,
    /// The header's algorithm is not allowed for this provider.
    #[error("the token is signed with an algorithm that is not accepted here")]
    Algorithm,
    /// The header demands an extension (RFC 7515 4.1.11); none is known here.
    #[error("the token demands an extension that is not known here")]
    Critical,
    /// An ID token, refresh token, logout token or mytoken.
    #[error("this is not an access token but {0}")]
    WrongKind(
        /// What it is.
        &'static str,
    ),
    /// No key of the provider has the `kid` of the header.
    #[error("the token is signed with a key that its issuer does not publish")]
    KeyUnknown,
    /// The key cannot be used for this algorithm, or is too weak.
    #[error("the token is signed with a key that is not fit for it")]
    KeyUnfit,
    /// The signature is wrong.
    #[error("the signature of the token is wrong")]
    Signature,
    /// `exp` has passed.
    #[error("the token has expired; get a new one")]
    Expired,
    /// `nbf` or `iat` lies in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iat` is too long ago.
    #[error("the token is too old; get a new one")]
    TooOld,
    /// A claim that is needed is missing or of the wrong type.
    #[error("the token lacks the claim {0}, or it is malformed")]
    Claim(
        /// Name of the claim.
        &'static str,
    ),
    /// `aud` names none of the configured audiences.
    #[error("the token was made for another service (audience)")]
    Audience,
    /// A scope that the provider's configuration requires is missing.
    #[error("the token lacks the scope {0}")]
    Scope(
        /// The scope, from the configuration.
        String,
    ),
    /// The provider's keys could not be had.
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
            Self::KeysUnavailable(_) => "keys_unavailable",
        }
    }
}
