// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests of a login to the mytoken server.

use mytoken::server::AccessTokenRequest;
use mytoken::{Deadline, Secret};

use crate::refusal::Refusal;

/// The configured mytoken server. A login calls each method at most once.
pub trait TokenService {
    /// Redeems a transfer code for its mytoken. Not idempotent: the code is used up whatever happens afterwards.
    ///
    /// # Errors
    /// The refusal of the login.
    fn redeem(&self, code: &Secret, deadline: Deadline) -> Result<Secret, Refusal>;

    /// Exchanges a mytoken or short token for an access token, which is not verified yet. Consumes a use. `redeemed`: the mytoken is
    /// from [`Self::redeem`], so its claims are true.
    ///
    /// # Errors
    /// The refusal of the login; [`Refusal::Rotating`] when the server replaced the mytoken.
    fn exchange(&self, request: &AccessTokenRequest<'_>, redeemed: bool, deadline: Deadline)
    -> Result<Secret, Refusal>;

    /// Revokes a mytoken that was redeemed and will not be used. Its sub-tokens stay valid.
    ///
    /// # Errors
    /// Why it is not revoked, as a login's refusal.
    fn revoke(&self, mytoken: &Secret, deadline: Deadline) -> Result<(), Refusal>;
}
