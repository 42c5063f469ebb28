// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system log, facility daemon; the standard error output where there is none (a container, a testbed).
//!
//! Nobody logs a secret: what is logged are sentences of errors and events, which hold none.

use std::io::{ErrorKind, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Somebody should do something.
    Error,
    /// Worth knowing: a refusal, an outage.
    Warning,
    /// Life goes on.
    Info,
}

/// Where the system log listens for datagrams.
const SOCKET: &str = "/dev/log";

/// Longest wait for a system log that takes nothing: a line is written while jobs wait for their tokens.
const WAIT: Duration = Duration::from_millis(50);

type System = Logger<LoggerBackend, Formatter3164>;

/// Where lines go.
pub struct Log {
    process: &'static str,
    socket: Option<PathBuf>,
    system: Mutex<Option<System>>,
}

impl Log {
    /// The log of the program called `process`.
    #[must_use]
    pub fn open(process: &'static str) -> Self {
        Self::open_at(process, Path::new(SOCKET))
    }

    /// The same with a system log that listens at `socket`.
    #[must_use]
    pub fn open_at(process: &'static str, socket: &Path) -> Self {
        Self { process, socket: Some(socket.to_owned()), system: Mutex::new(connect(process, socket)) }
    }

    /// The standard error output in any case, for a foreground without syslog and for tests.
    #[must_use]
    pub fn stderr(process: &'static str) -> Self {
        Self { process, socket: None, system: Mutex::new(None) }
    }

    /// One line; control characters become `?`, so that nobody forges another.
    pub fn line(&self, level: Level, text: &str) {
        let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = send(system.as_mut(), level, &text);
        if sent == Sent::NobodyThere {
            // A system log that was restarted listens at a new socket.
            *system = self.socket.as_ref().and_then(|socket| connect(self.process, socket));
            sent = send(system.as_mut(), level, &text);
        }
        if sent != Sent::Taken {
            // Not eprintln, which panics when nobody reads any more.
            let _ = writeln!(std::io::stderr(), "{}: {text}", self.process);
        }
    }
}

fn connect(process: &str, socket: &Path) -> Option<System> {
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: process.to_owned(),
        pid: std::process::id(),
    };
    // Not `syslog::unix_custom`, which would also wait, without an end, for a stream socket whose listener accepts nobody.
    let datagrams = UnixDatagram::unbound().ok()?;
    datagrams.set_write_timeout(Some(WAIT)).ok()?;
    datagrams.connect(socket).ok()?;
    Some(Logger::new(LoggerBackend::Unix(datagrams), formatter))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Taken,
    /// It listens, and its queue is full.
    NotTaken,
    NobodyThere,
}

fn send(system: Option<&mut System>, level: Level, text: &str) -> Sent {
    let Some(system) = system else { return Sent::NobodyThere };
    let result = match level {
        Level::Error => system.err(text),
        Level::Warning => system.warning(text),
        Level::Info => system.info(text),
    };
    match result {
        Ok(()) => Sent::Taken,
        Err(syslog::Error::Write(error)) if error.kind() == ErrorKind::WouldBlock => Sent::NotTaken,
        Err(_) => Sent::NobodyThere,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut line = [0; 1024];
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let length = socket.recv(&mut line).unwrap();
        String::from_utf8_lossy(&line[..length]).into_owned()
    }

    #[test]
    fn a_restarted_system_log_gets_the_next_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let before = UnixDatagram::bind(&path).unwrap();
        let log = Log::open_at("mytokend", &path);
        log.line(Level::Info, "one\nline");
        assert!(received(&before).ends_with(&format!("mytokend[{}]: one?line", std::process::id())));
        drop(before);
        std::fs::remove_file(&path).unwrap();
        log.line(Level::Info, "for nobody");
        let after = UnixDatagram::bind(&path).unwrap();
        log.line(Level::Warning, "two");
        assert!(received(&after).ends_with(": two"));
    }

    #[test]
    fn a_system_log_that_takes_nothing_holds_nobody_up_for_long() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let log = Log::open_at("mytokend", &path);
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            // Until the queue is full, which takes ten to some hundred lines.
            let waits = (0..100_000).any(|_| {
                let begin = Instant::now();
                log.line(Level::Info, "x");
                begin.elapsed() >= WAIT
            });
            let _ = tell.send(waits);
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(true));
    }
}
