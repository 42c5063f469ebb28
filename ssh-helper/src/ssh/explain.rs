// SPDX-License-Identifier: MIT OR Apache-2.0
//! One sentence about a login that failed.

use std::time::{Duration, Instant};

use super::arguments::Program;
use crate::askpass::prompt::Account;

/// A login ends within sshd's `LoginGraceTime`; what ends later was a session.
const LOGIN_TIME: Duration = Duration::from_secs(120);

/// What is known when the program has ended.
pub struct End<'a> {
    /// Which program.
    pub program: Program,
    /// Its exit status.
    pub status: u8,
    /// Accounts with the time of the last answer.
    pub given: Vec<(&'a Account, Option<Instant>)>,
    /// The person was told already why there was no token.
    pub told: bool,
    /// Now.
    pub now: Instant,
}

impl End<'_> {
    /// Whether the connection failed, as opposed to the command that ran over it. ssh says 255 for both its own failures and a remote
    /// command's 255.
    pub fn connection_failed(&self) -> bool {
        self.status == 255 || (self.program == Program::Scp && self.status == 1)
    }

    /// What the person should know beyond what ssh said.
    pub fn sentence(&self) -> Option<String> {
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
            End { program, status, given: vec![(&account, given)], told, now }.sentence()
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
}
