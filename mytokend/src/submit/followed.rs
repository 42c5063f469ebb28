// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells the agent of this host about a submission.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mytoken::Deadline;
use mytoken::server::Granted;
use mytoken_wire::Handle;
use mytoken_wire::agent::{AgentError, Submitted, ask};
use mytoken_wire::clock::uptime;
use mytoken_wire::paths::AGENT_SOCKET_NAME;

use crate::jobs::profile::ProfileSettings;

/// When a credential was made by its server's clock, and for how long further submissions may use it.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub made: u64,
    pub shared_for: u64,
    /// Process id of the command that submits.
    pub command: Option<u32>,
}

/// Longest wait for the agent of this host.
const AGENT_TIME: Duration = Duration::from_millis(500);

/// The same when nobody waits for the answer.
const LATE_AGENT_TIME: Duration = Duration::from_secs(5);

/// The pause before the first late attempt.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause between two of them.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// After this time no further one is made: longer than an upgrade of the agent or a restart that fails takes.
const LATEST: Duration = Duration::from_secs(300);

/// What the agent of this host is told about a new sub-token. `None`: it has no expiry, and nobody will use it.
pub(super) fn message(
    profile: &ProfileSettings,
    granted: &Granted,
    handle: &Handle,
    window: Window,
) -> Option<Submitted> {
    Some(Submitted {
        handle: handle.to_string(),
        server: profile.server.clone(),
        sub_token: granted.mytoken.clone(),
        exp: granted.expires_at?,
        made: window.made,
        shared_for: window.shared_for,
        age: 0,
        command: window.command,
        profile: profile.name.clone(),
        job: None,
        settled: false,
    })
}

/// The agent of this host, which is asked to follow a credential: it revokes the sub-token if no job ever starts with it, if no node does, or
/// after the running job for which it is. Without an agent, the sub-token of a submission whose job never starts ends by its expiry.
pub struct Follower {
    socket: PathBuf,
    about: Option<Submitted>,
    /// When the sub-token was made, in seconds since boot.
    made: u64,
}

impl Follower {
    pub(super) fn new(runtime_dir: &Path, about: Option<Submitted>) -> Self {
        Self { socket: runtime_dir.join(AGENT_SOCKET_NAME), about, made: uptime() }
    }

    /// Asks it before the job is submitted. Returns whether the agent follows the submission.
    pub(super) fn begin(&self, deadline: Deadline) -> bool {
        self.about.as_ref().is_some_and(|about| ask(&self.socket, about, deadline.at_most(AGENT_TIME)).is_ok())
    }

    /// Asks it. `settled`: the agents of the job's nodes revoke the sub-token, or it is revoked. Returns whether the agent has answered.
    pub fn tell(&self, settled: bool) -> bool {
        let message = self.about.clone().map(|about| Submitted { settled, ..about });
        message.is_some_and(|message| ask(&self.socket, &message, Deadline::after(AGENT_TIME)).is_ok())
    }

    /// Asks it for some minutes until it follows the submission: it may have been restarting, or have had no room. Where no agent has run
    /// since the boot, it is asked once.
    ///
    /// # Errors
    /// The last error.
    pub fn begin_later(&self) -> Result<(), AgentError> {
        let Some(about) = &self.about else { return Ok(()) };
        let attempt = || {
            let late = Submitted { age: uptime().saturating_sub(self.made), ..about.clone() };
            ask(&self.socket, &late, Deadline::after(LATE_AGENT_TIME)).map(drop)
        };
        if self.socket.parent().is_some_and(Path::is_dir) { repeat(attempt, std::thread::sleep) } else { attempt() }
    }
}

/// Pauses before each attempt until one succeeds, or [`LATEST`] is over.
fn repeat(attempt: impl Fn() -> Result<(), AgentError>, mut sleep: impl FnMut(Duration)) -> Result<(), AgentError> {
    let (mut pause, mut waited) = (FIRST_PAUSE, Duration::ZERO);
    loop {
        sleep(pause);
        waited += pause;
        match attempt() {
            Err(_) if waited < LATEST => pause = (pause * 2).min(LONGEST_PAUSE),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// The result of attempts of which so many fail, and the pauses before them in seconds.
    fn play(failures: usize) -> (Result<(), AgentError>, Vec<u64>) {
        let pauses = RefCell::new(Vec::new());
        let away = || AgentError::Unreachable { reason: "no agent".to_owned() };
        let attempt = || if pauses.borrow().len() <= failures { Err(away()) } else { Ok(()) };
        let result = repeat(attempt, |pause| pauses.borrow_mut().push(pause.as_secs()));
        (result, pauses.into_inner())
    }

    #[test]
    fn an_agent_that_is_away_is_asked_for_five_minutes() {
        assert_eq!(play(0), (Ok(()), vec![1]));
        assert_eq!(play(3), (Ok(()), vec![1, 2, 4, 8]));
        let (result, pauses) = play(1_000);
        assert!(result.is_err());
        assert_eq!(pauses[..6], [1, 2, 4, 8, 16, 30]);
        assert!((300..330).contains(&pauses.iter().sum::<u64>()), "{pauses:?}");
    }

    #[test]
    fn where_no_agent_has_run_it_is_asked_once() {
        let dir = tempfile::tempdir().unwrap();
        let about = r#"{"handle":"0","server":"main","sub_token":"a.b.c","exp":2,"made":1,"profile":"default"}"#;
        let follower = Follower::new(&dir.path().join("none"), serde_json::from_str(about).ok());
        let begin = uptime();
        assert!(follower.begin_later().is_err() && uptime() - begin < 60);
    }
}
