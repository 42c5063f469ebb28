// SPDX-License-Identifier: GPL-3.0-or-later
//! A mytoken that was meant for a session which will not get it is revoked: nobody has it any more, and it would live on for hours.

use std::time::Duration;

use mytoken::config::{FileTrust, Shared};
use mytoken::http::LazyClient;
use mytoken::{Deadline, Secret, SystemClock};
use mytoken_login::budget::{Allowance, BudgetSettings};
use mytoken_login::{Level, Refusal, Remote, ServerTokens, SessionCredential, TokenService};

use crate::host::Host;

/// How long it may take; a login waits for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Revokes the delegated mytoken of `credential`, if there is one, and logs when that fails.
pub fn revoke_delegated(host: &Host<'_>, credential: &SessionCredential) {
    let Some(renewal) = credential.delegated() else { return };
    let why = match attempt(host, &renewal.server, &renewal.mytoken) {
        Ok(()) => return host.log(Level::Info, "the mytoken that no session gets was revoked"),
        Err(refusal) => refusal.detail().unwrap_or_else(|| refusal.reason().to_owned()),
    };
    host.log(Level::Warning, &format!("the mytoken that no session gets could not be revoked: {why}"));
}

fn attempt(host: &Host<'_>, server: &str, mytoken: &Secret) -> Result<(), Refusal> {
    let shared = Shared::load(&host.arguments.config, FileTrust::ROOT)?;
    let url = shared.server_url(server)?;
    let settings = shared.http_settings();
    let http = LazyClient::new(&settings);
    let connection = host.connection();
    let cache = super::cache(host);
    let ledger = super::ledger(host);
    // Counted, never refused: its numbers do not matter.
    let budget = BudgetSettings::default();
    let remote = Remote::of(connection.as_deref(), host.rhost().as_deref());
    let allowance = Allowance::new(ledger.as_ref(), &budget, remote, None);
    ServerTokens::new(url, &http, cache.as_ref(), &SystemClock, &allowance).revoke(mytoken, Deadline::after(PATIENCE))
}
