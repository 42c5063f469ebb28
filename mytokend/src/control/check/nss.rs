// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accounts and groups of this host, each look-up with a time limit. NSS asks directory servers, and one that hangs must not make the
//! check hang: programs that ask sssd wait up to five minutes.
//!
//! The functions of the C library cannot be interrupted, so each runs in a thread of its own. One that hangs is left behind, and ends with
//! this program.

use std::cell::RefCell;
use std::ffi::CString;
use std::fmt::Display;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use mytoken_login::{AccountDatabase, AccountLookupFailed, NssAccounts};
use mytoken_wire::printable;
use nix::errno::Errno;
use nix::unistd::{Gid, Group, User, getgrouplist};

use super::configuration::word;
use super::host::Person;
use super::{Findings, kinds};

/// Time limit of one call of the C library.
const LIMIT: Duration = Duration::from_secs(5);

/// Longest name in a sentence.
const LONGEST: usize = 100;

/// How many members of a group are looked at until one is an account.
const MOST_MEMBERS: usize = 20;

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
    /// The account of `--as`.
    user: Option<String>,
    /// The first look-up without an answer.
    silence: RefCell<Option<Silence>>,
}

impl Default for Nss {
    fn default() -> Self {
        Self::of(None)
    }
}

impl Nss {
    /// `user`: the account of `--as`. It is looked up whatever had no answer before: the check is about it, and files can have it.
    pub(super) fn of(user: Option<&str>) -> Self {
        Self { limit: LIMIT, user: user.map(str::to_owned), silence: RefCell::default() }
    }

    /// Looks up. `database` as for getent(1), or `initgroups` for the groups of an account.
    fn ask<T: Send + 'static, E: Display + Send + 'static>(
        &self,
        database: &str,
        name: &str,
        look_up: impl FnOnce(String) -> Result<T, E> + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (sender, answer) = mpsc::channel();
        let asked = name.to_owned();
        let begun = thread::Builder::new().spawn(move || {
            // After the limit nobody waits for it.
            let _ = sender.send(look_up(asked));
        });
        let (what, command) = match database {
            "passwd" => ("account", format!("getent passwd {}", word(name))),
            "initgroups" => ("groups of the account", format!("id {}", word(name))),
            other => (other, format!("getent {other} {}", word(name))),
        };
        let what = format!("the look-up of the {what} \"{}\"", printable(name, LONGEST));
        let reason = match begun.map(|_thread| answer.recv_timeout(self.limit)) {
            Ok(Ok(Ok(answer))) => return Ok(answer),
            // Not the same as an account that does not exist.
            Ok(Ok(Err(error))) => format!("{what} failed: {error}"),
            Ok(Err(RecvTimeoutError::Timeout)) => format!("{what} needed more than {} s", self.limit.as_secs()),
            Ok(Err(RecvTimeoutError::Disconnected)) => format!("{what} failed"),
            Err(error) => format!("{what} cannot be started: {error}"),
        };
        self.silence.borrow_mut().get_or_insert(Silence { reason: reason.clone(), command });
        Err(NoAnswer(reason))
    }

    /// Looks up, unless a look-up before had no answer: each one would take as long.
    fn ask_while_it_answers<T: Send + 'static, E: Display + Send + 'static>(
        &self,
        database: &str,
        name: &str,
        look_up: impl FnOnce(String) -> Result<T, E> + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let silent = self.silence.borrow().as_ref().map(|silence| NoAnswer(silence.reason.clone()));
        silent.map_or_else(|| self.ask(database, name, look_up), Err)
    }

    /// Looks up what belongs to an account.
    fn ask_for<T: Send + 'static, E: Display + Send + 'static>(
        &self,
        account: &str,
        database: &str,
        name: &str,
        look_up: impl FnOnce(String) -> Result<T, E> + Send + 'static,
    ) -> Result<T, NoAnswer> {
        if self.user.as_deref() == Some(account) {
            self.ask(database, name, look_up)
        } else {
            self.ask_while_it_answers(database, name, look_up)
        }
    }

    /// An account with exactly this name, as sshd looks it up.
    pub(super) fn person(&self, name: &str) -> Result<Option<Person>, NoAnswer> {
        let user = self.ask_for(name, "passwd", name, |name| {
            User::from_name(&name).map(|user| user.filter(|user| user.name == name))
        })?;
        Ok(user.map(|user| {
            // As in sshd.
            let shell = if user.shell.as_os_str().is_empty() { "/bin/sh".into() } else { user.shell };
            Person { uid: user.uid.as_raw(), gid: user.gid.as_raw(), shell }
        }))
    }

    /// The names of all groups of an account. `gid`: its primary group.
    pub(super) fn groups(&self, name: &str, gid: u32) -> Result<Vec<String>, NoAnswer> {
        let gids = self.ask_for(name, "initgroups", name, move |name| {
            CString::new(name).map_err(|_| Errno::EINVAL).and_then(|name| getgrouplist(&name, Gid::from_raw(gid)))
        })?;
        let mut groups = Vec::new();
        // Each has a time limit of its own: an account can be in a hundred groups, and a slow directory server is not a silent one.
        for gid in gids {
            let group = self.ask_for(name, "group", &gid.as_raw().to_string(), move |_| Group::from_gid(gid))?;
            // As in sshd, a group without a name is in no list.
            groups.extend(group.map(|group| group.name));
        }
        Ok(groups)
    }

