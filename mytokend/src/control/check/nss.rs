// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accounts and groups of this host, each look-up with a time limit. NSS asks directory servers, and one that hangs must not make the
//! check hang: programs that ask sssd wait up to five minutes.
//!
//! The functions of the C library cannot be interrupted, so each runs in a thread of its own. One that hangs is left behind, and ends with
//! this program.

use std::cell::RefCell;
use std::ffi::CString;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use mytoken_login::{AccountDatabase, AccountLookupFailed, NssAccounts};
use mytoken_wire::printable;
use nix::unistd::{Group, User, getgrouplist};

use super::configuration::word;
use super::host::Person;
use super::{Findings, kinds};

/// Time limit of a look-up.
const LIMIT: Duration = Duration::from_secs(5);

/// Longest name in a sentence.
const LONGEST: usize = 100;

/// Why a look-up has no result, a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer(pub String);

/// A look-up without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Silence {
    reason: String,
    /// The command that asks for the same.
    command: String,
}

/// The name service switch.
#[derive(Debug)]
pub struct Nss {
    limit: Duration,
    /// The first look-up without an answer.
    silence: RefCell<Option<Silence>>,
}

impl Default for Nss {
    fn default() -> Self {
        Self { limit: LIMIT, silence: RefCell::default() }
    }
}

impl Nss {
    /// Looks up. `database` as for getent(1).
    fn ask<T: Send + 'static>(
        &self,
        database: &str,
        name: &str,
        look_up: impl FnOnce(String) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (sender, answer) = mpsc::channel();
        let asked = name.to_owned();
        let begun = thread::Builder::new().spawn(move || {
            // After the limit nobody waits for it.
            let _ = sender.send(look_up(asked));
        });
        let what = if database == "passwd" { "account" } else { database };
        let what = format!("the look-up of the {what} \"{}\"", printable(name, LONGEST));
        let reason = match begun.map(|_thread| answer.recv_timeout(self.limit)) {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(RecvTimeoutError::Timeout)) => format!("{what} did not answer in {} s", self.limit.as_secs()),
            Ok(Err(RecvTimeoutError::Disconnected)) => format!("{what} failed"),
            Err(error) => format!("{what} cannot be started: {error}"),
        };
        let command = format!("getent {database} {}", word(name));
        self.silence.borrow_mut().get_or_insert(Silence { reason: reason.clone(), command });
        Err(NoAnswer(reason))
    }

    /// Looks up, unless a look-up before had no answer: each one would take as long.
    fn ask_while_it_answers<T: Send + 'static>(
        &self,
        database: &str,
        name: &str,
        look_up: impl FnOnce(String) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let silent = self.silence.borrow().as_ref().map(|silence| NoAnswer(silence.reason.clone()));
        silent.map_or_else(|| self.ask(database, name, look_up), Err)
    }

    /// An account with exactly this name, as sshd looks it up.
    pub(super) fn person(&self, name: &str) -> Result<Option<Person>, NoAnswer> {
        self.ask_while_it_answers("passwd", name, |name| {
            let user = User::from_name(&name).ok().flatten().filter(|user| user.name == name)?;
            let groups = getgrouplist(&CString::new(name).ok()?, user.gid).unwrap_or_default();
            let groups = groups.into_iter().filter_map(|gid| Some(Group::from_gid(gid).ok()??.name)).collect();
            // As in sshd.
            let shell = if user.shell.as_os_str().is_empty() { "/bin/sh".into() } else { user.shell };
            Some(Person { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups, shell })
        })
    }

    /// An account, also after another look-up had no answer: those of files are found before a directory server is asked.
    pub(super) fn user(&self, name: &str) -> Result<nix::Result<Option<User>>, NoAnswer> {
        self.ask("passwd", name, |name| User::from_name(&name))
    }

    /// Whether there is a group. One that cannot be looked up counts.
    pub(super) fn has_group(&self, name: &str) -> bool {
        let found = |name: String| matches!(Group::from_name(&name), Ok(Some(_)) | Err(_));
        self.ask_while_it_answers("group", name, found).unwrap_or(true)
    }

    /// A member of a group, by its list of members.
    pub(super) fn member(&self, group: &str) -> Option<String> {
        let member = |group: String| Group::from_name(&group).ok().flatten()?.mem.into_iter().next();
        self.ask_while_it_answers("group", group, member).ok().flatten()
    }
}

impl AccountDatabase for Nss {
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
        let found = self.ask_while_it_answers("passwd", name, |name| NssAccounts.find(&name));
        found.unwrap_or_else(|NoAnswer(reason)| Err(AccountLookupFailed { reason }))
    }
}

impl Findings {
    /// Adds that a look-up had no answer.
    pub(super) fn silence(&mut self, nss: &Nss) {
        let Some(Silence { reason, command }) = nss.silence.borrow().clone() else { return };
        // One fault is one finding.
        self.findings.retain(|finding| finding.id.as_deref() != Some(kinds::MAP_LOOKUP.id));
        let text = format!("{reason}: the accounts after it were not looked up, and are not checked");
        let fix = format!(
            "grep -E '^(passwd|group|initgroups):' /etc/nsswitch.conf; timeout 10 {command}   # a service of these lines does not answer: if it is sss, systemctl restart sssd"
        );
        self.add_fixed(kinds::NSS, text, fix);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn accounts_and_groups_are_found() {
        let nss = Nss::default();
        let root = nss.person("root").unwrap().unwrap();
        assert!(root.uid == 0 && root.groups.contains(&"root".to_owned()), "{root:?}");
        assert_eq!(nss.person("no such account"), Ok(None));
        assert_eq!(nss.find("root").unwrap(), Some((0, 0)));
        assert!(nss.has_group("root") && !nss.has_group("no such group"));
        assert!(nss.user("root").unwrap().unwrap().is_some());
        let mut findings = Findings::default();
        findings.silence(&nss);
        assert!(findings.findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn a_look_up_that_hangs_is_left_behind_and_told_once() {
        let nss = Nss { limit: Duration::from_secs(1), silence: RefCell::default() };
        let (hold, held) = mpsc::channel::<()>();
        let begin = Instant::now();
        let hangs = nss.ask("passwd", "alice\n$(x)", move |_| held.recv().is_ok());
        let reason = "the look-up of the account \"alice?$(x)\" did not answer in 1 s";
        assert_eq!(hangs, Err(NoAnswer(reason.to_owned())));
        assert_eq!(nss.person("root"), Err(NoAnswer(reason.to_owned())));
        assert_eq!(nss.find("root").unwrap_err().reason, reason);
        assert!(nss.has_group("no such group") && nss.member("root").is_none());
        assert!(nss.user("root").unwrap().unwrap().is_some(), "it is asked all the same");
        assert!(begin.elapsed() < Duration::from_secs(5));
        let mut findings = Findings::default();
        findings.add_kind(kinds::MAP_LOOKUP, "not all accounts were looked up");
        findings.silence(&nss);
        assert_eq!(findings.findings.len(), 1);
        assert!(findings.findings[0].text.starts_with(reason), "{findings:?}");
        assert!(findings.findings[0].fix.as_ref().unwrap().contains("getent passwd 'alice\n$(x)' "), "{findings:?}");
        drop(hold);
    }

    #[test]
    fn a_look_up_that_panics_is_no_answer() {
        let failed = Nss::default().ask("group", "staff", |_| -> bool { panic!("a test") });
        assert_eq!(failed, Err(NoAnswer("the look-up of the group \"staff\" failed".to_owned())));
    }
}
