// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes of a login: by the audit session that `pam_loginuid` begins, and by the scope that logind makes for it. Both are inherited,
//! also by what `nohup`, `tmux` and `mosh` leave behind, and a user cannot change them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

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
    /// Whether a process with `other` belongs to this login. If both have a scope, it decides: without `pam_loginuid`, and with `su`, a
    /// login has the audit session of the one in which it, or sshd, was started.
    #[must_use]
    pub fn is_shared_by(&self, other: &Self) -> bool {
        match (&self.scope, &other.scope) {
            (Some(own), Some(theirs)) => own == theirs,
            _ => self.audit.is_some() && self.audit == other.audit,
        }
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

/// The mark of the process with this directory in `/proc`; `None` if it has none.
///
/// # Errors
/// Its files cannot be read now, for example because this process has no descriptor left.
pub fn mark_of(process: &Path) -> io::Result<Option<LoginMark>> {
    let audit = read(&process.join("sessionid"))?.and_then(|text| parse_audit(&text));
    let scope = read(&process.join("cgroup"))?.and_then(|text| parse_scope(&text));
    Ok((audit.is_some() || scope.is_some()).then_some(LoginMark { audit, scope }))
}

/// For each of the logins, whether a process of it runs. `proc` is `/proc`. A process that cannot be looked at now may be of any login: the
/// end of a session cannot be taken back.
#[must_use]
pub fn running(logins: &[Login], proc: &Path, is_running: impl Fn(u32) -> bool) -> Vec<bool> {
    let Ok(entries) = fs::read_dir(proc) else { return vec![true; logins.len()] };
    let mut found = vec![false; logins.len()];
    for entry in entries {
        let Ok(entry) = entry else { return vec![true; logins.len()] };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let uid = match entry.metadata() {
            Ok(process) => Some(process.uid()),
            Err(error) if is_gone(&error) => continue,
            Err(_) => None,
        };
        let is_of = |login: &Login| uid.is_none_or(|uid| login.uid == uid) && login.first != pid;
        if !logins.iter().any(is_of) || !is_running(pid) {
            continue;
        }
        let mark = mark_of(&entry.path());
        let has_mark = |login: &Login| match &mark {
            Ok(mark) => mark.as_ref().is_some_and(|mark| login.mark.is_shared_by(mark)),
            Err(_) => true,
        };
        for (login, found) in logins.iter().zip(&mut found) {
            *found |= is_of(login) && has_mark(login);
        }
    }
    found
}

/// Whether an error of a file in `/proc` means that there is no such process. Another one can mean that this process has no descriptor left.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The file's text; `None` if there is no such file or process.
fn read(file: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(file) {
        Err(error) if is_gone(&error) => Ok(None),
        text => text.map(Some),
    }
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
    fn a_process_belongs_to_a_login_by_the_scope_or_else_by_the_audit_session() {
        let mark = |audit: Option<u32>, scope: Option<&str>| LoginMark { audit, scope: scope.map(str::to_owned) };
        let login = mark(Some(7), Some("/a"));
        for (other, expected) in [
            (mark(Some(7), None), true),
            (mark(None, Some("/a")), true),
            (mark(Some(8), Some("/a")), true),
            (mark(Some(7), Some("/b")), false),
            (mark(Some(8), Some("/b")), false),
            (mark(None, None), false),
        ] {
            assert_eq!(login.is_shared_by(&other), expected, "{other:?}");
        }
        assert!(!mark(None, None).is_shared_by(&mark(None, None)), "no mark is no login");
    }

    #[test]
    fn only_running_processes_of_the_user_count() {
        let proc = Path::new("/proc");
        let uid = nix::unistd::getuid().as_raw();
        let Some(mark) = mark_of(&proc.join("self")).unwrap() else {
            // No login has begun here: then nothing is found either.
            return assert_eq!(
                running(&[Login { mark: LoginMark::default(), uid, first: 0 }], proc, |_| true),
                [false]
            );
        };
        let login = |uid| Login { mark: mark.clone(), uid, first: 0 };
        assert_eq!(running(&[login(uid), login(uid + 1)], proc, |_| true), [true, false]);
        assert_eq!(running(&[login(uid)], proc, |_| false), [false]);
    }

    #[test]
    fn a_login_lasts_while_its_processes_cannot_be_looked_at() {
        let proc = tempfile::tempdir().unwrap();
        let uid = nix::unistd::getuid().as_raw();
        let mark = LoginMark { audit: Some(7), scope: None };
        let logins = [uid, uid + 1].map(|uid| Login { mark: mark.clone(), uid, first: 0 });
        let process = proc.path().join("4242");
        fs::create_dir(&process).unwrap();
        assert_eq!(running(&logins, proc.path(), |_| true), [false, false], "it has no mark");
        fs::write(process.join("sessionid"), "8").unwrap();
        assert_eq!(running(&logins, proc.path(), |_| true), [false, false], "of another login");
        fs::remove_file(process.join("sessionid")).unwrap();
        // A directory is one of the files that cannot be read.
        fs::create_dir(process.join("sessionid")).unwrap();
        assert_eq!(running(&logins, proc.path(), |_| true), [true, false]);
        assert_eq!(running(&logins, &proc.path().join("4242/sessionid/x"), |_| true), [true, true]);
    }
}
