// SPDX-License-Identifier: MIT OR Apache-2.0
//! The grants of the mytoken endpoint: for what it gives a mytoken.

/// The only flow of [`Grant::OidcFlow`] that the client uses.
pub(super) const AUTHORIZATION_CODE: &str = "authorization_code";

/// For what a server gives a mytoken: the `grant_type` of a request to its mytoken endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// A login with a browser, which begins with a link.
    OidcFlow,
    /// The code with which the client polls for the mytoken of a login.
    PollingCode,
    /// A mytoken: its child.
    Mytoken,
    /// A transfer code.
    TransferCode,
}

impl Grant {
    /// Its name in requests and in `mytoken_endpoint_grant_types_supported`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OidcFlow => "oidc_flow",
            Self::PollingCode => "polling_code",
            Self::Mytoken => "mytoken",
            Self::TransferCode => "transfer_code",
        }
    }
}
