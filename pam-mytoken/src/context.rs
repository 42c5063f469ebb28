// SPDX-License-Identifier: GPL-3.0-or-later
//! One call of the module: PAM's items, the PAM environment, the log. Values are copied at once, because any later call can replace the
//! originals.

use std::ffi::CStr;

use mytoken_login::handover::VARIABLE;
use mytoken_login::{Attempt, Level, LoginResources, ModuleArguments, failure_line};
use pamsm::{LogLvl, Pam, PamFlags, PamLibExt, PamResult};

use crate::ffi;

/// Name of the module data that `open_session` stores for `close_session`.
const SESSION: &str = "pam_mytoken_session";

/// Name of the module data that `authenticate` stores for the account phase if there is no record.
const ACCEPTED: &str = "pam_mytoken_accepted";

/// One call of the module by an application.
pub struct PamContext<'a> {
    /// PAM's handle.
    pub pam: &'a Pam,
    /// Whether the user must not see messages (`PAM_SILENT`).
    pub silent: bool,
    /// The module's arguments.
    pub arguments: ModuleArguments,
}

impl<'a> PamContext<'a> {
    /// The context of this call.
    pub fn new(pam: &'a Pam, flags: PamFlags, arguments: ModuleArguments) -> Self {
        Self { pam, silent: flags.contains(PamFlags::SILENT), arguments }
    }

    /// PAM's user. The application may ask the user for it.
    pub fn user(&self) -> Option<String> {
        owned(self.pam.get_user(None))
    }

    /// PAM's service.
    pub fn service(&self) -> String {
        owned(self.pam.get_service()).unwrap_or_default()
    }

    /// PAM's remote host.
    pub fn rhost(&self) -> Option<String> {
        owned(self.pam.get_rhost()).filter(|rhost| !rhost.is_empty())
    }

    /// Logs a refusal in the form of `pam_unix`, for scanners. At its level, too: notice.
    pub fn log_failure(&self, attempt: &Attempt) {
        let users = (nix::unistd::getuid().as_raw(), nix::unistd::geteuid().as_raw());
        let ruser = owned(self.pam.get_ruser());
        self.log(Level::Notice, &failure_line(attempt, users, ffi::terminal(self.pam).as_deref(), ruser.as_deref()));
    }

    /// `SSH_CONNECTION` of the PAM environment: client address and port, server address and port. sshd sets it in every phase (SSH-07).
    pub fn ssh_connection(&self) -> Option<String> {
        owned(self.pam.getenv("SSH_CONNECTION")).filter(|connection| !connection.is_empty())
    }

    /// The state that this host keeps between logins.
    pub fn resources(&self) -> LoginResources {
        LoginResources::of_pam(self.ssh_connection().as_deref(), self.rhost().as_deref())
    }

    /// The handle that `authenticate` stored for later phases.
    pub fn handle(&self) -> Option<String> {
        owned(self.pam.getenv(VARIABLE)).filter(|handle| !handle.is_empty())
    }

    /// Removes the handle from the environment, so that neither the session nor a log shows it.
    pub fn remove_handle(&self) {
        if self.handle().is_some() {
            let _ = self.pam.putenv(VARIABLE);
        }
    }

    /// Sets a variable of the PAM environment. Returns whether that worked.
    pub fn export(&self, name: &str, value: &str) -> bool {
        self.pam.putenv(&format!("{name}={value}")).is_ok()
    }

    /// Notes that this module has accepted a login of `user` that has no record. The account phase runs in the same
    /// process (SSH-01, SSH-02).
    pub fn note_accepted(&self, user: &str) -> bool {
        self.pam.send_bytes(ACCEPTED, user.as_bytes().to_vec(), None).is_ok()
    }

    /// Whether this module has accepted a login of `user` that has no record. Another module can have changed PAM's
    /// user since.
    pub fn was_accepted(&self, user: &str) -> bool {
        !user.is_empty() && self.pam.retrieve_bytes(ACCEPTED).is_ok_and(|noted| noted == user.as_bytes())
    }

    /// Forgets what [`Self::note_accepted`] has noted.
    pub fn forget_accepted(&self) {
        if self.pam.retrieve_bytes(ACCEPTED).is_ok() {
            let _ = self.pam.send_bytes(ACCEPTED, Vec::new(), None);
        }
    }

    /// Stores the session in this process, for [`Self::session`].
    pub fn store_session(&self, session: &str) -> bool {
        self.pam.send_bytes(SESSION, session.as_bytes().to_vec(), None).is_ok()
    }

    /// The session that this process opened.
    pub fn session(&self) -> Option<String> {
        self.pam.retrieve_bytes(SESSION).ok().and_then(|bytes| String::from_utf8(bytes).ok())
    }

    /// Writes one line to the authentication log: `pam_mytoken(sshd:auth): ...`.
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
