// SPDX-License-Identifier: GPL-3.0-or-later
//! The application that loaded the module, as far as it tells: items, environment, log. Everything is copied at once, for the
//! originals may be replaced by any later call.

use std::ffi::CStr;

use mytoken_login::Level;
use mytoken_login::handover::VARIABLE;
use pamsm::{LogLvl, Pam, PamFlags, PamLibExt, PamResult};

use crate::arguments::Arguments;

/// Name of the module data that `open_session` leaves for `close_session`.
const SESSION: &str = "pam_mytoken_session";

/// The host of one call.
pub struct Host<'a> {
    /// PAM's handle.
    pub pam: &'a Pam,
    /// Whether nothing may be said to the person.
    pub silent: bool,
    /// The module's arguments.
    pub arguments: Arguments,
}

impl<'a> Host<'a> {
    /// The host of this call.
    pub fn new(pam: &'a Pam, flags: PamFlags, arguments: Arguments) -> Self {
        Self { pam, silent: flags.contains(PamFlags::SILENT), arguments }
    }

    /// PAM's user; the application may ask for it.
    pub fn user(&self) -> Option<String> {
        owned(self.pam.get_user(None))
    }

    /// PAM's service.
    pub fn service(&self) -> String {
        owned(self.pam.get_service()).unwrap_or_default()
    }

    /// Where the person comes from.
    pub fn rhost(&self) -> Option<String> {
        owned(self.pam.get_rhost()).filter(|rhost| !rhost.is_empty())
    }

    /// `SSH_CONNECTION`, which sshd puts into the PAM environment in every phase (SSH-07): client address and port, server address and port.
    pub fn connection(&self) -> Option<String> {
        owned(self.pam.getenv("SSH_CONNECTION")).filter(|connection| !connection.is_empty())
    }

    /// The handle that `authenticate` left for later phases.
    pub fn handle(&self) -> Option<String> {
        owned(self.pam.getenv(VARIABLE)).filter(|handle| !handle.is_empty())
    }

    /// Takes the handle out of the environment, so that no session and no log sees it.
    pub fn forget_handle(&self) {
        if self.handle().is_some() {
            let _ = self.pam.putenv(VARIABLE);
        }
    }

    /// Sets a variable of the session's environment.
    pub fn export(&self, name: &str, value: &str) -> bool {
        self.pam.putenv(&format!("{name}={value}")).is_ok()
    }

    /// Remembers the session for [`Self::session`], in this process.
    pub fn remember_session(&self, session: &str) -> bool {
        self.pam.send_bytes(SESSION, session.as_bytes().to_vec(), None).is_ok()
    }

    /// The session that this process opened.
    pub fn session(&self) -> Option<String> {
        self.pam.retrieve_bytes(SESSION).ok().and_then(|bytes| String::from_utf8(bytes).ok())
    }

    /// Logs one line, `pam_mytoken(sshd:auth): ...`, to the authentication log.
    pub fn log(&self, level: Level, line: &str) {
        let level = match level {
            Level::Critical => LogLvl::CRIT,
            Level::Error => LogLvl::ERR,
            Level::Warning => LogLvl::WARNING,
            Level::Notice => LogLvl::NOTICE,
            Level::Info => LogLvl::INFO,
            Level::Debug if self.arguments.debug => LogLvl::DEBUG,
            Level::Debug => return,
        };
        let _ = self.pam.syslog(level, line);
    }
}

fn owned(item: PamResult<Option<&CStr>>) -> Option<String> {
    item.ok().flatten().and_then(|text| text.to_str().ok()).map(str::to_owned)
}
