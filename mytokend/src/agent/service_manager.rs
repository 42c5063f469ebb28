// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the agent tells the service manager (systemd): that it is ready, reloads, stops, and still works (`sd_notify(3)`). Without a
//! service manager nothing is sent.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager that started this process, if one did.
#[derive(Debug, Clone, Copy)]
pub struct ServiceManager {
    /// It restarts the agent when it hears nothing for this time.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names.
    #[must_use]
    pub fn from_environment() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled() }
    }

    /// Longest time between two calls of [`Self::working`]; `None` when no watchdog is set.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 4)
    }

    /// The socket is open and the leases are loaded; also the end of a reload. `status` is shown by `systemctl status`.
    ///
    /// # Errors
    /// As for all of these: the service manager cannot be reached.
    pub fn ready(&self, status: &str) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])
    }

    /// A reload begins.
    ///
    /// # Errors
    /// See [`Self::ready`].
    pub fn reloading(&self) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
    }

    /// The agent ends.
    ///
    /// # Errors
    /// See [`Self::ready`].
    pub fn stopping(&self) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Stopping])
    }

    /// The socket is served. `schedule_overdue` is [`super::Agent::schedule_overdue`]: when the schedule thread hangs, nothing is sent, and
    /// the service manager restarts the agent.
    ///
    /// # Errors
    /// See [`Self::ready`].
    pub fn working(&self, schedule_overdue: Duration) -> io::Result<()> {
        match self.watchdog {
            Some(limit) if schedule_overdue < limit / 2 => sd_notify::notify(&[NotifyState::Watchdog]),
            _ => Ok(()),
        }
    }
}

/// Whether the service manager hears the agent. The watchdog is called at each turn of the listener, so a failure is told once, and
/// again only after a success.
#[derive(Debug, Default)]
pub struct NotificationFailures {
    failing: bool,
}

impl NotificationFailures {
    /// The log line about this attempt, if there is something new to say.
    pub fn line(&mut self, sent: io::Result<()>) -> Option<String> {
        let failed_before = self.failing;
        self.failing = sent.is_err();
        match sent {
            Err(error) if !failed_before => Some(format!("cannot notify the service manager: {error}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_manager_that_does_not_hear_is_told_once() {
        let mut failures = NotificationFailures::default();
        let mut line = |sent: Result<(), io::ErrorKind>| failures.line(sent.map_err(Into::into));
        let failed = Err(io::ErrorKind::ConnectionRefused);
        assert_eq!(line(Ok(())), None);
        assert!(line(failed).unwrap().starts_with("cannot notify the service manager: "));
        assert_eq!((line(failed), line(failed)), (None, None));
        assert_eq!(line(Ok(())), None);
        assert!(line(failed).is_some());
    }
}
