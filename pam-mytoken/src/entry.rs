// SPDX-License-Identifier: GPL-3.0-or-later
//! Runs a hook: catches panics and logs unknown arguments.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Mutex;

use mytoken_login::{Level, ModuleArguments, escape_field};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use pamsm::{Pam, PamError, PamFlags};

use crate::codes::{self, LoginMethod};
use crate::context::PamContext;
use crate::hook::Hook;
use crate::wiping::wipe_traces;

/// Source location of the last panic. Never its message, which may hold anything.
static LOCATION: Mutex<Option<String>> = Mutex::new(None);

/// Runs `phase`. A panic ends here: unwinding into sshd would abort it, and since OpenSSH 9.8 a crash penalises the client's address
/// (SSH-12).
pub fn entry(
    hook: Hook,
    pam: &Pam,
    flags: PamFlags,
    args: &[String],
    phase: fn(&PamContext<'_>) -> PamError,
) -> PamError {
    let attributes = Attributes::of_process();
    // The default panic hook prints to the application's standard error; in su that is the user's terminal. The copy of std in this
    // module is its own, so the application's panic hook is not affected.
    let previous_hook = take_hook();
    set_hook(Box::new(|panic| {
        if let (Some(place), Ok(mut location)) = (panic.location(), LOCATION.try_lock()) {
            *location = Some(format!("{}:{}", place.file(), place.line()));
        }
    }));
    let result = catch_unwind(AssertUnwindSafe(|| {
        let context = PamContext::new(pam, flags, ModuleArguments::parse(args));
        // `panic=HOOK` of test builds is not one of the module's arguments.
        let injected = |argument: &str| cfg!(feature = "panic-injection") && argument.starts_with("panic=");
        for unknown in context.arguments.unknown.iter().filter(|argument| !injected(argument)) {
            context.log(Level::Error, &format!("unknown argument {}", escape_field(unknown)));
        }
        inject_panic(hook, args);
        let code = phase(&context);
        context.log(Level::Debug, &format!("{}: {code}", hook.name()));
        code
    }));
    let code = result.unwrap_or_else(|_| {
        let context = || PamContext::new(pam, flags, ModuleArguments::parse(&[]));
        let method = catch_unwind(AssertUnwindSafe(|| clean_up(hook, &context())));
        codes::after_panic(hook, method.unwrap_or(LoginMethod::Token))
    });
    drop(take_hook());
    set_hook(previous_hook);
    attributes.restore();
    wipe_traces();
    code
}

/// Attributes that the kernel takes from a process when a file is opened with a user's rights: setfsuid(2) clears both.
struct Attributes {
    dumpable: bool,
    parent_death_signal: Option<Signal>,
}

impl Attributes {
    fn of_process() -> Self {
        Self {
            // SAFETY: this only asks. nix does not tell 1 from 2, a core file for root only, which cannot be set.
            dumpable: unsafe { libc::prctl(libc::PR_GET_DUMPABLE) } == 1,
            parent_death_signal: prctl::get_pdeathsig().ok().flatten(),
        }
    }

    /// Gives the process only what it had: one that a set-user-ID program runs in must not become readable for its caller.
    fn restore(&self) {
        if self.dumpable {
            let _ = prctl::set_dumpable(true);
        }
        if self.parent_death_signal.is_some() {
            let _ = prctl::set_pdeathsig(self.parent_death_signal);
        }
    }
}

/// Logs where the panic was, and removes the handle. A handle shows that the login was by token.
fn clean_up(hook: Hook, context: &PamContext<'_>) -> LoginMethod {
    let location = LOCATION.lock().ok().and_then(|mut location| location.take());
    let location = location.unwrap_or_else(|| "an unknown place".to_owned());
    context.log(Level::Critical, &format!("internal error in {} at {location}", hook.name()));
    let method = if context.handle().is_some() { LoginMethod::Token } else { LoginMethod::Other };
    context.remove_handle();
    method
}

#[cfg(feature = "panic-injection")]
fn inject_panic(hook: Hook, args: &[String]) {
    #[expect(clippy::panic, reason = "the purpose of the feature")]
    if args.iter().any(|arg| arg.strip_prefix("panic=") == Some(hook.name())) {
        panic!("injected");
    }
}

#[cfg(not(feature = "panic-injection"))]
fn inject_panic(_: Hook, _: &[String]) {}
