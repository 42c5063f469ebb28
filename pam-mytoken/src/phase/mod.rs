// SPDX-License-Identifier: GPL-3.0-or-later
//! The hooks' work, one file each. All of it is deciding what to ask `mytoken_login` and where to put the answer.

mod account;
mod authenticate;
mod credentials;
mod revocation;
mod session;

use std::path::Path;

use mytoken::cache::DiskCache;
use mytoken::files::Owner;
use mytoken_login::budget::{self, LedgerFile};
use mytoken_login::handover::{self, Handover};
use nix::unistd::geteuid;

use crate::host::Host;

pub use account::account;
pub use authenticate::authenticate;
pub use credentials::{chauthtok, credentials};
pub use session::{close_session, open_session};

/// What is kept between logins; `None` for who is not root, and may neither fill it nor be believed by root later. Programs that their
/// caller can stop have one of their own.
fn cache(host: &Host<'_>) -> Option<DiskCache> {
    let make = if host.connection().is_some() { DiskCache::of_host } else { DiskCache::of_callers };
    geteuid().is_root().then(make)
}

/// The ledger of requests, in the same way.
fn ledger(host: &Host<'_>) -> Option<LedgerFile> {
    let directory = if host.connection().is_some() { budget::DIRECTORY } else { budget::LOCAL_DIRECTORY };
    geteuid().is_root().then(|| LedgerFile::new(Path::new(directory), Owner::ROOT))
}

/// Where the auth child leaves what the session needs.
fn handover() -> Handover {
    Handover::new(Path::new(handover::DIRECTORY), Owner::ROOT)
}
