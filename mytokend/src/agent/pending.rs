// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs that wait get new credentials (`mytokenctl replace`): the brokers keep them, because the sealed text of such a job is in Slurm's own
//! files.

use std::time::Duration;

use mytoken::Deadline;
use mytoken_wire::agent::{Answer, EventKind, HandOver, ReplacePending};
use mytoken_wire::{Handle, sealed};

use super::credential_service::Admitted;
use super::lease::{Lease, LeaseKey, Phase};
use super::{Agent, millis};
use crate::log::Level;

/// Time limit of all brokers together. Each asks slurmctld twice.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the lease of a credential that a broker follows is kept. Nobody asks about it.
const RETENTION: Duration = Duration::from_secs(600);

impl Agent {
    /// Gives the brokers a new credential for a job of the user `uid`, who is the caller. If one has it, this host need not follow it.
    pub(super) fn replace_pending(&self, pending: &ReplacePending, uid: u32) -> Answer {
        if Handle::parse(&pending.handle).is_none() {
            return Answer::Error("a credential's handle is 32 hexadecimal digits".to_owned());
        }
        if let Err(fault) = sealed::parse(&pending.sealed) {
            return Answer::Error(format!("the sealed credential is malformed: {fault}"));
        }
        let handed = self.configured().service.replace_pending(uid, pending, Deadline::after(PATIENCE));
        if handed.outcome == HandOver::Held {
            if let Some(problem) = &handed.reason {
                let text = format!(
                    "job {} uid {uid}: not every broker has the credential that replaces its own: {problem}",
                    pending.job
                );
                self.log.line_of(uid, Level::Warning, &text);
            }
            self.leave_to_brokers(uid, &pending.handle);
        }
        Answer::HandedOver(handed)
    }

    fn leave_to_brokers(&self, uid: u32, handle: &str) {
        let key = LeaseKey::Submission { uid, handle: handle.to_owned() };
        let mut table = self.leases();
        let Some(lease) = table.get_mut(&key).filter(|lease| lease.is_followed_here()) else { return };
        self.record(lease, Level::Info, EventKind::Left, "a broker has the credential and revokes the sub-token");
        lease.credential = None;
        lease.phase = Phase::Finished { due: self.now().saturating_add(millis(RETENTION)) };
        self.lease_changed(&mut table, &key);
    }

    /// A broker has told what the credential says. If that has changed, it is another one: that of an array was replaced while tasks of it
    /// run here. The job goes on with the token files that it has.
    pub(super) fn take_newer_content(&self, lease: &mut Lease, admitted: Admitted, now: u64) {
        if admitted.is_provisional || lease.until == Some(admitted.exp) {
            return;
        }
        lease.profile = admitted.profile;
        lease.until = Some(admitted.exp);
        lease.windows = admitted.windows;
        if lease.start_windows != admitted.start_windows {
            lease.set_start_windows(admitted.start_windows, now);
        }
        lease.lane = admitted.lane;
        lease.limited_uses = admitted.limited_uses;
        for file in &mut lease.files {
            if let Some(new) = admitted.files.iter().find(|new| new.name == file.name) {
                file.windows.clone_from(&new.windows);
            }
        }
        let text = format!("a broker has a new credential for the job: {}", admitted.description);
        self.record(lease, Level::Info, EventKind::Replaced, text);
    }
}
