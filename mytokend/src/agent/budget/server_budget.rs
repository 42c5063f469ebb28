// SPDX-License-Identifier: MIT OR Apache-2.0
//! The budget of one mytoken server: what this host has sent, and what the brokers have not heard of that yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mytoken_wire::agent::UsedUp;

use super::ledger::{Ledger, Purpose, Sent};
use super::limit::{MOST, Told};
use super::report::{HostReport, ReportedRest, ReportedUse};

/// The budget of one server.
#[derive(Default)]
pub(super) struct ServerBudget {
    /// Its name in `mytoken.toml`.
    pub name: String,
    /// What this host has sent.
    pub ledger: Ledger,
    /// When the server was last asked for its limit.
    pub asked: Option<u64>,
    /// What was sent without a permit of the brokers, and what they have not been told.
    untold: VecDeque<Sent>,
    /// Submissions that had a permit and may tell what else they have sent: by user, how many, and when the last one had its permit.
    permitted: BTreeMap<u32, (u32, u64)>,
}

impl ServerBudget {
    /// A permit, or after how many milliseconds there may be one, and whose share is used up.
    pub fn permit(&mut self, purpose: Purpose, uid: Option<u32>, now: u64) -> Result<(), (u64, UsedUp)> {
        let used_up = self.used_up(now);
        self.ledger.ask(purpose, uid, now).map_err(|wait| (wait, used_up))
    }

    /// Why a permit of the brokers is of no use: the server has told this host that too few requests are left. The brokers perhaps have not
    /// heard it.
    pub fn refused_by_server(&self, purpose: Purpose, uid: Option<u32>, now: u64) -> Option<(u64, UsedUp)> {
        Some((self.ledger.told_wait(purpose, uid, now)?, self.used_up(now)))
    }

    fn used_up(&self, now: u64) -> UsedUp {
        if self.ledger.left(now) > 0 { UsedUp::User } else { UsedUp::Host }
    }

    /// A request was sent without a permit of the brokers.
    pub fn sent_beyond(&mut self, purpose: Purpose, uid: Option<u32>, now: u64) {
        self.give_back(VecDeque::from([Sent { at: now, purpose, uid }]));
    }

    /// A submission of this user has a permit.
    pub fn submission_permitted(&mut self, uid: u32, now: u64) {
        let period = self.ledger.known().period();
        self.permitted.retain(|_, (_, last)| now <= last.saturating_add(period));
        let (count, last) = self.permitted.entry(uid).or_default();
        (*count, *last) = (count.saturating_add(1), now);
    }

    /// Whether a submission of this user had a permit and has not told yet what else it has sent. It has then.
    pub fn take_permitted(&mut self, uid: u32, now: u64) -> bool {
        let period = self.ledger.known().period();
        let Some((count, _)) = self.permitted.get_mut(&uid).filter(|(_, last)| now <= last.saturating_add(period))
        else {
            return false;
        };
        let is_permitted = *count > 0;
        *count = count.saturating_sub(1);
        is_permitted
    }

    /// A login of this user was accepted, which has sent so many requests. Returns how many of them the brokers have not heard.
    pub fn accept_logins(&mut self, uid: u32, count: u32, now: u64) -> u32 {
        self.ledger.accept_logins(uid, count, now);
        let mut unheard = 0;
        let of_nobody = self.untold.iter_mut().rev().filter(|sent| sent.is_unverified_login());
        for sent in of_nobody.take(usize::try_from(count).unwrap_or(usize::MAX)) {
            sent.uid = Some(uid);
            unheard += 1;
        }
        unheard
    }

    /// A request that had a permit, or was counted, was not sent.
    pub fn not_sent(&mut self, purpose: Purpose, uid: Option<u32>, now: u64) {
        self.ledger.refund(purpose, uid, now);
        if let Some(found) = self.untold.iter().rposition(|sent| (sent.purpose, sent.uid) == (purpose, uid)) {
            self.untold.remove(found);
        }
    }

    /// What the brokers have not heard, as much as a report holds. They hear it with the next request for a permit, and the rest with later
    /// ones.
    pub fn take_untold(&mut self, now: u64) -> VecDeque<Sent> {
        let begin = now.saturating_sub(self.ledger.known().period());
        let mut entries = BTreeSet::new();
        let recent = std::mem::take(&mut self.untold).into_iter().filter(|sent| sent.at >= begin);
        let (untold, rest) = recent.partition(|sent| {
            let entry = (sent.purpose, sent.uid);
            entries.contains(&entry) || entries.len() < HostReport::MOST_USES && entries.insert(entry)
        });
        self.untold = rest;
        untold
    }

    /// They still have not heard it.
    pub fn give_back(&mut self, untold: VecDeque<Sent>) {
        self.untold.extend(untold);
        let surplus = self.untold.len().saturating_sub(MOST as usize);
        self.untold.drain(..surplus);
    }

    /// The same for the brokers.
    pub fn report(&self, untold: &VecDeque<Sent>, now: u64) -> HostReport {
        let mut counts = BTreeMap::new();
        for sent in untold {
            *counts.entry((sent.purpose, sent.uid)).or_insert(0_u32) += 1;
        }
        let sent = counts.into_iter().map(|((purpose, uid), requests)| ReportedUse { purpose, uid, requests });
        let (told, of) = (self.ledger.known().told(now), self.ledger.known().said());
        let told = told.map(|Told { left, until }| ReportedRest { left, of, ends: until.saturating_sub(now) });
        HostReport { sent: sent.collect(), told }
    }
}
