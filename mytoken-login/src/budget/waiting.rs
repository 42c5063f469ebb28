// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins that wait long for a server. sshd ends a login when `LoginGraceTime` is over, without any clean-up (SSH-10); what such a login
//! met must be known to the next one. Pure: times are seconds since boot and come as parameters.

use mytoken::Process;
use serde::{Deserialize, Serialize};

use super::backoff::{Backoff, BackoffReason};
use crate::remote::Remote;

/// Maximum number of logins that are kept. Each has cost a request, so the budget bounds them already.
const LOGINS_LIMIT: usize = 256;

/// How long a login is kept, in seconds; sshd's default `LoginGraceTime` is 120 (SSH-10).
const AGE_LIMIT: u64 = 600;

/// A login that has waited for [`mytoken::long_wait::LONG_WAIT`] and has no answer yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitingLogin {
    /// Since when this is known.
    pub at: u64,
    /// The mytoken server's URL.
    pub server: String,
    /// The provider of the mytoken in the request.
    pub provider: Option<String>,
    /// Where the login comes from.
    pub remote: Remote,
    /// Its process.
    pub process: Process,
}

/// The logins that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaitingLogins(Vec<WaitingLogin>);

impl WaitingLogin {
    /// The backoff if this login was ended while it waited. It refuses requests from the same address only: the token may have been the
    /// cause, and its sender may have chosen the time at which sshd ends the login. That is so for a provider that is certain, too: it may
    /// have been about to answer.
    #[must_use]
    pub fn backoff(&self, until: u64) -> Backoff {
        Backoff {
            reason: BackoffReason::Silent,
            server: self.server.clone(),
            provider: self.provider.clone(),
            remote: Some(self.remote.to_string()),
            until,
        }
    }
}

impl WaitingLogins {
    /// Adds a login. A process waits for one request at a time.
    pub fn add(&mut self, login: WaitingLogin) {
        self.remove(login.process);
        if self.0.len() < LOGINS_LIMIT {
            self.0.push(login);
        }
    }

    /// The login of `process` waits no longer.
    pub fn remove(&mut self, process: Process) {
        self.0.retain(|login| login.process != process);
    }

    /// Whether a login that waited for `server` was ended.
    pub fn has_ended(&self, server: &str, is_running: &dyn Fn(&Process) -> bool) -> bool {
        self.0.iter().any(|login| login.server == server && !is_running(&login.process))
    }

    /// Removes the logins that were ended while they waited for `server`, and returns them.
    pub fn take_ended(&mut self, server: &str, is_running: &dyn Fn(&Process) -> bool) -> Vec<WaitingLogin> {
        let ended = |login: &WaitingLogin| login.server == server && !is_running(&login.process);
        let (ended, waiting) = std::mem::take(&mut self.0).into_iter().partition(ended);
        self.0 = waiting;
        ended
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

#[cfg(test)]
mod tests {
    use super::*;

    fn login(pid: u32, server: &str, provider: Option<&str>) -> WaitingLogin {
        WaitingLogin {
            at: 100,
            server: server.to_owned(),
            provider: provider.map(str::to_owned),
            remote: Remote::of(None, Some("192.0.2.1")),
            process: Process { pid, start: 7 },
        }
    }

    #[test]
    fn only_a_login_that_has_ended_is_taken_and_once() {
        let mut logins = WaitingLogins::default();
        for (pid, server) in [(1, "https://mt"), (2, "https://mt"), (2, "https://mt"), (3, "https://else")] {
            logins.add(login(pid, server, None));
        }
        assert!(!logins.has_ended("https://mt", &|_| true));
        assert!(logins.has_ended("https://mt", &|process| process.pid != 2));
        assert_eq!(logins.take_ended("https://mt", &|process| process.pid != 2), [login(2, "https://mt", None)]);
        assert_eq!(logins.take_ended("https://mt", &|process| process.pid != 2), []);
        logins.remove(Process { pid: 1, start: 8 });
        assert!(logins.has_ended("https://mt", &|_| false), "another process with the same id");
        logins.remove(Process { pid: 1, start: 7 });
        assert!(!logins.has_ended("https://mt", &|_| false), "it has its answer");
        logins.drop_expired(699);
        assert!(logins.has_ended("https://else", &|_| false));
        logins.drop_expired(700);
        assert!(logins.is_empty());
        logins.add(login(1, "https://mt", None));
        logins.drop_expired(99);
        assert!(logins.is_empty(), "an earlier boot");
        for pid in 0..1_000 {
            logins.add(login(pid, "https://mt", None));
        }
        assert_eq!(logins.0.len(), LOGINS_LIMIT);
    }

    #[test]
    fn only_the_address_of_the_ended_login_is_paused() {
        for provider in [None, Some("https://op")] {
            let backoff = login(1, "https://mt", provider).backoff(115);
            assert_eq!(backoff.remote, Some("192.0.2.1".to_owned()), "{provider:?}");
            assert_eq!((backoff.provider.as_deref(), backoff.until), (provider, 115));
        }
    }
}
