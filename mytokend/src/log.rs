// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system log, facility `daemon`; standard error when there is no system log, as in a container.
//!
//! Only sentences of errors and events are logged. They contain no secrets.

mod background;
mod limits;

use std::io::{ErrorKind, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use background::LogWriter;
use background::Waiting;
use limits::{LeftOut, LineLimits};
pub use mytoken_login::Level;
use mytoken_wire::printable;
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

/// The socket of the system log.
const SOCKET: &str = "/dev/log";

/// Longest wait for a system log that accepts no line: jobs wait for their tokens in the meantime.
const WAIT: Duration = Duration::from_millis(50);

type SystemLog = Logger<LoggerBackend, Formatter3164>;

/// The log of a program.
pub struct Log {
    sink: Arc<Sink>,
    waiting: Waiting,
    opened: Instant,
    limits: Mutex<LineLimits>,
}

/// Where the lines go.
struct Sink {
    process: &'static str,
    socket: Option<PathBuf>,
    system: Mutex<Option<SystemLog>>,
}

impl Log {
    /// The log of the program called `process`.
    #[must_use]
    pub fn open(process: &'static str) -> Self {
        Self::open_at(process, Path::new(SOCKET))
    }

    /// The same with the system log at `socket`.
    #[must_use]
    pub fn open_at(process: &'static str, socket: &Path) -> Self {
        Self::to(Sink { process, socket: Some(socket.to_owned()), system: Mutex::new(connect(process, socket)) })
    }

    /// A log to standard error.
    #[must_use]
    pub fn stderr(process: &'static str) -> Self {
        Self::to(Sink { process, socket: None, system: Mutex::new(None) })
    }

    /// The same that limits lines about root as those about others: other hosts say whom they are about.
    #[must_use]
    pub fn limiting_root(self) -> Self {
        self.limits().limits_root = true;
        self
    }

    fn to(sink: Sink) -> Self {
        let (sink, opened) = (Arc::new(sink), Instant::now());
        Self { sink, waiting: Waiting::default(), opened, limits: Mutex::default() }
    }

    /// Writes one line about what user `uid` does, unless there were too many about this user within a minute. The number of lines that
    /// were left out is logged after that minute.
    pub fn line_of(&self, uid: u32, level: Level, text: &str) {
        self.line_of_at(self.opened.elapsed(), uid, level, text);
    }

    /// Writes how many lines were left out in the minutes that are over. Every line does the same; this is for a quiet log.
    pub fn tell_left_out(&self) {
        self.tell_left_out_at(self.opened.elapsed());
    }

    fn line_of_at(&self, elapsed: Duration, uid: u32, level: Level, text: &str) {
        self.tell_left_out_at(elapsed);
        let problem = !matches!(level, Level::Notice | Level::Info | Level::Debug);
        if self.limits().admit(uid, problem, elapsed) {
            self.write(level, text);
        }
    }

    fn tell_left_out_at(&self, elapsed: Duration) {
        // Not in the condition of the loop: the lock would be held while the system log is written to.
        let ended = self.limits().take_ended(elapsed);
        for LeftOut { uid, lines } in ended {
            let whom = uid.map_or_else(|| "other users".to_owned(), |uid| format!("user {uid}"));
            let most = limits::LINES;
            self.write(
                Level::Warning,
                &format!("{lines} lines about {whom} were left out; the log takes {most} of a kind in a minute"),
            );
        }
    }

    fn limits(&self) -> MutexGuard<'_, LineLimits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one line. Characters that are not printable become `?`, so that a text cannot forge a second line. For a line that users can
    /// cause as often as they want there is [`Self::line_of`].
    pub fn line(&self, level: Level, text: &str) {
        self.tell_left_out();
        self.write(level, text);
    }

    fn write(&self, level: Level, text: &str) {
        let text = printable(text, usize::MAX);
        if let Some(text) = self.waiting.take_in(level, text) {
            self.sink.write(level, &text);
        }
    }
}

impl Sink {
    fn write(&self, level: Level, text: &str) {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = send(system.as_mut(), level, text);
        if sent == Sent::NoListener {
            // A restarted system log has a new socket.
            *system = self.socket.as_ref().and_then(|socket| connect(self.process, socket));
            sent = send(system.as_mut(), level, text);
        }
        if sent != Sent::Delivered {
            // Not eprintln, which panics when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{}: {text}", self.process);
        }
    }
}

fn connect(process: &str, socket: &Path) -> Option<SystemLog> {
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: process.to_owned(),
        pid: std::process::id(),
    };
    // Not `syslog::unix_custom`: it also tries a stream socket, and waits forever for a listener that does not accept.
    let datagrams = UnixDatagram::unbound().ok()?;
    datagrams.set_write_timeout(Some(WAIT)).ok()?;
    datagrams.connect(socket).ok()?;
    Some(Logger::new(LoggerBackend::Unix(datagrams), formatter))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Delivered,
    /// The queue of the system log is full.
    QueueFull,
    NoListener,
}

fn send(system: Option<&mut SystemLog>, level: Level, text: &str) -> Sent {
    let Some(system) = system else { return Sent::NoListener };
    let result = match level {
        Level::Critical => system.crit(text),
        Level::Error => system.err(text),
        Level::Warning => system.warning(text),
        Level::Notice => system.notice(text),
        Level::Info => system.info(text),
        Level::Debug => system.debug(text),
    };
    match result {
        Ok(()) => Sent::Delivered,
        Err(syslog::Error::Write(error)) if error.kind() == ErrorKind::WouldBlock => Sent::QueueFull,
        Err(_) => Sent::NoListener,
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
        log.line(Level::Info, "lost");
        let after = UnixDatagram::bind(&path).unwrap();
        log.line(Level::Warning, "two");
        assert!(received(&after).ends_with(": two"));
    }

    #[test]
    fn lines_about_a_user_are_limited_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        let log = Log::open_at("mytokend", &path);
        let second = Duration::from_secs(1);
        for number in 0..=limits::LINES {
            log.line_of_at(second, 2001, Level::Info, &number.to_string());
            if number < limits::LINES {
                assert!(received(&socket).ends_with(&format!(": {number}")));
            }
        }
        log.line_of_at(second, 2002, Level::Info, "bob");
        assert!(received(&socket).ends_with(": bob"));
        log.tell_left_out_at(second * 61);
        assert!(
            received(&socket)
                .ends_with(": 1 lines about user 2001 were left out; the log takes 300 of a kind in a minute")
        );
        log.line_of_at(second * 61, 2001, Level::Info, "alice");
        assert!(received(&socket).ends_with(": alice"));
    }

    #[test]
    fn a_full_system_log_delays_a_line_for_a_short_time_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let _full = UnixDatagram::bind(&path).unwrap();
        let log = Log::open_at("mytokend", &path);
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            // The queue is full after ten to some hundred lines.
            let waits = (0..100_000).any(|_| {
                let begin = Instant::now();
                log.line(Level::Info, "x");
                begin.elapsed() >= WAIT
            });
            let _ = send.send(waits);
        });
        assert_eq!(receive.recv_timeout(Duration::from_secs(60)), Ok(true));
    }
}
