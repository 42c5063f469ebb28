// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a login needs of the mytoken server.

use super::Refusal;
use crate::{Deadline, Secret};

/// The configured mytoken server. A login calls each at most once.
pub trait TokenService {
    /// Redeems a transfer code. Not idempotent: the code is used up whatever comes after.
    ///
    /// # Errors
    /// The refusal that follows for the login.
    fn redeem(&self, code: &Secret, deadline: Deadline) -> Result<Secret, Refusal>;

    /// Exchanges a mytoken or short token for an access token. Consumes a use.
    ///
    /// # Errors
    /// The refusal that follows for the login; [`Refusal::Rotating`] when the server replaced the mytoken.
    fn exchange(&self, mytoken: &Secret, wanted: &Wanted<'_>, deadline: Deadline) -> Result<Exchanged, Refusal>;
}

/// What an access token is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Scopes, separated by single blanks; empty: not asked for.
    pub scope: &'a str,
    /// Audience; empty: not asked for.
    pub audience: &'a str,
    /// For the server's log.
    pub comment: &'a str,
}

/// An access token that was exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanged {
    /// The access token; not yet verified.
    pub token: Secret,
}
