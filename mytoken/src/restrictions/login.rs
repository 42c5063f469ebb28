// SPDX-License-Identifier: MIT OR Apache-2.0
//! The limits of a mytoken that serves one login.

use super::Clause;

/// Lifetime in seconds, the same as that of a transfer code. A shorter one would fail where clocks differ by a minute or two.
const LIFETIME: u64 = 300;

/// How many access tokens it may get: one, and one more because the server also counts a request that fails while the provider is down
/// (MT-12).
const USES: i64 = 2;

impl Clause {
    /// The clause of a mytoken for one login at `now`, Unix seconds: it ends soon and gets access tokens only, within the scopes and
    /// audiences of `limits`.
    #[must_use]
    pub fn of_one_login(limits: Self, now: u64) -> Self {
        Self { exp: Some(now.saturating_add(LIFETIME)), usages_at: Some(USES), usages_other: Some(0), ..limits }
    }
}
