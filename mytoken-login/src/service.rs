// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a login needs of the mytoken server.

use mytoken::{Deadline, Secret};

use super::Refusal;

/// The configured mytoken server. A login calls each at most once.
pub trait TokenService {
    /// Redeems a transfer code. Not idempotent: the code is used up whatever comes after.
    ///
    /// # Errors
    /// The refusal that follows for the login.
    fn redeem(&self, code: &Secret, deadline: Deadline) -> Result<Secret, Refusal>;

    /// Exchanges a mytoken or short token for an access token. Consumes a use. `vouched`: the mytoken came from the server, by
    /// [`Self::redeem`].
    ///
    /// # Errors
    /// The refusal that follows for the login; [`Refusal::Rotating`] when the server replaced the mytoken.
    fn exchange(
        &self,
        mytoken: &Secret,
        vouched: bool,
        wanted: &Wanted<'_>,
        deadline: Deadline,
    ) -> Result<Exchanged, Refusal>;

    /// Revokes a mytoken that was redeemed and is not used after all. Its children, if it has any, are left.
    ///
    /// # Errors
    /// What stood in the way, as if it were a login's refusal.
    fn revoke(&self, mytoken: &Secret, deadline: Deadline) -> Result<(), Refusal>;
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
