// SPDX-License-Identifier: GPL-3.0-or-later
//! PAM entry points. Each runs one phase in `entry()` and returns one PAM code.

mod codes;
mod context;
mod conversation;
mod entry;
mod ffi;
mod hook;
mod phase;
mod wiping;

use pamsm::{Pam, PamError, PamFlags, PamServiceModule, pam_module};

use entry::entry;
use hook::Hook;
use wiping::Wiping;

/// Only for this module: the application and other modules have their own.
#[global_allocator]
static ALLOCATOR: Wiping<std::alloc::System> = Wiping(std::alloc::System);

struct Module;

impl PamServiceModule for Module {
    fn authenticate(pam: Pam, flags: PamFlags, args: Vec<String>) -> PamError {
        entry(Hook::Authenticate, &pam, flags, &args, phase::authenticate)
    }

    fn acct_mgmt(pam: Pam, flags: PamFlags, args: Vec<String>) -> PamError {
        entry(Hook::Account, &pam, flags, &args, phase::account)
    }

    fn setcred(pam: Pam, flags: PamFlags, args: Vec<String>) -> PamError {
        entry(Hook::Credentials, &pam, flags, &args, phase::credentials)
    }

    fn open_session(pam: Pam, flags: PamFlags, args: Vec<String>) -> PamError {
        entry(Hook::Session, &pam, flags, &args, phase::open_session)
    }

    fn close_session(pam: Pam, flags: PamFlags, args: Vec<String>) -> PamError {
        entry(Hook::Close, &pam, flags, &args, phase::close_session)
    }

    fn chauthtok(pam: Pam, flags: PamFlags, args: Vec<String>) -> PamError {
        entry(Hook::Password, &pam, flags, &args, phase::chauthtok)
    }
}

pam_module!(Module);
