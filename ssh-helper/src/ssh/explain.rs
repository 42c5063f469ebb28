// SPDX-License-Identifier: MIT OR Apache-2.0
//! One sentence about a login that failed.

use std::time::{Duration, Instant};

use super::arguments::Program;
use super::run::Ended;
use crate::askpass::prompt::Account;

/// A login ends within sshd's `LoginGraceTime`; what ends later was a session.
const LOGIN_TIME: Duration = Duration::from_secs(120);

/// What is known when the program has ended.
pub struct End<'a> {
    /// Which program.
    pub program: Program,
    /// Its end.
    pub ended: Ended,
    /// ssh said that it was let in.
    pub entered: bool,
    /// Accounts with the time of the last answer.
    pub given: Vec<(&'a Account, Option<Instant>)>,
    /// The person was told already why there was no token.
    pub told: bool,
    /// A mytoken was to be left in the session.
    pub delegated: bool,
    /// Now.
    pub now: Instant,
}

impl End<'_> {
    /// Whether the connection failed, as opposed to the command that ran over it.
    fn connection_failed(&self) -> bool {
        !self.entered && (self.ended.status == 255 || (self.program == Program::Scp && self.ended.status == 1))
    }

    /// ssh did not say that it was let in, and its end does not tell either. It says so by the person's shell, which may be missing.
    fn ended_untold(&self) -> bool {
        !self.entered && (self.ended.status == 255 || self.ended.by_signal)
    }

    /// Whether it went on for longer than a login can after an answer.
    fn lasted(&self) -> bool {
        let long_ago = |given: &Instant| self.now.duration_since(*given) >= LOGIN_TIME;
        self.given.iter().any(|(_, given)| given.as_ref().is_some_and(long_ago))
    }

    /// Whether nobody needs any more what was made for the login: it was refused or broken off, or the copying is over.
    pub fn login_is_over(&self) -> bool {
        match self.program {
            Program::Ssh => self.ended_untold() && !self.lasted(),
            // These do not tell whether they were let in. They leave no session in which somebody could use a mytoken; without
            // delegation it ends in minutes.
            Program::Scp | Program::Sftp => self.ended.status != 0 || self.delegated,
        }
    }

    /// What the person should know beyond what ssh said.
    pub fn sentence(&self) -> Option<String> {
        if self.program == Program::Ssh && self.delegated && self.ended_untold() && self.lasted() {
            return Some(
                "the mytoken that was made for the session is left; if you were not let in, end it: mytoken-ssh logout"
                    .to_owned(),
            );
        }
        if !self.connection_failed() || self.told {
            return None;
        }
        let recent = |given: &Instant| self.now.duration_since(*given) < LOGIN_TIME;
        if let Some((account, _)) = self.given.iter().find(|(_, given)| given.as_ref().is_some_and(recent)) {
            return Some(format!(
                "{}: a token was handed over; if the login as {} was refused, the reason is above, or in the server's log",
                account.host, account.user
            ));
        }
        let (account, _) = self.given.iter().find(|(_, given)| given.is_none())?;
        Some(format!(
            "{}: no token was asked for (not reachable, host key not known, or no login with tokens)",
            account.host
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_login_is_explained_once() {
        let account = Account { user: "alice".into(), host: "testbed".into() };
        let now = Instant::now();
        let sentence = |program, status, given: Option<Instant>, told| {
            let ended = Ended { status, by_signal: false };
            End { program, ended, entered: false, given: vec![(&account, given)], told, delegated: false, now }
                .sentence()
        };
        assert!(sentence(Program::Ssh, 255, Some(now), false).unwrap().contains("handed over"));
        assert!(sentence(Program::Ssh, 255, None, false).unwrap().contains("no token was asked for"));
        assert!(sentence(Program::Scp, 1, None, false).is_some());
        assert_eq!(sentence(Program::Ssh, 1, None, false), None);
        assert_eq!(sentence(Program::Ssh, 0, Some(now), false), None);
        assert_eq!(sentence(Program::Ssh, 255, Some(now), true), None);
        if let Some(old) = now.checked_sub(LOGIN_TIME * 2) {
            assert_eq!(sentence(Program::Ssh, 255, Some(old), false), None);
        }
    }

    #[test]
    fn what_a_session_was_given_is_never_taken_back() {
        let over = |program, status, by_signal, entered| {
            let ended = Ended { status, by_signal };
            let delegated = program == Program::Ssh;
            End { program, ended, entered, given: Vec::new(), told: false, delegated, now: Instant::now() }
                .login_is_over()
        };
        for (status, by_signal) in [(0, false), (1, false), (255, false), (130, true), (143, true)] {
            assert!(!over(Program::Ssh, status, by_signal, true), "{status}");
        }
        assert!(over(Program::Ssh, 255, false, false) && over(Program::Ssh, 130, true, false));
        // Nobody told of the entry, as where $SHELL is missing; but no login takes that long.
        let account = Account { user: "alice".into(), host: "testbed".into() };
        let given = Instant::now();
        let after = |seconds| {
            let now = given + Duration::from_secs(seconds);
            let ended = Ended { status: 255, by_signal: false };
            let given = vec![(&account, Some(given))];
            End { program: Program::Ssh, ended, entered: false, given, told: false, delegated: true, now }
        };
        assert!(after(119).login_is_over() && !after(120).login_is_over());
        assert!(after(120).sentence().is_some_and(|sentence| sentence.contains("if you were not let in")));
        // The status of a remote command, which nobody runs who was not let in.
        assert!(!over(Program::Ssh, 130, false, false) && !over(Program::Ssh, 0, false, false));
        assert!(over(Program::Sftp, 255, false, false) && !over(Program::Scp, 0, false, false));
    }

    #[test]
    fn copying_leaves_no_mytoken_to_anybody() {
        for program in [Program::Scp, Program::Sftp] {
            let ended = Ended { status: 0, by_signal: false };
            let end = End {
                program,
                ended,
                entered: false,
                given: Vec::new(),
                told: false,
                delegated: true,
                now: Instant::now(),
            };
            assert!(end.login_is_over() && end.sentence().is_none());
        }
    }
}
