// SPDX-License-Identifier: GPL-3.0-or-later
//! Revokes a delegated mytoken that no session gets. It exists only here and would stay valid for hours.

use std::time::Duration;

use mytoken::config::{FileTrust, Shared};
use mytoken::{Deadline, Secret};
use mytoken_login::budget::BudgetSettings;
use mytoken_login::{Level, Refusal, SessionCredential};

use crate::context::PamContext;

/// How long a revocation may take. The login waits for it.
pub const TIME_LIMIT: Duration = Duration::from_secs(3);

/// Revokes the mytoken of `credential` that is delegated or of a login with a link, if there is one, until `deadline`, but at most for [`TIME_LIMIT`]. Logs the result.
pub fn revoke_delegated(context: &PamContext<'_>, credential: &SessionCredential, deadline: Deadline) {
    let Some(renewal) = credential.revocable() else { return };
    match revoke(context, &renewal.server, &renewal.mytoken, deadline.at_most(TIME_LIMIT)) {
        Ok(()) => context.log(Level::Info, "the delegated mytoken was revoked: no session gets it"),
        Err(refusal) => {
            let reason = refusal.detail().unwrap_or_else(|| refusal.reason().to_owned());
            let line = format!("the delegated mytoken could not be revoked, although no session gets it: {reason}");
            context.log(Level::Warning, &line);
        }
    }
}

fn revoke(context: &PamContext<'_>, server: &str, mytoken: &Secret, deadline: Deadline) -> Result<(), Refusal> {
    let shared = Shared::load(&context.arguments.config, FileTrust::ROOT)?;
    let resources = context.resources();
    // A revocation is counted and never refused, so the numbers of the budget have no effect.
    let budget = BudgetSettings::default();
    let allowance = resources.allowance(&budget);
    resources.with_server(&shared, server, &allowance, |tokens| tokens.revoke(mytoken, deadline))?
}
