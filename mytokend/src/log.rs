// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system log, facility daemon; the standard error output where there is none (a container, a testbed).
//!
//! Nobody logs a secret: what is logged are sentences of errors and events, which hold none.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

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

/// Where lines go.
pub struct Log {
    process: &'static str,
    system: Mutex<Option<Logger<LoggerBackend, Formatter3164>>>,
}

impl Log {
    /// The log of the program called `process`.
    #[must_use]
    pub fn open(process: &'static str) -> Self {
        let formatter = Formatter3164 {
            facility: Facility::LOG_DAEMON,
            hostname: None,
            process: process.to_owned(),
            pid: std::process::id(),
        };
        Self { process, system: Mutex::new(syslog::unix(formatter).ok()) }
    }

    /// The standard error output in any case, for a foreground without syslog and for tests.
    #[must_use]
    pub fn stderr(process: &'static str) -> Self {
        Self { process, system: Mutex::new(None) }
    }

    /// One line; control characters become `?`, so that nobody forges another.
    pub fn line(&self, level: Level, text: &str) {
        let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        let written = system.as_mut().map(|logger| match level {
            Level::Error => logger.err(&text),
            Level::Warning => logger.warning(&text),
            Level::Info => logger.info(&text),
        });
        if !matches!(written, Some(Ok(()))) {
            // Not eprintln, which panics when nobody reads any more.
            let _ = writeln!(std::io::stderr(), "{}: {text}", self.process);
        }
    }
}