    /// An account, also after another look-up had no answer: those of files are found before a directory server is asked.
    pub(super) fn user(&self, name: &str) -> Result<Option<User>, NoAnswer> {
        self.ask("passwd", name, |name| User::from_name(&name))
    }

    /// Whether there is a group. One that cannot be looked up counts.
    pub(super) fn has_group(&self, name: &str) -> bool {
        let found = self.ask_while_it_answers("group", name, |name| Group::from_name(&name));
        !matches!(found, Ok(None))
    }

    /// A member of a group, by its list of members: an account that exists, and not root.
    pub(super) fn member(&self, group: &str) -> Option<String> {
        let members = self.ask_while_it_answers("group", group, |group| Group::from_name(&group)).ok()??.mem;
        let is_person = |name: &String| matches!(self.find(name), Ok(Some((uid, _))) if uid != 0);
        members.into_iter().take(MOST_MEMBERS).find(is_person)
    }
}

impl AccountDatabase for Nss {
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
        let find = |name: String| NssAccounts.find(&name).map_err(|failed| failed.reason);
        self.ask_while_it_answers("passwd", name, find).map_err(|NoAnswer(reason)| AccountLookupFailed { reason })
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
            "grep -E '^(passwd|group|initgroups):' /etc/nsswitch.conf; timeout 60 {command}; echo $?   # 124: a service of these lines does not answer; if it is sss: systemctl restart sssd"
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
        let groups = nss.groups("root", root.gid).unwrap();
        assert!(root.uid == 0 && groups.contains(&"root".to_owned()), "{root:?} {groups:?}");
        assert_eq!(nss.person("no such account"), Ok(None));
        assert_eq!(nss.find("root").unwrap(), Some((0, 0)));
        assert!(nss.has_group("root") && !nss.has_group("no such group"));
        assert!(nss.user("root").unwrap().is_some());
        let mut findings = Findings::default();
        findings.silence(&nss);
        assert!(findings.findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn a_look_up_that_hangs_is_left_behind_and_told_once() {
        let nss = Nss { limit: Duration::from_secs(1), ..Nss::default() };
        let (hold, held) = mpsc::channel::<()>();
        let begin = Instant::now();
        let hangs = nss.ask("passwd", "alice\n$(x)", move |_| held.recv());
        let reason = "the look-up of the account \"alice?$(x)\" needed more than 1 s";
        assert_eq!(hangs, Err(NoAnswer(reason.to_owned())));
        assert_eq!(nss.person("root"), Err(NoAnswer(reason.to_owned())));
        assert_eq!(nss.groups("root", 0), Err(NoAnswer(reason.to_owned())));
        assert_eq!(nss.find("root").unwrap_err().reason, reason);
        assert!(nss.has_group("no such group") && nss.member("root").is_none());
        assert!(nss.user("root").unwrap().is_some(), "it is asked all the same");
        assert!(begin.elapsed() < Duration::from_secs(5));
        let mut findings = Findings::default();
        findings.add_kind(kinds::MAP_LOOKUP, "not all accounts were looked up");
        findings.silence(&nss);
        assert_eq!(findings.findings.len(), 1);
        assert!(findings.findings[0].text.starts_with(reason), "{findings:?}");
        assert!(
            findings.findings[0].fix.as_ref().unwrap().contains("timeout 60 getent passwd 'alice\n$(x)'; "),
            "{findings:?}"
        );
        drop(hold);
    }

    #[test]
    fn the_account_of_the_check_is_looked_up_after_another_had_no_answer() {
        let nss = Nss::of(Some("root"));
        nss.ask("passwd", "alice", |_| Err::<(), _>(Errno::EIO)).unwrap_err();
        assert!(nss.person("root").unwrap().is_some());
        assert!(nss.groups("root", 0).unwrap().contains(&"root".to_owned()));
        assert!(nss.person("daemon").is_err());
    }

    /// A service that refuses is not one that does not know the account.
    #[test]
    fn an_error_is_no_answer() {
        for (database, what, command) in [
            ("passwd", "account", "timeout 60 getent passwd alice; "),
            ("initgroups", "groups of the account", "timeout 60 id alice; "),
            ("group", "group", "timeout 60 getent group alice; "),
        ] {
            let nss = Nss::default();
            let failed = nss.ask(database, "alice", |_| Err::<(), _>(Errno::ECONNREFUSED));
            let reason = format!("the look-up of the {what} \"alice\" failed: {}", Errno::ECONNREFUSED);
            assert_eq!(failed, Err(NoAnswer(reason.clone())));
            let mut findings = Findings::default();
            findings.silence(&nss);
            assert!(findings.findings[0].text.starts_with(&reason), "{findings:?}");
            assert!(findings.findings[0].fix.as_ref().unwrap().contains(command), "{findings:?}");
        }
    }

    #[test]
    fn a_look_up_that_panics_is_no_answer() {
        let failed = Nss::default().ask("group", "staff", |_| -> Result<bool, Errno> { panic!("a test") });
        assert_eq!(failed, Err(NoAnswer("the look-up of the group \"staff\" failed".to_owned())));
    }
}
