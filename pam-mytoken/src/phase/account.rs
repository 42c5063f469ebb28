// SPDX-License-Identifier: GPL-3.0-or-later
//! `acct_mgmt`: whether the result of `authenticate` is still valid.
//!
//! Logins by key come here too. They must not depend on the configuration, unless it has a rule for them (`key_login`).

use mytoken::{Deadline, SystemClock};
use mytoken_login::handover::Claimant;
use mytoken_login::{Level, Process, escape_field};
use pamsm::PamError;

use super::key_login;
use super::records::records;
use super::revocation;
use crate::codes::{self, AccountState};
use crate::context::PamContext;

/// The account phase.
pub fn account(context: &PamContext<'_>) -> PamError {
    codes::account(state(context))
}

fn state(context: &PamContext<'_>) -> AccountState {
    let (user, service) = (context.user().unwrap_or_default(), context.service());
    let Some(handle) = context.handle() else {
        return if context.was_accepted(&user) { AccountState::WithoutRecord } else { key_login::state(context) };
    };
    let claimant = Claimant { user: &user, service: &service, process: Process::own() };
    match records().read(&handle, &claimant, &SystemClock) {
        Ok(record) if record.has_expired(&SystemClock) => {
            context.log(Level::Notice, &format!("user={} the token has expired since the login", escape_field(&user)));
            let is_revoked =
                revocation::revoke_delegated(context, &record.credential, Deadline::after(revocation::TIME_LIMIT));
            // No session follows that would take the record. With a mytoken that could not be revoked it stays for the agent.
            if is_revoked {
                let _ = records().take(&handle, &claimant, &SystemClock);
            }
            AccountState::Expired
        }
        Ok(_) => AccountState::Valid,
        Err(error) => {
            // The delegated mytoken of the record is not revoked; see `RecordError`.
            context.log(Level::Warning, &format!("user={} account refused: {error}", escape_field(&user)));
            AccountState::RecordUnusable
        }
    }
}
