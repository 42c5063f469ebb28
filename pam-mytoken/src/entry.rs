// SPDX-License-Identifier: GPL-3.0-or-later
//! What every hook does around its work: no panic reaches C, nothing is printed, unknown arguments are told.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Mutex;

use mytoken_login::Level;
use pamsm::{Pam, PamError, PamFlags};

use crate::arguments::Arguments;
use crate::codes;
use crate::host::Host;

/// PAM's six hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// `pam_sm_authenticate`
    Authenticate,
    /// `pam_sm_acct_mgmt`
    Account,
    /// `pam_sm_setcred`
    Credentials,
    /// `pam_sm_open_session`
    Session,
    /// `pam_sm_close_session`
    Close,
    /// `pam_sm_chauthtok`
    Password,
}

impl Hook {
    /// For the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Account => "account",
            Self::Credentials => "credentials",
            Self::Session => "session",
            Self::Close => "close",
            Self::Password => "password",
        }
    }
}

/// Where the last panic was. Never its text: that may hold anything.
static LOCATION: Mutex<Option<String>> = Mutex::new(None);

/// Runs `work`. A panic ends here: unwinding into sshd would abort it, and since OpenSSH 9.8 a crash bans the client's address (SSH-12).
pub fn entry(hook: Hook, pam: &Pam, flags: PamFlags, args: &[String], work: fn(&Host<'_>) -> PamError) -> PamError {
    // The default hook prints to the host's standard error, in su that is the user's terminal. The copy of std in this module is
    // its own, so the host's hook is not concerned.
    let former = take_hook();
    set_hook(Box::new(|panic| {
        if let (Some(place), Ok(mut location)) = (panic.location(), LOCATION.try_lock()) {
            *location = Some(format!("{}:{}", place.file(), place.line()));
        }
    }));
    let result = catch_unwind(AssertUnwindSafe(|| {
        let host = Host::new(pam, flags, Arguments::parse(args));
        for unknown in &host.arguments.unknown {
            host.log(Level::Error, &format!("unknown argument {}", mytoken_login::field(unknown)));
        }
        inject_panic(hook, &host.arguments);
        let code = work(&host);
        host.log(Level::Debug, &format!("{}: {code}", hook.name()));
        code
    }));
    let code = result.unwrap_or_else(|_| {
        let ours = catch_unwind(AssertUnwindSafe(|| told(hook, &Host::new(pam, flags, Arguments::parse(&[])))));
        codes::after_panic(hook, ours.unwrap_or(true))
    });
    drop(take_hook());
    set_hook(former);
    code
}

/// Logs where a panic was, takes the handle away, and says whether there was one.
fn told(hook: Hook, host: &Host<'_>) -> bool {
    let place = LOCATION.lock().ok().and_then(|mut location| location.take());
    let place = place.unwrap_or_else(|| "an unknown place".to_owned());
    host.log(Level::Critical, &format!("a defect in pam_mytoken was met in {} at {place}", hook.name()));
    let ours = host.handle().is_some();
    host.forget_handle();
    ours
}

#[cfg(feature = "panic-injection")]
fn inject_panic(hook: Hook, arguments: &Arguments) {
    #[expect(clippy::panic, reason = "that is what the feature is for")]
    if arguments.panic.as_deref() == Some(hook.name()) {
        panic!("injected");
    }
}

#[cfg(not(feature = "panic-injection"))]
fn inject_panic(_: Hook, _: &Arguments) {}
