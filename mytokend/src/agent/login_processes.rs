// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes of a login: by the audit session that `pam_loginuid` begins, and by the scope that logind makes for it. Both are inherited,
//! also by what `nohup`, `tmux` and `mosh` leave behind, and a user cannot change them.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// How the processes of a login are known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LoginMark {
    /// The number of the audit session. It is never used again before the next boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<u32>,
    /// The control group of logind's scope, `/user.slice/user-UID.slice/session-ID.scope`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl LoginMark {
    /// Whether a process with `other` belongs to this login.
    #[must_use]
    pub fn is_shared_by(&self, other: &Self) -> bool {
        let same_audit = self.audit.is_some() && self.audit == other.audit;
        same_audit || self.scope.is_some() && self.scope == other.scope
    }
}

/// A login whose processes are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Its mark.
    pub mark: LoginMark,
    /// Its user. Programs of other users do not count: a service that was restarted from the login belongs to root.
    pub uid: u32,
    /// Its first process, which does not count.
    pub first: u32,
}

/// The mark of a process; `None` if it has none.
#[must_use]
pub fn mark_of(pid: u32) -> Option<LoginMark> {
    let audit = fs::read_to_string(format!("/proc/{pid}/sessionid")).ok().and_then(|text| parse_audit(&text));
    let scope = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok().and_then(|text| parse_scope(&text));
    (audit.is_some() || scope.is_some()).then_some(LoginMark { audit, scope })
}

/// For each of the logins, whether a process of it runs.
#[must_use]
pub fn running(logins: &[Login], is_running: impl Fn(u32) -> bool) -> Vec<bool> {
    let mut found = vec![false; logins.len()];
    for entry in fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(uid) = entry.metadata().map(|process| process.uid()) else { continue };
        let is_of = |login: &Login| login.uid == uid && login.first != pid;
        if !logins.iter().any(is_of) {
            continue;
        }
        let Some(mark) = mark_of(pid).filter(|_| is_running(pid)) else { continue };
        for (login, found) in logins.iter().zip(&mut found) {
            *found |= is_of(login) && login.mark.is_shared_by(&mark);
        }
    }
    found
}

/// The largest number means that no login has begun.
fn parse_audit(text: &str) -> Option<u32> {
    text.trim_end().parse().ok().filter(|number| *number != u32::MAX)
}

/// The scope of `/proc/PID/cgroup`, of version 1 or 2.
fn parse_scope(text: &str) -> Option<String> {
    let path_of = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        (controllers.is_empty() || controllers == "name=systemd").then(|| path.to_owned())
    };
    text.lines().filter_map(path_of).find_map(|path| {
        let is_scope = |part: &&str| part.starts_with("session-") && part.ends_with(".scope");
        let parts: Vec<&str> = path.split('/').collect();
        let at = parts.iter().position(is_scope)?;
        Some(parts.get(..=at)?.join("/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_of_logind_is_found_and_no_other_group() {
        let scope = "/user.slice/user-1000.slice/session-c3.scope";
        for text in [
            format!("0::{scope}\n"),
            format!("0::{scope}/inner.slice/x\n"),
            format!("8:pids:/x\n1:name=systemd:{scope}\n0::/\n"),
        ] {
            assert_eq!(parse_scope(&text).as_deref(), Some(scope), "{text}");
        }
        for text in
            ["", "0::/", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope", "7:cpu:/session-3.scope"]
        {
            assert_eq!(parse_scope(text), None, "{text}");
        }
        assert_eq!((parse_audit("7\n"), parse_audit("4294967295"), parse_audit("")), (Some(7), None, None));
    }

    #[test]
    fn a_process_belongs_to_a_login_by_one_of_both_marks() {
        let mark = |audit: Option<u32>, scope: Option<&str>| LoginMark { audit, scope: scope.map(str::to_owned) };
        let login = mark(Some(7), Some("/a"));
        for (other, expected) in [
            (mark(Some(7), None), true),
            (mark(None, Some("/a")), true),
            (mark(Some(8), Some("/a")), true),
            (mark(Some(8), Some("/b")), false),
            (mark(None, None), false),
        ] {
            assert_eq!(login.is_shared_by(&other), expected, "{other:?}");
        }
        assert!(!mark(None, None).is_shared_by(&mark(None, None)), "no mark is no login");
    }

    #[test]
    fn only_running_processes_of_the_user_count() {
        let Some(mark) = mark_of(std::process::id()) else {
            // No login has begun here: then nothing is found either.
            let login = Login { mark: LoginMark::default(), uid: nix::unistd::getuid().as_raw(), first: 0 };
            return assert_eq!(running(&[login], |_| true), [false]);
        };
        let uid = nix::unistd::getuid().as_raw();
        let login = |uid| Login { mark: mark.clone(), uid, first: 0 };
        assert_eq!(running(&[login(uid), login(uid + 1)], |_| true), [true, false]);
        assert_eq!(running(&[login(uid)], |_| false), [false]);
    }
}
