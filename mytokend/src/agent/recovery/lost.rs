// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access tokens of an earlier run that have no lease which this agent can read. Each gets one that removes it when it expires.

use std::collections::hash_map::{Entry, HashMap};

use mytoken::private_files::Owner;
use mytoken::time_format;

use crate::agent::lease::{AdmittedFile, CurrentToken, Lease, LeaseKey, NamedFile, Phase};
use crate::agent::name;
use crate::agent::runtime_dir::Left;
use crate::log::{Level, Log};

/// How long a lease that only removes a session's token is kept after the token's end, in milliseconds: the user may hold the file.
const REMOVAL_TIME: u64 = 86_400_000;

/// Makes a lease of an access token that has none. Returns it.
pub(super) fn keep_token<'a>(
    leases: &'a mut HashMap<LeaseKey, Lease>,
    (key, left): (LeaseKey, Left),
    why: &str,
    now: u64,
    log: &Log,
) -> Option<&'a Lease> {
    let Entry::Vacant(place) = leases.entry(key) else { return None };
    let end = left.end();
    let lease = lease_of_token(place.key().clone(), left, why, now);
    let ends = time_format::short(end.saturating_sub(now / 1000));
    let text = format!("{}: {why}; its access token stays until it expires in {ends}", name(&lease));
    log.line_of(lease.uid, Level::Warning, &text);
    Some(place.insert(lease))
}

/// A lease that removes an access token when it expires. A job's next step may bring a credential for further ones.
fn lease_of_token(key: LeaseKey, left: Left, why: &str, now: u64) -> Lease {
    let (Owner { uid, gid }, exp) = (left.owner(), left.end());
    let is_job = matches!(key, LeaseKey::Job(_));
    let lifetime = exp.saturating_sub(now / 1000);
    let mut lease = Lease::new(key, Owner { uid, gid }, "-", now);
    let advice =
        if is_job { ", so its access token is not renewed; its next step brings the credential again" } else { "" };
    let why = format!("{why}{advice}");
    lease.refuse(now, why.clone());
    lease.lacks_credential = true;
    if let (LeaseKey::Job(job), Left::Job(left)) = (&lease.key, left) {
        let job = *job;
        lease.add_job(job, gid, None, now);
        lease.jobs.entry(job).and_modify(|job| job.file = left.main);
        for (name, exp) in left.files {
            let admitted = AdmittedFile { name, windows: Vec::new(), refused: Some(why.clone()) };
            let written = [(job, exp)].into();
            lease.files.push(NamedFile { written, ..NamedFile::new(admitted, now) });
        }
    } else {
        lease.token = Some(CurrentToken { exp, lifetime });
        // The PAM module removes the files of a session that ends. After the token's end nothing but its removal is left to be done.
        lease.phase = Phase::Finished { due: exp.saturating_mul(1000).saturating_add(REMOVAL_TIME) };
    }
    lease
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::agent::lease::Action;
    use crate::agent::runtime_dir::{LeftInJob, LeftToken};

    const NOW: u64 = 1_000_000;

    /// A lease of a token that expires at 2,000.
    pub(in crate::agent::recovery) fn of_token(key: LeaseKey) -> Lease {
        let owner = Owner { uid: 7, gid: 7 };
        let left = match key {
            LeaseKey::Job(_) => Left::Job(LeftInJob { owner, main: Some(2_000), files: Vec::new() }),
            _ => Left::Session(LeftToken { owner, exp: 2_000 }),
        };
        lease_of_token(key, left, "because", NOW)
    }

    #[test]
    fn a_token_without_a_lease_is_removed_when_it_expires() {
        for key in [LeaseKey::Job(1), LeaseKey::Session("0".repeat(32))] {
            let lease = of_token(key);
            assert_eq!(lease.next_action(), Some((1_999_750, Action::Expire)), "{lease:?}");
            assert!(lease.reason.is_some_and(|reason| reason.starts_with("because")));
        }
    }
}
