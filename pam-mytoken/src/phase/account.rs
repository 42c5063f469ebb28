// SPDX-License-Identifier: GPL-3.0-or-later
//! `acct_mgmt`: is what `authenticate` found still true?
//!
//! It reads no configuration where it lets somebody in: logins with a key come here too, and must not depend on it.

use mytoken::SystemClock;
use mytoken_login::handover::Login;
use mytoken_login::{Level, Process};
use pamsm::PamError;

use super::{handover, revocation};
use crate::codes::{self, Standing};
use crate::host::Host;

/// The account phase.
pub fn account(host: &Host<'_>) -> PamError {
    codes::account(standing(host))
}

fn standing(host: &Host<'_>) -> Standing {
    let Some(handle) = host.handle() else { return Standing::NotOurs };
    let (user, service) = (host.user().unwrap_or_default(), host.service());
    let login = Login { user: &user, service: &service, process: Process::own() };
    match handover().look(&handle, &login, &SystemClock) {
        Ok(record) if record.has_ended(&SystemClock) => {
            // There will be no session that takes it.
            let _ = handover().take(&handle, &login, &SystemClock);
            host.log(Level::Notice, &format!("user={} the token has expired since", mytoken_login::field(&user)));
            revocation::revoke_delegated(host, &record.credential);
            Standing::Expired
        }
        Ok(_) => Standing::Good,
        Err(fault) => {
            host.log(Level::Warning, &format!("user={} account refused: {fault}", mytoken_login::field(&user)));
            Standing::Foreign
        }
    }
}
