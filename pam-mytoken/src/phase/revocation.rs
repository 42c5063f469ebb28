// SPDX-License-Identifier: GPL-3.0-or-later
//! Revokes a delegated mytoken that no session gets. It exists only here and would stay valid for hours.

use std::time::Duration;

use mytoken::config::{FileTrust, Shared};
use mytoken::private_files::FileError;
use mytoken::{Deadline, Secret};
use mytoken_login::budget::BudgetSettings;
use mytoken_login::handover::{Handover, Record};
use mytoken_login::{Level, Refusal, SessionCredential};

use crate::context::PamContext;

/// How long a revocation may take. The login waits for it.
pub const TIME_LIMIT: Duration = Duration::from_secs(3);

/// Revokes the mytoken of `credential` that is delegated or of a login with a link, if there is one, until `deadline`, but at most for
/// [`TIME_LIMIT`]. Logs the result. Returns whether nothing is left to revoke.
pub fn revoke_delegated(context: &PamContext<'_>, credential: &SessionCredential, deadline: Deadline) -> bool {
    let Some(renewal) = credential.revocable() else { return true };
    match revoke(context, &renewal.server, &renewal.mytoken, deadline.at_most(TIME_LIMIT)) {
        Ok(()) => {
            context.log(Level::Info, "the delegated mytoken was revoked: no session gets it");
            true
        }
        Err(refusal) => {
            let reason = refusal.detail().unwrap_or_else(|| refusal.reason().to_owned());
            let line = format!("the delegated mytoken could not be revoked, although no session gets it: {reason}");
            context.log(Level::Warning, &line);
            false
        }
    }
}

/// Leaves the mytoken of a record that was taken to the agent, unless it was revoked: nothing else would know it any more. Returns whether
/// the agent will revoke it. It does not revoke one that others may use.
///
/// # Errors
/// Why the record cannot be stored.
pub fn leave_to_agent(records: &Handover, record: &Record, is_revoked: bool) -> Result<bool, FileError> {
    if is_revoked || record.credential.own().is_none() {
        return Ok(false);
    }
    records.store_for_revocation(record).map(|()| true)
}

fn revoke(context: &PamContext<'_>, server: &str, mytoken: &Secret, deadline: Deadline) -> Result<(), Refusal> {
    let shared = Shared::load(&context.arguments.config, FileTrust::ROOT)?;
    let resources = context.resources();
    // A revocation is counted and never refused, so the numbers of the budget have no effect.
    let budget = BudgetSettings::default();
    let allowance = resources.allowance(&budget);
    resources.with_server(&shared, server, &allowance, |tokens| tokens.revoke(mytoken, deadline))?
}

#[cfg(test)]
mod tests {
    use mytoken::private_files::Owner;
    use mytoken_wire::clock::FixedClock;
    use serde_json::json;

    use super::*;

    fn record(for_session: bool) -> Record {
        let me = Owner::current();
        let record = json!({
            "v": 2, "user": "alice", "uid": me.uid, "gid": me.gid, "service": "sshd", "issuer": "op", "sub": "s-1", "rule": "r",
            "access_token": "the.access.token", "exp": 10, "good_until": 10, "lifetime": 5,
            "renewal": { "server": "testbed", "mytoken": "m.y.t", "scope": "", "audience": "" },
            "delegated": true, "for_session": for_session, "created": 1, "processes": [],
        });
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn a_mytoken_whose_revocation_failed_is_left_to_the_agent() {
        for (for_session, is_revoked, left) in [(true, false, 1), (true, true, 0), (false, false, 0)] {
            let directory = tempfile::tempdir().unwrap();
            let records = Handover::new(&directory.path().join("mytoken/handover"), Owner::current());
            assert_eq!(leave_to_agent(&records, &record(for_session), is_revoked), Ok(left == 1));
            let (found, problems) = records.abandoned(&FixedClock(1));
            assert_eq!((found.len(), problems.len()), (left, 0));
            assert!(found.iter().all(|found| found.renewal.mytoken.expose() == "m.y.t"));
        }
    }
}
