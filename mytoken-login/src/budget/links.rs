// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins with a link that wait for their person: one for each account and one for each address. Pure: times are seconds since boot and
//! come as parameters.

use mytoken::{Deadline, Process};
use serde::{Deserialize, Serialize};

use super::allowance::Allowance;
use super::file::LedgerFile;
use super::settings::BudgetSettings;
use crate::link::{Busy, LinkRefusal};
use crate::refusal::Refusal;
use crate::remote::Remote;

/// Maximum number of logins that wait on this host. Each polls the mytoken server.
const LOGINS_LIMIT: usize = 32;

/// How long a login is kept, in seconds: longer than any login can wait.
const AGE_LIMIT: u64 = 600;

/// How much of an account's name is kept. Anybody can choose it, because accounts that do not exist get a link, too.
const NAME_LIMIT: usize = 64;

/// A login with a link that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitingLink {
    /// Since when.
    at: u64,
    /// The account, its first characters.
    account: String,
    /// Where the login comes from.
    remote: Remote,
    /// Its process.
    process: Process,
}

impl WaitingLink {
    /// A login of `process` that begins to wait.
    #[must_use]
    pub fn new(account: &str, remote: &Remote, process: Process, now: u64) -> Self {
        Self { at: now, account: account.chars().take(NAME_LIMIT).collect(), remote: remote.clone(), process }
    }
}

/// The logins with a link that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaitingLinks(Vec<WaitingLink>);

impl WaitingLinks {
    /// Adds a login. Those whose process has ended make room.
    ///
    /// # Errors
    /// [`Busy`] when another one waits.
    pub fn begin(&mut self, login: WaitingLink, is_running: &dyn Fn(&Process) -> bool) -> Result<(), Busy> {
        self.0.retain(|other| other.process != login.process && is_running(&other.process));
        if self.0.iter().any(|other| other.account == login.account) {
            return Err(Busy::Account);
        }
        if self.0.iter().any(|other| other.remote == login.remote) {
            return Err(Busy::Address);
        }
        if self.0.len() >= LOGINS_LIMIT {
            return Err(Busy::Host);
        }
        self.0.push(login);
        Ok(())
    }

    /// The login of `process` waits no longer.
    pub fn end(&mut self, process: Process) {
        self.0.retain(|login| login.process != process);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops old entries. A time in the future comes from an earlier boot.
    pub(super) fn drop_expired(&mut self, now: u64) {
        self.0.retain(|login| login.at <= now && now - login.at < AGE_LIMIT);
    }
}

/// The place of a login that waits. Dropping it gives the place back. If sshd ends the login before, the end of its process does.
pub struct LinkPlace<'a> {
    ledger: &'a LedgerFile,
    settings: &'a BudgetSettings,
    process: Process,
}

impl Drop for LinkPlace<'_> {
    fn drop(&mut self) {
        let deadline = Deadline::after(super::wait::REMOVAL_TIME);
        let _ = self.ledger.change(self.settings, deadline, &mut |ledger, _| ledger.links.end(self.process));
    }
}

impl Allowance<'_> {
    /// Takes the place of a login of `process` to `account` that waits for its person. `None`: this host keeps nothing between logins.
    ///
    /// # Errors
    /// [`LinkRefusal::Busy`] when another login has it; [`Refusal::System`] when the ledger cannot be used, or the process is not known: the
    /// place and the record of the link last as long as it does.
    pub fn take_link_place(
        &self,
        account: &str,
        process: Option<Process>,
        deadline: Deadline,
    ) -> Result<Option<LinkPlace<'_>>, Refusal> {
        let Some(ledger) = self.ledger else { return Ok(None) };
        let unknown =
            || Refusal::System("/proc/self/stat cannot be read, so a login with a link cannot wait".to_owned());
        let process = process.ok_or_else(unknown)?;
        let mut taken = Ok(());
        let change = ledger.change(self.settings, deadline, &mut |ledger, now| {
            ledger.links.drop_expired(now);
            taken = ledger.links.begin(WaitingLink::new(account, &self.remote, process, now), &Process::is_running);
        });
        change.map_err(|error| Refusal::System(error.to_string()))?;
        taken.map_err(LinkRefusal::Busy)?;
        Ok(Some(LinkPlace { ledger, settings: self.settings, process }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(account: &str, address: &str, pid: u32) -> WaitingLink {
        WaitingLink::new(account, &Remote::of(None, Some(address)), Process { pid, start: 7 }, 100)
    }

    #[test]
    fn one_login_waits_for_each_account_and_for_each_address() {
        let mut links = WaitingLinks::default();
        let alive = |_: &Process| true;
        assert_eq!(links.begin(login("alice", "192.0.2.1", 1), &alive), Ok(()));
        assert_eq!(links.begin(login("alice", "192.0.2.2", 2), &alive), Err(Busy::Account));
        assert_eq!(links.begin(login("bob", "192.0.2.1", 3), &alive), Err(Busy::Address));
        assert_eq!(links.begin(login("bob", "192.0.2.2", 4), &alive), Ok(()));
        links.end(Process { pid: 1, start: 8 });
        assert_eq!(links.begin(login("alice", "192.0.2.3", 5), &alive), Err(Busy::Account), "another process");
        links.end(Process { pid: 1, start: 7 });
        assert_eq!(links.begin(login("alice", "192.0.2.3", 5), &alive), Ok(()));
    }

    #[test]
    fn an_abandoned_login_gives_its_place_back_when_its_process_has_ended() {
        let mut links = WaitingLinks::default();
        links.begin(login("alice", "192.0.2.1", 1), &|_| true).unwrap();
        assert_eq!(links.begin(login("alice", "192.0.2.1", 2), &|process| process.pid != 1), Ok(()));
        assert_eq!(links.0.len(), 1);
        links.drop_expired(699);
        assert!(!links.is_empty());
        links.drop_expired(700);
        assert!(links.is_empty(), "too old");
        links.begin(login("alice", "192.0.2.1", 1), &|_| true).unwrap();
        links.drop_expired(99);
        assert!(links.is_empty(), "an earlier boot");
    }

    #[test]
    fn a_login_whose_process_is_not_known_takes_no_place_and_does_not_begin() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = LedgerFile::new(&directory.path().join("mytoken/login"), mytoken::private_files::Owner::current());
        let settings = BudgetSettings::default();
        let allowance = Allowance::new(Some(&ledger), &settings, Remote::of(None, Some("192.0.2.1")), None);
        let take =
            |process| allowance.take_link_place("alice", process, Deadline::after(std::time::Duration::from_secs(9)));
        assert!(matches!(take(None), Err(Refusal::System(_))));
        assert!(ledger.read(&settings).unwrap().0.links.is_empty());
        let place = take(Process::own()).unwrap();
        assert!(place.is_some() && !ledger.read(&settings).unwrap().0.links.is_empty());
    }

    #[test]
    fn the_list_is_bounded_and_so_is_a_name_in_it() {
        let mut links = WaitingLinks::default();
        for pid in 0..100 {
            let begun = links.begin(login(&format!("user{pid}"), &format!("192.0.2.{pid}"), pid), &|_| true);
            assert_eq!(begun.is_ok(), usize::try_from(pid).unwrap() < LOGINS_LIMIT, "{pid}: {begun:?}");
        }
        assert_eq!(login(&"x".repeat(9_000), "192.0.2.1", 1).account.len(), NAME_LIMIT);
    }
}
