// SPDX-License-Identifier: MIT OR Apache-2.0
//! After the program has ended: whether the login failed, whether its tokens are revoked, and which message the user
//! gets.

use std::time::{Duration, Instant};

use super::arguments::Program;
use super::foreground::ProgramExit;
use crate::askpass::prompt::RemoteAccount;

/// Longest duration of a login: sshd's default `LoginGraceTime` (SSH-10). If the program runs longer after the token
/// was sent, there was a session.
const MAX_LOGIN_TIME: Duration = Duration::from_secs(120);

/// What is known when the program has ended.
pub struct RunOutcome<'a> {
    /// Which program.
    pub program: Program,
    /// How it ended.
    pub exit: ProgramExit,
    /// ssh reported that it authenticated.
    pub authenticated: bool,
    /// The accounts, each with the time of the last answer to its host.
    pub last_answers: Vec<(&'a RemoteAccount, Option<Instant>)>,
    /// The user has already seen why there was no token.
    pub reason_shown: bool,
    /// The user asked for a mytoken for the session (`--delegate`).
    pub delegated: bool,
    /// The current time.
    pub now: Instant,
}

impl RunOutcome<'_> {
    /// Whether the connection failed. Otherwise the status is that of the remote command.
    fn connection_failed(&self) -> bool {
        !self.authenticated && (self.exit.status == 255 || (self.program == Program::Scp && self.exit.status == 1))
    }

    /// Whether ssh may have failed to authenticate: it did not report success, and its exit status does not show a session.
    /// A missing report proves nothing, because ssh sends it through the user's shell.
    fn may_have_failed(&self) -> bool {
        !self.authenticated && (self.exit.status == 255 || self.exit.by_signal)
    }

    /// Whether the program ran longer after an answer than a login takes.
    fn lasted_longer_than_login(&self) -> bool {
        let is_old = |answer: &Instant| self.now.duration_since(*answer) >= MAX_LOGIN_TIME;
        self.last_answers.iter().any(|(_, answer)| answer.as_ref().is_some_and(is_old))
    }

    /// Whether the tokens of this run are revoked: the login was refused or interrupted, or the copy has ended.
    pub fn must_revoke(&self) -> bool {
        match self.program {
            Program::Ssh => self.may_have_failed() && !self.lasted_longer_than_login(),
            // scp and sftp do not report whether they authenticated. They leave no session that needs a mytoken. A
            // token without delegation expires within minutes.
            Program::Scp | Program::Sftp => self.exit.status != 0 || self.delegated,
        }
    }

    /// A message for the user, in addition to ssh's own messages.
    pub fn message(&self) -> Option<String> {
        if self.program == Program::Ssh && self.delegated && self.may_have_failed() && self.lasted_longer_than_login() {
            return Some(
                "the mytoken for the session was not revoked; if the login failed, revoke it with: mytoken-ssh logout"
                    .to_owned(),
            );
        }
        if !self.connection_failed() || self.reason_shown {
            return None;
        }
        let is_recent = |answer: &Instant| self.now.duration_since(*answer) < MAX_LOGIN_TIME;
        let answered = |answer: &Option<Instant>| answer.as_ref().is_some_and(is_recent);
        if let Some((account, _)) = self.last_answers.iter().find(|(_, answer)| answered(answer)) {
            return Some(format!(
                "{}: the token was sent; if the host refused the login as {}, the reason is above or in the host's log",
                account.host, account.user
            ));
        }
        let (account, _) = self.last_answers.iter().find(|(_, answer)| answer.is_none())?;
        Some(format!(
            "{}: the host did not ask for a token (host unreachable, host key unknown, or no login with tokens)",
            account.host
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ssh that ended with `status` before it reported anything.
    fn ended(program: Program, status: u8) -> RunOutcome<'static> {
        let exit = ProgramExit { status, by_signal: status > 128 && status < 255 };
        RunOutcome {
            program,
            exit,
            authenticated: false,
            last_answers: Vec::new(),
            reason_shown: false,
            delegated: false,
            now: Instant::now(),
        }
    }

    fn account() -> RemoteAccount {
        RemoteAccount { user: "alice".into(), host: "testbed".into() }
    }

    #[test]
    fn a_failed_login_is_explained_once() {
        let account = account();
        let now = Instant::now();
        let message = |program, status, answer: Option<Instant>, reason_shown| {
            RunOutcome { last_answers: vec![(&account, answer)], reason_shown, now, ..ended(program, status) }.message()
        };
        assert!(message(Program::Ssh, 255, Some(now), false).unwrap().contains("the token was sent"));
        assert!(message(Program::Ssh, 255, None, false).unwrap().contains("did not ask for a token"));
        assert!(message(Program::Scp, 1, None, false).is_some());
        assert_eq!(message(Program::Ssh, 1, None, false), None);
        assert_eq!(message(Program::Ssh, 0, Some(now), false), None);
        assert_eq!(message(Program::Ssh, 255, Some(now), true), None);
        if let Some(old) = now.checked_sub(MAX_LOGIN_TIME * 2) {
            assert_eq!(message(Program::Ssh, 255, Some(old), false), None);
        }
    }

    #[test]
    fn the_mytoken_of_a_session_is_never_revoked() {
        for status in [0, 1, 255, 130, 143] {
            let session = RunOutcome { authenticated: true, delegated: true, ..ended(Program::Ssh, status) };
            assert!(!session.must_revoke(), "{status}");
        }
        // The status of a remote command. Only a session runs one.
        for status in [0, 1, 127] {
            assert!(!RunOutcome { delegated: true, ..ended(Program::Ssh, status) }.must_revoke(), "{status}");
        }
        let remote_signal = ProgramExit { status: 130, by_signal: false };
        assert!(!RunOutcome { delegated: true, exit: remote_signal, ..ended(Program::Ssh, 0) }.must_revoke());
    }

    #[test]
    fn the_token_of_a_refused_or_interrupted_login_is_revoked() {
        for status in [255, 130] {
            assert!(RunOutcome { delegated: true, ..ended(Program::Ssh, status) }.must_revoke(), "{status}");
        }
        assert!(ended(Program::Sftp, 255).must_revoke() && !ended(Program::Scp, 0).must_revoke());
    }

    #[test]
    fn a_run_longer_than_a_login_was_a_session_even_without_a_report() {
        let account = account();
        let answer = Instant::now();
        let after = |seconds| RunOutcome {
            last_answers: vec![(&account, Some(answer))],
            delegated: true,
            now: answer + Duration::from_secs(seconds),
            ..ended(Program::Ssh, 255)
        };
        assert!(after(119).must_revoke() && !after(120).must_revoke());
        assert!(after(120).message().is_some_and(|message| message.contains("if the login failed")));
    }

    #[test]
    fn a_delegated_mytoken_is_revoked_after_a_copy() {
        for program in [Program::Scp, Program::Sftp] {
            let copy = RunOutcome { delegated: true, ..ended(program, 0) };
            assert!(copy.must_revoke() && copy.message().is_none());
        }
    }
}
